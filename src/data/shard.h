#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "manifest.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hdf5.h"
#include "mmkd/base/mapped_file.h"
#include "mmkd/data/packed.h"

namespace mmkd {

/// What all shards of a packed set share.
struct ShardSchema {
  std::vector<ImageStream> images;
  std::size_t token_streams = 0, tasks = 0;
  std::string split, key;
};

/// Builds a shard in a temporary beside it. Pictures go to the file as they are put, so that a shard need not fit into
/// memory. Equal records give equal bytes, whatever their order.
class ShardWriter {
 public:
  /// Creates the folder and the temporary. Errors name the shard.
  ShardWriter(std::filesystem::path path, ShardSchema schema, std::int64_t index, std::int64_t count);
  ~ShardWriter();  ///< removes the temporary unless committed
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;
  /// Each row once; from any thread, rows of several threads at a time. Only the pictures of the record's streams are
  /// kept by their bytes; its key is computed again by readers.
  void put(std::int64_t row, const Record& record);
  /// Once every row was put: writes the tables, flushes the file and renames it. From any thread.
  void commit();

 private:
  void write_tables();
  std::filesystem::path path_, temporary_;
  ShardSchema schema_;
  std::int64_t count_;
  h5::File file_;
  std::optional<PlacedWriter> pictures_;        // the same file
  std::vector<std::uint64_t> picture_offsets_;  // of each image stream in the file
  std::vector<std::string> ids_;
  std::vector<std::int32_t> labels_;                            // [count, tasks]
  std::vector<std::vector<std::vector<std::int32_t>>> tokens_;  // by token stream, by row
  std::vector<std::uint64_t> checksums_;
};

/// The manifest's entry of a written shard.
ShardEntry describe_shard(const std::filesystem::path& path, std::int64_t count);

/// XXH3 of each part of a record.
struct RecordParts {
  std::uint64_t id = 0, labels = 0;
  std::array<std::uint64_t, 2> pixels{}, tokens{};
};
RecordParts checksum_parts(const Record& record);

/// One shard, mapped; all but the pictures is checked on opening.
class Shard {
 public:
  Shard(const std::filesystem::path& folder, const ShardEntry& entry, const ShardSchema& schema, std::int64_t index);
  std::int64_t size() const { return count_; }
  Record get(std::int64_t i) const;
  /// Does the record fit its checksum?
  bool is_whole(std::int64_t i) const;
  /// Throws Error naming shard, record and id unless the record's checksum fits.
  RecordParts verify(std::int64_t i) const;
  std::int64_t length(std::int64_t i, int token_stream) const;
  const std::string& name() const { return name_; }
  /// See MappedFile.
  void let_pages_go() const { file_.let_pages_go(); }

 private:
  bool fits(std::int64_t i, const RecordParts& parts) const;
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

}  // namespace mmkd
