#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/nn/linear.h"
#include "mmkd/pipeline/cached_outputs.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/report/progress.h"
#include "mmkd/train/loader.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

/// The unit of computing and storing: what is in a block does not depend on the number of ranks, so neither do the
/// bytes.
constexpr std::int64_t kBlockRows = 64;

/// Rows [first, first + count) of the cache: samples and their views.
BatchPlan plan_of(const TeacherCacheLayout& layout, bool augmented, std::int64_t first, std::int64_t count) {
  const std::int64_t samples = layout.rows / layout.views;
  BatchPlan plan{.rows = {}, .shares = {.global_count = count, .world = 1}};
  for (std::int64_t row = first; row < first + count; ++row) {
    plan.rows.push_back(row % samples);
    if (augmented) plan.views.push_back(row / samples);
  }
  return plan;
}

/// One computed block as bytes for rank 0: keys, then values.
std::string computed_block(const World& world, MultimodalModel& teacher, Batch inputs, Precision precision) {
  const Batch batch = to_device(std::move(inputs), world.device());
  ModelOutput output;
  {
    const AutocastGuard autocast(world.device().type(), precision);
    output = teacher.forward(batch.teacher, {});
  }
  const at::Tensor values =
      join_rows({output.img_raw, output.txt_raw, output.img_proj, output.txt_proj, output.logits});
  const at::Tensor keys = batch.sample_keys.contiguous();
  std::string bytes(static_cast<std::size_t>(keys.nbytes() + values.nbytes()), '\0');
  std::memcpy(bytes.data(), keys.const_data_ptr(), keys.nbytes());
  std::memcpy(bytes.data() + keys.nbytes(), values.const_data_ptr(), values.nbytes());
  return bytes;
}

void store_block(TeacherCacheJournal& journal, std::int64_t block, const std::string& bytes) {
  const auto rows = static_cast<std::size_t>(journal.rows_of(block));
  std::vector<std::uint64_t> keys(rows);
  std::vector<float> values((bytes.size() - rows * sizeof(std::uint64_t)) / sizeof(float));
  std::memcpy(keys.data(), bytes.data(), rows * sizeof(std::uint64_t));
  std::memcpy(values.data(), bytes.data() + rows * sizeof(std::uint64_t), values.size() * sizeof(float));
  journal.add(block, keys, values);
}

/// Collective. The blocks that are not in the journal yet.
std::vector<std::int64_t> missing_blocks(const World& world, const TeacherCacheJournal* journal) {
  const auto text = from_rank_zero(world.mpi(), [&] {
    nlohmann::json blocks = nlohmann::json::array();
    for (std::int64_t block = 0; block < journal->blocks(); ++block) {
      if (!journal->has(block)) blocks.push_back(block);
    }
    return blocks.dump();
  });
  return nlohmann::json::parse(text).get<std::vector<std::int64_t>>();
}

}  // namespace

TeacherCacheLayout cache_layout(const Job& job, std::size_t teacher) {
  const auto& source = job.teachers.at(teacher);
  const auto widths = source.widths();
  const std::int64_t views = std::max<std::int64_t>(1, job.config.augment.views);
  TeacherCacheLayout layout{.rows = job.packed.counts[0] * views,
                            .views = views,
                            .img_raw = widths.vision,
                            .txt_raw = widths.text,
                            .proj = source.spec.fusion.dim,
                            .classes = {},
                            .features = job.config.cache.features,
                            .pack_key = job.plan.data[0].key(),
                            .teacher_key = job.plan.teachers.at(teacher).key()};
  for (const auto& task : job.packed.tasks) layout.classes.push_back(static_cast<std::int64_t>(task.classes.size()));
  return layout;
}

StageArtifact cache_stage(Job& job, std::size_t number, const Finished& finished) {
  const auto& inputs = job.plan.caches.at(number);
  const auto& mpi = job.world.mpi();
  const auto& teacher_source = job.teachers.at(number);
  const auto teacher = load_trained(job, teacher_source, finished.teachers.at(number));
  const PackedSplit train(job.packed, Split::train, job.config.data.verify_on_read);
  const PackedSource source(train);
  AssemblerOptions options;
  options.teacher = input_of(job, teacher_source);
  options.augment = job.config.augment;
  options.seed = static_cast<std::uint64_t>(job.config.training.seed);
  const BatchAssembler assembler(source, options);
  const bool augmented = job.config.augment.views > 0;

  const auto layout = cache_layout(job, number);
  std::optional<TeacherCacheJournal> journal;
  on_rank_zero(mpi, [&] { journal.emplace(job.store.work_folder(inputs) / "blocks.journal", layout, kBlockRows); });
  const auto missing = missing_blocks(job.world, journal ? &*journal : nullptr);
  std::optional<Progress> progress;
  if (mpi.rank() == 0)
    progress.emplace(stderr, is_terminal(stderr), "cache", static_cast<std::int64_t>(missing.size()), mpi.size());

  const at::NoGradGuard no_grad;
  const nn::ConstantWeights constant;
  const auto world = static_cast<std::size_t>(mpi.size());
  std::vector<BatchPlan> plans;  // of this rank
  for (auto i = static_cast<std::size_t>(mpi.rank()); i < missing.size(); i += world) {
    const std::int64_t first = missing[i] * kBlockRows;
    plans.push_back(plan_of(layout, augmented, first, std::min(kBlockRows, layout.rows - first)));
  }
  BatchLoader loader(assembler, std::move(plans), {.num_workers = job.config.data.num_workers});
  for (std::size_t round = 0; round < missing.size(); round += world) {
    const std::size_t mine = round + static_cast<std::size_t>(mpi.rank());
    std::string bytes;
    on_all_ranks(mpi, [&] {
      if (mine < missing.size())
        bytes = computed_block(job.world, *teacher, loader.next().value(), job.config.training.precision);
    });
    const auto blocks = mpi.gather(bytes, 0);
    on_rank_zero(mpi, [&] {
      for (std::size_t rank = 0; rank < blocks.size() && round + rank < missing.size(); ++rank) {
        store_block(*journal, missing[round + rank], blocks[rank]);
      }
      const auto done = static_cast<std::int64_t>(std::min(round + world, missing.size()));
      progress->update(done, done * kBlockRows);
      activity().tell(fmt::format("cache {}/{} blocks", done, missing.size()));
      activity().tick(done);
    });
    if (mpi.any(stop_requested().has_value())) {
      throw CollectiveError(
          ExitCode::interrupted,
          "stopped by a signal while the teacher's outputs were computed; the blocks that are done are kept");
    }
  }
  auto artifact =
      commit(job, inputs, finished, [&](const fs::path& folder) { journal->assemble(folder / kTeacherCacheFile); });
  return artifact;
}

}  // namespace mmkd
