#pragma once
#include <filesystem>
#include <span>

#include "mmkd/data/packed.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// Rows of a finished teacher cache as batch tensors, checked against the samples that they belong to.
class CachedOutputs final : public TeacherOutputSource {
 public:
  /// Throws Error unless the cache has exactly this layout. `train` gives the sample keys.
  CachedOutputs(const std::filesystem::path& cache_file, const TeacherCacheLayout& layout, const PackedSplit& train);
  TeacherOutputs rows(std::span<const std::int64_t> rows) const override;

 private:
  TeacherCache cache_;
  std::vector<std::uint64_t> keys_;
};

/// A row's numbers as tensors, and back: the order of TeacherCacheLayout.
TeacherOutputs split_rows(const at::Tensor& values, const TeacherCacheLayout& layout);  // [B, floats_per_row]
at::Tensor join_rows(const TeacherOutputs& outputs);                                    // float32 on the CPU

}  // namespace mmkd
