#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/agree.h"
#include "mmkd/data/teacher_cache.h"
#include "mmkd/pipeline/cached_outputs.h"
#include "mmkd/pipeline/job.h"
#include "mmkd/report/progress.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

/// The unit of computing and storing: what is in a block does not depend on the number of ranks, so neither do the
/// bytes.
constexpr std::int64_t kBlockRows = 64;

/// One computed block as bytes for rank 0: keys, then values.
std::string computed_block(const World& world, MultimodalModel& teacher, const BatchAssembler& assembler,
                           std::int64_t first, std::int64_t count, Precision precision) {
  BatchPlan plan{.rows = {}, .shares = {.global_count = count, .world = 1}};
  for (std::int64_t i = 0; i < count; ++i) plan.rows.push_back(first + i);
  const Batch batch = to_device(assembler.assemble(plan), world.device());
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

TeacherCacheLayout cache_layout(const Job& job) {
  const auto widths = job.teacher->widths();
  TeacherCacheLayout layout{.rows = job.packed.counts[0],
                            .img_raw = widths.vision,
                            .txt_raw = widths.text,
                            .proj = job.teacher->spec.fusion.dim,
                            .classes = {},
                            .features = job.config.cache.features,
                            .pack_key = job.plan.pack.key(),
                            .teacher_key = job.plan.teacher->key()};
  for (const auto& task : job.packed.tasks) layout.classes.push_back(static_cast<std::int64_t>(task.classes.size()));
  return layout;
}

StageArtifact cache_stage(Job& job, const StageArtifact& pack, const StageArtifact& teacher_artifact) {
  const auto& inputs = *job.plan.cache;
  const auto& mpi = job.world.mpi();
  const auto teacher = load_trained(job, Role::teacher, teacher_artifact);
  teacher->eval();
  const PackedSplit train(job.packed, Split::train, job.config.data.verify_on_read);
  const PackedSource source(train);
  AssemblerOptions options;
  options.teacher = job.inputs[0];
  const BatchAssembler assembler(source, options);

  const auto layout = cache_layout(job);
  std::optional<TeacherCacheJournal> journal;
  on_rank_zero(mpi, [&] { journal.emplace(job.store.work_folder(inputs) / "blocks.journal", layout, kBlockRows); });
  const auto missing = missing_blocks(job.world, journal ? &*journal : nullptr);
  std::optional<Progress> progress;
  if (mpi.rank() == 0)
    progress.emplace(stderr, is_terminal(stderr), "cache", static_cast<std::int64_t>(missing.size()));

  const at::NoGradGuard no_grad;
  const auto world = static_cast<std::size_t>(mpi.size());
  for (std::size_t round = 0; round < missing.size(); round += world) {
    const std::size_t mine = round + static_cast<std::size_t>(mpi.rank());
    std::string bytes;
    on_all_ranks(mpi, [&] {
      if (mine >= missing.size()) return;
      const std::int64_t first = missing[mine] * kBlockRows;
      bytes = computed_block(job.world, *teacher, assembler, first, std::min(kBlockRows, layout.rows - first),
                             job.config.training.precision);
    });
    const auto blocks = mpi.gather(bytes, 0);
    on_rank_zero(mpi, [&] {
      for (std::size_t rank = 0; rank < blocks.size() && round + rank < missing.size(); ++rank) {
        store_block(*journal, missing[round + rank], blocks[rank]);
      }
      const auto done = static_cast<std::int64_t>(std::min(round + world, missing.size()));
      progress->update(done, done * kBlockRows, "");
    });
    if (mpi.any(stop_requested().has_value())) {
      throw CollectiveError(
          ExitCode::interrupted,
          "stopped by a signal while the teacher's outputs were computed; the blocks that are done are kept");
    }
  }
  on_rank_zero(mpi, [&] {
    job.store.build(inputs, {pack, teacher_artifact},
                    [&](const fs::path& folder) { journal->assemble(folder / kTeacherCacheFile); });
    journal.reset();
    std::error_code ignored;
    fs::remove_all(job.store.work_folder(inputs), ignored);
  });
  return job.store.open(inputs);
}

}  // namespace mmkd
