#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mmkd/config/config.h"

// The teacher's outputs for every training sample, each computed once (docs/formats/teacher_cache.md).
namespace mmkd {

/// What one row holds, in this order: img_raw, txt_raw, img_proj, txt_proj, then the logits of each task.
struct TeacherCacheLayout {
  std::int64_t rows = 0;     ///< samples of the train split × views; row v · samples + i is view v of sample i
  std::int64_t views = 1;    ///< augmented views of each picture; 1 also for pictures as they are
  std::int64_t img_raw = 0;  ///< widths
  std::int64_t txt_raw = 0;
  std::int64_t proj = 0;                         ///< of img_proj and of txt_proj
  std::vector<std::int64_t> classes;             ///< of each task
  CacheFeatures features = CacheFeatures::fp32;  ///< stored type of the four features; logits are float32
  std::string pack_key, teacher_key;             ///< stage keys of what it was computed from
  std::int64_t floats_per_row() const;
  bool operator==(const TeacherCacheLayout&) const = default;
};

/// Blocks of consecutive rows, appended to a journal as they are computed, in any order: a build that was killed goes
/// on with the blocks that are missing. Each block carries a checksum; a torn end is cut off on opening. One writer.
class TeacherCacheJournal {
 public:
  /// Opens or creates `file`. A journal of another layout or block size is thrown away.
  TeacherCacheJournal(std::filesystem::path file, const TeacherCacheLayout& layout, std::int64_t block_rows);
  ~TeacherCacheJournal();
  TeacherCacheJournal(const TeacherCacheJournal&) = delete;
  TeacherCacheJournal& operator=(const TeacherCacheJournal&) = delete;

  std::int64_t blocks() const;
  std::int64_t rows_of(std::int64_t block) const;
  bool has(std::int64_t block) const;
  /// keys: [rows] sample keys; values: [rows, floats_per_row]. On disk when it returns. Throws Error for a block that
  /// is there already, wrong sizes, values that are not finite (naming the row), and write errors.
  void add(std::int64_t block, std::span<const std::uint64_t> keys, std::span<const float> values);
  /// Writes the cache file from all blocks; throws Error naming how many are missing.
  void assemble(const std::filesystem::path& cache_file) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A finished cache, memory-mapped. Thread-safe for reading.
class TeacherCache {
 public:
  /// Throws Error if the file is missing, damaged, of another version, or has not exactly the expected layout.
  TeacherCache(const std::filesystem::path& file, const TeacherCacheLayout& expected);
  ~TeacherCache();
  TeacherCache(TeacherCache&&) noexcept;
  const TeacherCacheLayout& layout() const;
  /// Copies row `i` to `values` ([floats_per_row]). Throws Error if its checksum does not fit, or if the row belongs to
  /// another sample than `sample_key`.
  void read(std::int64_t i, std::uint64_t sample_key, std::span<float> values) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmkd
