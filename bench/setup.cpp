#include "bench/setup.h"

#include <ATen/Parallel.h>
#include <unistd.h>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/comm/agree.h"
#include "mmkd/data/pack.h"
#include "mmkd/pipeline/device.h"

namespace mmkd::bench {
namespace {

PackedInfo packed_data(const Config& config, const MpiSession& mpi, bool pack_now) {
  if (pack_now) return pack(config, mpi);
  const std::string folder = from_rank_zero(mpi, [&] { return locate_pack(config).string(); });
  PackedInfo info;
  on_all_ranks(mpi, [&] { info = read_packed_info(folder); });
  return info;
}

}  // namespace

LoadedConfig load_bench_config(const Options& options) {
  const fs::path& source = options.source;
  const fs::path data = uses_demo_data(options) ? options.work / "demo-data" : options.data_root;
  const std::string vocabulary = (source / "config/tokenizers/bert-uncased/vocab.txt").string();
  std::vector<std::string> overrides{"data.root=" + data.string(),
                                     fmt::format("data.batch_size={}", options.batch),
                                     fmt::format("data.num_workers={}", options.workers),
                                     fmt::format("data.verify_on_read={}", options.verify),
                                     "teacher.tokenizer=" + vocabulary,
                                     "student.tokenizer=" + vocabulary,
                                     "training.precision=" + options.dtype,
                                     fmt::format("training.seed={}", options.seed),
                                     "artifacts.root=" + (options.work / "artifacts").string(),
                                     "logging.log_dir=" + (options.work / "logs").string(),
                                     "device=" + options.device};
  overrides.insert(overrides.end(), options.settings.begin(), options.settings.end());
  if (!options.peers_root.empty()) {
    for (const char* role : {"teacher", "student"}) {
      const fs::path file =
          options.peers_root / "weights" / fmt::format("{}-{}-seed{}.safetensors", options.scale, role, options.seed);
      if (!fs::exists(file)) {
        throw UsageError("{}: not found. The peers write it on first use: run their make_weights('{}', {}).",
                         file.string(), options.scale, options.seed);
      }
      overrides.push_back(fmt::format("{}.weights={}", role, file.string()));
    }
  }
  return load_config(source / "bench" / (options.scale + ".yaml"), overrides);
}

Setup::Setup(const Options& options, const LoadedConfig& loaded, const MpiSession& mpi, bool pack_now)
    : options_(options), loaded_(loaded) {
  const auto device = choose_device(loaded_.config.device);
  if (options_.threads == 0) options_.threads = std::max(1, cores() / mpi.local_size());
  at::set_num_threads(options_.threads);
  world_ = make_world(mpi, device);
  if (uses_demo_data(options_)) on_rank_zero(mpi, [&] { write_demo_data(loaded_.config.data.root); });
  scratch_ = from_rank_zero(mpi, [&] {
    const fs::path folder = fs::absolute(options_.work) / fmt::format("run-{}", getpid());
    make_folder(folder);
    return folder.string();
  });
  const auto& config = loaded_.config;
  job_.emplace(Job{.loaded = loaded_,
                   .config = config,
                   .options = run_,
                   .world = *world_,
                   .packed = packed_data(config, mpi, pack_now),
                   .inputs = {},
                   .teachers = {},
                   .student = {},
                   .plan = {},
                   .store = StageStore(scratch_),
                   .stages = {}});
  on_all_ranks(mpi, [&] {
    job_->inputs = input_specs(job_->packed);
    job_->teachers = resolve_teachers(config, job_->packed);
    job_->student = resolve_student(config, job_->packed);
  });
  const auto digests = weight_digests(job_->config, mpi);
  on_all_ranks(mpi, [&] {
    job_->plan = make_plan(config, {job_->packed.input_keys}, at::DeviceTypeName(device, true), digests);
  });
}

Setup::~Setup() {
  std::error_code ignored;
  if (world_->rank() == 0) fs::remove_all(scratch_, ignored);
}

TrainerSpec Setup::one_epoch(Role role) const {
  auto spec = trainer_spec(loaded_.config, source(role));
  spec.epochs = 1;
  return spec;
}

}  // namespace mmkd::bench
