#pragma once
#include <cstdint>
#include <filesystem>
#include <vector>

#include "mmkd/data/teacher_cache.h"
#include "mmkd/pipeline/cached_outputs.h"
#include "mmkd/train/batch.h"

// What measurements read instead of a data set.
namespace mmkd::bench {

/// The samples of another source over and over, so that an epoch, with its checkpoint and its evaluation, never ends
/// within a window.
class RepeatedSource final : public SampleSource {
 public:
  /// `source` is borrowed. Holds `samples` at least.
  RepeatedSource(const SampleSource& source, std::int64_t samples)
      : source_(source), copies_((samples + source.size() - 1) / source.size()) {}
  std::int64_t size() const override { return copies_ * source_.size(); }
  Record get(std::int64_t i) const override { return source_.get(i % source_.size()); }

 private:
  const SampleSource& source_;
  std::int64_t copies_;
};

/// Teacher outputs for the rows of a RepeatedSource.
class RepeatedOutputs final : public TeacherOutputSource {
 public:
  /// `outputs` is borrowed; it has `samples` rows.
  RepeatedOutputs(const TeacherOutputSource& outputs, std::int64_t samples) : outputs_(outputs), samples_(samples) {}
  TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const override;

 private:
  const TeacherOutputSource& outputs_;
  std::int64_t samples_;
};

/// Random pictures with texts of one length, in memory: what a step costs without reading and without padding.
class SyntheticSource final : public SampleSource {
 public:
  SyntheticSource(const PackedInfo& like, std::int64_t samples, std::int64_t tokens);
  std::int64_t size() const override { return static_cast<std::int64_t>(labels_.size()); }
  Record get(std::int64_t i) const override;

 private:
  std::vector<std::vector<std::uint8_t>> pixels_;
  std::vector<std::vector<std::int32_t>> tokens_, labels_;
};

/// A teacher cache of this layout with made-up values for the samples of `source`, which timing a cached step needs no
/// teacher for.
void write_made_up_cache(const std::filesystem::path& file, const TeacherCacheLayout& layout,
                         const SampleSource& source);

/// One block of made-up rows in a journal of such a cache.
void add_made_up_block(TeacherCacheJournal& journal, std::int64_t block, std::int64_t block_rows,
                       const TeacherCacheLayout& layout, const SampleSource& source);

/// Made-up outputs for any row number, in memory.
class MadeUpOutputs final : public TeacherOutputSource {
 public:
  MadeUpOutputs(const TeacherCacheLayout& layout, std::int64_t samples);
  TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const override;

 private:
  TeacherCacheLayout layout_;
  at::Tensor values_;  // [samples, floats_per_row]
};

}  // namespace mmkd::bench
