#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "manifest.h"
#include "mmkd/base/mapped_file.h"
#include "mmkd/data/packed.h"

namespace mmkd {

/// The records of one shard in memory, before they are written.
struct ShardData {
  std::vector<std::string> ids;
  std::vector<std::int32_t> labels;                            ///< [n, tasks]
  std::vector<std::vector<std::uint8_t>> pixels;               ///< by image stream: [n, height, width, 3]
  std::vector<std::vector<std::vector<std::int32_t>>> tokens;  ///< by token stream, by sample
};

/// What all shards of a packed set share.
struct ShardSchema {
  std::vector<ImageStream> images;
  std::size_t token_streams = 0, tasks = 0;
  std::string split, key;
};

/// Writes a shard aside, flushes it and renames it. Equal data gives equal bytes.
void write_shard(const std::filesystem::path& path, const ShardSchema& schema, std::int64_t index,
                 const ShardData& data);

/// The manifest's entry of a written shard.
ShardEntry describe_shard(const std::filesystem::path& path, std::int64_t count);

/// One shard, mapped; all but the pictures is checked on opening.
class Shard {
 public:
  Shard(const std::filesystem::path& folder, const ShardEntry& entry, const ShardSchema& schema, std::int64_t index);
  std::int64_t size() const { return count_; }
  Record get(std::int64_t i) const;
  /// Does the record fit its checksum?
  bool is_whole(std::int64_t i) const;
  /// Throws Error naming shard, record and id unless the record's checksum fits.
  void verify(std::int64_t i) const;
  std::int64_t length(std::int64_t i, int token_stream) const;
  const std::string& name() const { return name_; }
  /// See MappedFile.
  void let_pages_go() const { file_.let_pages_go(); }

 private:
  std::string name_;
  std::int64_t count_ = 0;
  std::size_t tasks_ = 0;
  MappedFile file_;
  struct Pictures {
    const std::uint8_t* data = nullptr;
    std::size_t bytes = 0;  // of one picture
  };
  struct Tokens {
    const std::int32_t* values = nullptr;
    const std::int64_t* offsets = nullptr;
  };
  std::vector<Pictures> pictures_;
  std::vector<Tokens> tokens_;
  const std::int32_t* labels_ = nullptr;
  const char* ids_ = nullptr;
  const std::int64_t* id_offsets_ = nullptr;
  const std::uint64_t* checksums_ = nullptr;
};

ShardSchema schema_of(const PackedInfo& info, Split split);

/// XXH3 over the checksums of a record's parts: id, labels, pictures, tokens.
std::uint64_t record_checksum(const Record& record, std::size_t image_streams, std::size_t token_streams);

}  // namespace mmkd
