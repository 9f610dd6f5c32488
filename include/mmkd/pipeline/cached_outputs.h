#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "mmkd/data/packed.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// One finished teacher cache and what it must hold.
struct CacheFile {
  std::filesystem::path file;
  TeacherCacheLayout layout;
};

/// Rows of finished teacher caches as batch tensors, checked against the samples that they belong to. Of several
/// teachers: joined().
class CachedOutputs final : public TeacherOutputSource {
 public:
  /// Throws Error unless the caches have exactly these layouts. `train` gives the sample keys.
  CachedOutputs(const std::vector<CacheFile>& caches, const PackedSplit& train);
  TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const override;

 private:
  std::vector<TeacherCache> caches_;
  std::vector<std::uint64_t> keys_;
};

/// A row's numbers as tensors, and back: the order of TeacherCacheLayout.
TeacherOutputs split_rows(const at::Tensor& values, const TeacherCacheLayout& layout);  // [B, floats_per_row]
at::Tensor join_rows(const TeacherOutputs& outputs);                                    // float32 on the CPU

}  // namespace mmkd
