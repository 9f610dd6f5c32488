#include "mmkd/pipeline/cached_outputs.h"

#include "mmkd/base/error.h"

namespace mmkd {

CachedOutputs::CachedOutputs(const std::filesystem::path& cache_file, const TeacherCacheLayout& layout,
                             const PackedSplit& train)
    : cache_(cache_file, layout) {
  if (train.size() != layout.rows)
    throw Error("{}: {} rows for {} training samples", cache_file.string(), layout.rows, train.size());
  keys_.reserve(static_cast<std::size_t>(train.size()));
  for (std::int64_t i = 0; i < train.size(); ++i) keys_.push_back(train.get(i).sample_key);
}

TeacherOutputs CachedOutputs::rows(std::span<const std::int64_t> rows) const {
  const auto width = static_cast<std::size_t>(cache_.layout().floats_per_row());
  const at::Tensor values =
      at::empty({static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(width)}, at::kFloat);
  auto* data = values.mutable_data_ptr<float>();
  for (const auto row : rows) {
    cache_.read(row, keys_.at(static_cast<std::size_t>(row)), {data, width});
    data += width;
  }
  return split_rows(values, cache_.layout());
}

TeacherOutputs split_rows(const at::Tensor& values, const TeacherCacheLayout& layout) {
  std::vector<std::int64_t> widths{layout.img_raw, layout.txt_raw, layout.proj, layout.proj};
  widths.insert(widths.end(), layout.classes.begin(), layout.classes.end());
  auto parts = at::split_with_sizes(values, widths, 1);
  return {parts[0], parts[1], parts[2], parts[3], {parts.begin() + 4, parts.end()}};
}

at::Tensor join_rows(const TeacherOutputs& outputs) {
  std::vector<at::Tensor> parts{outputs.img_raw, outputs.txt_raw, outputs.img_proj, outputs.txt_proj};
  parts.insert(parts.end(), outputs.logits.begin(), outputs.logits.end());
  for (auto& part : parts) part = part.to(at::kCPU, at::kFloat);
  return at::cat(parts, 1).contiguous();
}

}  // namespace mmkd
