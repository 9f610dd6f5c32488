#include "mmkd/pipeline/cached_outputs.h"

#include "mmkd/base/error.h"

namespace mmkd {

CachedOutputs::CachedOutputs(const std::vector<CacheFile>& caches, const PackedSplit& train) {
  for (const auto& [file, layout] : caches) {
    if (train.size() * layout.views != layout.rows)
      throw Error("{}: {} rows for {} views of {} training samples", file.string(), layout.rows, layout.views,
                  train.size());
    caches_.emplace_back(file, layout);
  }
  keys_.reserve(static_cast<std::size_t>(train.size()));
  for (std::int64_t i = 0; i < train.size(); ++i) keys_.push_back(train.get(i).sample_key);
}

TeacherOutputs CachedOutputs::rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const {
  const auto samples = static_cast<std::int64_t>(keys_.size());
  std::vector<TeacherOutputs> outputs;
  for (const auto& cache : caches_) {
    const std::int64_t width = cache.layout().floats_per_row();
    const at::Tensor values = at::empty({static_cast<std::int64_t>(rows.size()), width}, at::kFloat);
    auto* data = values.mutable_data_ptr<float>();
    for (std::size_t i = 0; i < rows.size(); ++i, data += width) {
      const std::int64_t view = views.empty() ? 0 : views[i];
      cache.read(view * samples + rows[i], keys_.at(static_cast<std::size_t>(rows[i])),
                 {data, static_cast<std::size_t>(width)});
    }
    outputs.push_back(split_rows(values, cache.layout()));
  }
  return joined(std::move(outputs));
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
