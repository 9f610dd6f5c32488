#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmkd/data/sample.h"
#include "mmkd/image/image.h"

// Packed data sets: a manifest over HDF5 shards (docs/formats/shard.md).
namespace mmkd {

/// One stored image stream: pictures of one size, made by one policy.
struct ImageStream {
  std::int64_t height = 0, width = 0;
  std::string pixel_key;  ///< ImagePolicy::pixel_key() of the policy that made it
};

/// One stored token stream: texts encoded by one tokenizer.
struct TokenStream {
  std::string tokenizer_digest;
  std::int64_t vocab_size = 0;
  std::int32_t pad_id = 0;
  std::int64_t max_length = 0;
};

struct PackedTask {
  std::string label;                 ///< display name
  std::vector<std::string> classes;  ///< sorted; a label is an index into this list
};

/// A stored record that does not fit its checksum.
struct DamagedRecord {
  Split split = Split::train;
  std::string shard;        ///< file inside the folder
  std::int64_t record = 0;  ///< in the shard
  std::int64_t sample = 0;  ///< of the split as it is stored
  std::string id;           ///< of the sample; ids have a checksum of their own
};

/// What manifest.json says about the whole set.
struct PackedInfo {
  std::filesystem::path folder;
  std::string key;     ///< stage key
  std::string digest;  ///< SHA-256 over everything stored
  std::vector<PackedTask> tasks;
  std::vector<ImageStream> image_streams;  ///< 1 or 2
  std::vector<TokenStream> token_streams;  ///< 1 or 2
  std::array<int, 2> image_stream_of{};    ///< [teacher, student] -> index
  std::array<int, 2> token_stream_of{};    ///< [teacher, student] -> index
  std::array<ImagePolicy, 2> policies;     ///< [teacher, student]: how stored bytes become network input
  std::array<std::int64_t, 3> counts{};    ///< samples of train, dev, test
  /// [teacher, student]: what stands for the data as that model sees it. The key is a function of the sources and
  /// settings that decide it, the content of what was stored; the other model's pictures and tokens count in neither,
  /// so that a teacher serves students with other ones.
  std::array<std::string, 2> input_keys, input_contents;
  /// Left out of their splits: counts, keys and contents above are those without them. Empty in what was read from a
  /// manifest (without_damaged_records()).
  std::vector<DamagedRecord> left_out;
};

/// Views into one record; valid as long as the PackedSplit lives.
struct Record {
  std::string_view id;
  std::uint64_t sample_key = 0;  ///< 64-bit hash of the id: what keyed randomness and the teacher cache use
  std::array<std::span<const std::uint8_t>, 2> pixels;  ///< by image stream: [height, width, 3] RGB
  std::array<std::span<const std::int32_t>, 2> tokens;  ///< by token stream: [length]
  std::span<const std::int32_t> labels;                 ///< [tasks]
};

/// Reads manifest.json; throws Error if it is missing, malformed, of another version, or fails its own checksum.
PackedInfo read_packed_info(const std::filesystem::path& folder);

/// Every record that does not fit its checksum, in the order of splits and samples. Reads the shards whose number, over
/// all splits, is `part` modulo `parts`. Throws Error for damage outside records: a shard's tables or its size.
std::vector<DamagedRecord> damaged_records(const PackedInfo& info, int part = 0, int parts = 1);

/// The set without these records (data.on_bad_record: quarantine). Counts shrink, and the input keys and contents are
/// others, so that nothing that was made from the whole set is taken for what this one gives. Throws Error where a
/// split would be emptied.
PackedInfo without_records(PackedInfo info, std::vector<DamagedRecord> records);

/// One split of a packed set, without what is left out of it, memory-mapped. Thread-safe for reading.
class PackedSplit {
 public:
  /// Opens every shard of the split and checks sizes, counts and header checksums against the manifest.
  PackedSplit(const PackedInfo& info, Split split, bool verify_on_read);
  ~PackedSplit();
  PackedSplit(PackedSplit&&) noexcept;
  std::int64_t size() const;
  /// Sample `i` of those that are not left out; with verify_on_read its checksum is computed first, and Error names
  /// shard, record and id if it differs.
  Record get(std::int64_t i) const;
  /// Token count of sample `i` in a stream, without touching the record.
  std::int64_t length(std::int64_t i, int token_stream) const;
  const PackedInfo& info() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmkd
