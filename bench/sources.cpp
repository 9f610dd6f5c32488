#include "bench/sources.h"

#include "mmkd/base/rng.h"

namespace mmkd::bench {
namespace {

/// Normally distributed enough for timing, and the same in every run: [rows, width].
at::Tensor made_up_values(std::int64_t first, std::int64_t rows, std::int64_t width) {
  const at::Tensor phase = at::arange(first * width, (first + rows) * width, at::kDouble);
  return at::sin(phase * 12.9898).to(at::kFloat).view({rows, width});
}

}  // namespace

TeacherOutputs RepeatedOutputs::rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const {
  std::vector<std::int64_t> of_data;
  of_data.reserve(rows.size());
  for (const auto row : rows) of_data.push_back(row % samples_);
  return outputs_.rows(of_data, views);
}

SyntheticSource::SyntheticSource(const PackedInfo& like, std::int64_t samples, std::int64_t tokens) {
  const auto& image = like.image_streams.at(static_cast<std::size_t>(like.image_stream_of[1]));
  for (std::int64_t i = 0; i < samples; ++i) {
    const auto key = static_cast<std::uint64_t>(i);
    auto& pixels = pixels_.emplace_back(static_cast<std::size_t>(3 * image.height * image.width));
    for (std::size_t k = 0; k < pixels.size(); ++k)
      pixels[k] = static_cast<std::uint8_t>(mix64(combine_keys({key, k})));
    auto& ids = tokens_.emplace_back(static_cast<std::size_t>(tokens));
    for (std::size_t k = 0; k < ids.size(); ++k) {
      constexpr std::uint64_t kFirstWord = 1000, kWords = 29000;  // of the uncased vocabulary, past what is special
      ids[k] = static_cast<std::int32_t>(kFirstWord + mix64(combine_keys({~key, k})) % kWords);
    }
    auto& labels = labels_.emplace_back();
    for (const auto& task : like.tasks)
      labels.push_back(static_cast<std::int32_t>(i % static_cast<std::int64_t>(task.classes.size())));
  }
}

Record SyntheticSource::get(std::int64_t i) const {
  const auto k = static_cast<std::size_t>(i);
  return {.id = "synthetic",
          .sample_key = static_cast<std::uint64_t>(i),
          .pixels = {pixels_[k], pixels_[k]},
          .tokens = {tokens_[k], tokens_[k]},
          .labels = labels_[k]};
}

void add_made_up_block(TeacherCacheJournal& journal, std::int64_t block, std::int64_t block_rows,
                       const TeacherCacheLayout& layout, const SampleSource& source) {
  const std::int64_t rows = journal.rows_of(block);
  std::vector<std::uint64_t> keys;
  for (std::int64_t i = 0; i < rows; ++i) keys.push_back(source.get(block * block_rows + i).sample_key);
  const at::Tensor values = made_up_values(block * block_rows, rows, layout.floats_per_row());
  journal.add(block, keys, {values.const_data_ptr<float>(), static_cast<std::size_t>(values.numel())});
}

void write_made_up_cache(const std::filesystem::path& file, const TeacherCacheLayout& layout,
                         const SampleSource& source) {
  TeacherCacheJournal journal(file.string() + ".journal", layout, layout.rows);
  add_made_up_block(journal, 0, layout.rows, layout, source);
  journal.assemble(file);
}

MadeUpOutputs::MadeUpOutputs(const TeacherCacheLayout& layout, std::int64_t samples)
    : layout_(layout), values_(made_up_values(0, samples, layout.floats_per_row())) {}

TeacherOutputs MadeUpOutputs::rows(std::span<const std::int64_t> rows, std::span<const std::int64_t>) const {
  const at::Tensor index = at::tensor(at::ArrayRef<std::int64_t>(rows.data(), rows.size()), at::kLong);
  return split_rows(values_.index_select(0, index), layout_);
}

}  // namespace mmkd::bench
