#include "mmkd/data/pack.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"
#include "mmkd/config/print.h"
#include "mmkd/stages/building.h"
#include "scan.h"
#include "shard.h"

namespace mmkd {
namespace {

constexpr int kPackVersion = 2;
constexpr std::uint64_t kMaxImageFileBytes = std::uint64_t{1} << 30;
constexpr std::array kSplits{Split::train, Split::dev, Split::test};

// ---------------------------------------------------------------- streams: one per different input

struct Streams {
  std::vector<ImagePolicy> policies;
  std::vector<ImageStream> images;
  std::array<int, 2> image_of{};
  std::vector<WordPieceTokenizer> tokenizers;
  std::array<int, 2> token_of{};
};

Streams make_streams(const PackInputs& inputs) {
  Streams streams;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto key = inputs.policies[i].pixel_key();
    if (i == 1 && streams.images[0].pixel_key == key) {
      streams.image_of[1] = 0;
    } else {
      const auto [height, width] = inputs.policies[i].output_size();
      streams.image_of[i] = static_cast<int>(streams.images.size());
      streams.images.push_back({height, width, key});
      streams.policies.push_back(inputs.policies[i]);
    }
    auto tokenizer = WordPieceTokenizer::from_file(inputs.tokenizers[i].file, inputs.tokenizers[i].settings);
    if (i == 1 && streams.tokenizers[0].digest() == tokenizer.digest()) {
      streams.token_of[1] = 0;
    } else {
      streams.token_of[i] = static_cast<int>(streams.tokenizers.size());
      streams.tokenizers.push_back(std::move(tokenizer));
    }
  }
  return streams;
}

// ---------------------------------------------------------------- key

/// Digest over what is packed: every sample's id, text, labels and image content, and what is left out.
std::string samples_digest(const Scan& scan) {
  Sha256 digest;
  for (std::size_t s = 0; s < 3; ++s) {
    digest.update(name(kSplits[s])).update("\n");
    for (std::size_t i = 0; i < scan.samples[s].size(); ++i) {
      const auto& sample = scan.samples[s][i];
      digest
          .update(nlohmann::json({sample.id, sample.text, sample.labels, scan.digests[s][i]})
                      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
          .update("\n");
    }
  }
  for (const auto& bad : scan.bad)
    digest.update(nlohmann::json({name(bad.split), bad.id, bad.reason})
                      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return std::move(digest).hex();
}

StageInputs stage_inputs(const Config& config, const PackInputs& inputs, const Streams& streams, const Scan& scan) {
  StageInputs stage{.stage = "pack", .version = kPackVersion};
  // on_bad_sample: what was packed without its bad samples must not be taken where they are to be errors.
  stage.config = subset(config, {"data.max_length", "data.samples_per_shard", "data.on_bad_sample"});
  for (const auto& task : resolved_tasks(config.data)) stage.config["tasks"].push_back(task.label);
  for (std::size_t i = 0; i < 2; ++i) {
    stage.config["policies"].push_back(to_json(inputs.policies[i]));
    stage.external[fmt::format("tokenizer/{}", i == 0 ? "teacher" : "student")] =
        streams.tokenizers[static_cast<std::size_t>(streams.token_of[i])].digest();
  }
  stage.external["samples"] = samples_digest(scan);
  return stage;
}

/// What decides the data as one model sees it: everything above but the other model's pictures and tokens, and the
/// division into shards.
std::array<std::string, 2> input_keys(const Config& config, const PackInputs& inputs, const Streams& streams,
                                      const std::string& samples) {
  std::array<std::string, 2> keys;
  for (std::size_t role = 0; role < keys.size(); ++role) {
    StageInputs stage{.stage = "inputs", .version = kPackVersion};
    stage.config = subset(config, {"data.max_length", "data.on_bad_sample"});
    for (const auto& task : resolved_tasks(config.data)) stage.config["tasks"].push_back(task.label);
    stage.config["policy"] = to_json(inputs.policies[role]);
    stage.external["tokenizer"] = streams.tokenizers[static_cast<std::size_t>(streams.token_of[role])].digest();
    stage.external["samples"] = samples;
    keys[role] = stage.key();
  }
  return keys;
}

// ---------------------------------------------------------------- shards

struct ShardTask {
  Split split = Split::train;
  std::int64_t index = 0, first = 0, count = 0;
  std::string file() const { return fmt::format("{}-{:05}.h5", name(split), index); }
};

std::vector<ShardTask> divide(const Scan& scan, std::int64_t samples_per_shard) {
  std::vector<ShardTask> tasks;
  for (const Split split : kSplits) {
    const auto n = static_cast<std::int64_t>(scan.samples[static_cast<std::size_t>(split)].size());
    for (std::int64_t first = 0; first < n; first += samples_per_shard) {
      tasks.push_back({split, first / samples_per_shard, first, std::min(samples_per_shard, n - first)});
    }
  }
  return tasks;
}

class ShardBuilder {
 public:
  ShardBuilder(const Config& config, const Streams& streams, const Scan& scan,
               const std::vector<std::vector<std::string>>& classes, std::string key)
      : config_(config), streams_(streams), scan_(scan), classes_(classes), key_(std::move(key)) {}

  /// Samples that could not be decoded; empty: the shard is written.
  std::vector<BadSample> build(const ShardTask& task, const fs::path& folder,
                               const std::function<void()>& one_done) const {
    ShardData data = empty(task);
    std::vector<BadSample> bad;
    std::mutex mutex;
    std::atomic<std::int64_t> next{0};
    const auto work = [&] {
      for (std::int64_t i = next++; i < task.count && !stop_requested(); i = next++) {
        const auto& sample = sample_of(task, i);
        try {
          fill(data, task, i);
        } catch (const std::exception& e) {
          const std::lock_guard lock(mutex);
          bad.push_back({task.split, sample.id, sample.where, e.what()});
        }
        one_done();
      }
    };
    std::vector<std::jthread> threads;
    const auto workers = std::clamp<std::int64_t>(config_.data.num_workers, 1, task.count);
    for (std::int64_t w = 1; w < workers; ++w) threads.emplace_back(work);
    work();
    threads.clear();
    if (stop_requested()) throw Interrupted("stopped by a signal; finished shards are kept, the same command goes on");
    if (bad.empty()) write_shard(folder / task.file(), schema(task.split), task.index, data);
    return bad;
  }

  ShardSchema schema(Split split) const {
    return {.images = streams_.images,
            .token_streams = streams_.tokenizers.size(),
            .tasks = classes_.size(),
            .split = std::string(name(split)),
            .key = key_};
  }

 private:
  const Sample& sample_of(const ShardTask& task, std::int64_t i) const {
    return scan_.samples[static_cast<std::size_t>(task.split)][static_cast<std::size_t>(task.first + i)];
  }

  static std::size_t picture_bytes(const ImageStream& stream) {
    return static_cast<std::size_t>(stream.height * stream.width * 3);
  }

  ShardData empty(const ShardTask& task) const {
    const auto n = static_cast<std::size_t>(task.count);
    ShardData data;
    data.ids.resize(n);
    data.labels.resize(n * classes_.size());
    for (const auto& stream : streams_.images) data.pixels.emplace_back(n * picture_bytes(stream));
    data.tokens.assign(streams_.tokenizers.size(), std::vector<std::vector<std::int32_t>>(n));
    return data;
  }

  /// Touches only what belongs to sample i, so that workers need no lock.
  void fill(ShardData& data, const ShardTask& task, std::int64_t i) const {
    const auto& sample = sample_of(task, i);
    const auto row = static_cast<std::size_t>(i);
    const std::string encoded = read_file(sample.image, kMaxImageFileBytes);
    const Image image = decode_image(std::as_bytes(std::span(encoded)), sample.image.string());
    for (std::size_t s = 0; s < streams_.images.size(); ++s) {
      const Image prepared = apply_policy(image, streams_.policies[s]);
      std::copy(prepared.rgb.begin(), prepared.rgb.end(),
                data.pixels[s].begin() + static_cast<std::ptrdiff_t>(row * picture_bytes(streams_.images[s])));
    }
    for (std::size_t s = 0; s < streams_.tokenizers.size(); ++s)
      data.tokens[s][row] = streams_.tokenizers[s].encode(sample.text, config_.data.max_length);
    for (std::size_t t = 0; t < classes_.size(); ++t) {
      const auto found = std::lower_bound(classes_[t].begin(), classes_[t].end(), sample.labels[t]);
      data.labels[row * classes_.size() + t] = static_cast<std::int32_t>(found - classes_[t].begin());
    }
    data.ids[row] = sample.id;
  }

  const Config& config_;
  const Streams& streams_;
  const Scan& scan_;
  const std::vector<std::vector<std::string>>& classes_;
  std::string key_;
};

nlohmann::json bad_json(const std::vector<BadSample>& bad) {
  nlohmann::json json = nlohmann::json::array();
  for (const auto& one : bad) json.push_back({static_cast<int>(one.split), one.id, one.where, one.reason});
  return json;
}

std::vector<BadSample> bad_from_json(const std::string& text) {
  std::vector<BadSample> bad;
  for (const auto& one : nlohmann::json::parse(text)) {
    bad.push_back({static_cast<Split>(one.at(0).get<int>()), one.at(1).get<std::string>(), one.at(2).get<std::string>(),
                   one.at(3).get<std::string>()});
  }
  return bad;
}

/// A finished shard of a build that was killed: is it whole?
bool usable(const fs::path& folder, const ShardTask& task, const ShardSchema& schema) {
  if (!fs::exists(folder / task.file())) return false;
  try {
    const Shard shard(folder, describe_shard(folder / task.file(), task.count), schema, task.index);
    for (std::int64_t i = 0; i < shard.size(); ++i) shard.verify(i);
    return true;
  } catch (const Error& e) {
    log::info("{} of an earlier build is built again: {}", task.file(), e.what());
    fs::remove(folder / task.file());
    return false;
  }
}

/// Progress of this rank on a terminal.
class PackProgress {
 public:
  PackProgress(std::int64_t total, bool shown) : total_(total), shown_(shown && isatty(STDERR_FILENO) != 0) {}
  ~PackProgress() {
    if (shown_) std::fputc('\n', stderr);
  }
  void operator()() {
    const auto done = ++done_;
    if (done % 64 == 0) activity().tell(fmt::format("pack {}/{} samples", done, total_));
    if (shown_ && (done % 16 == 0 || done == total_))
      std::fprintf(stderr, "\rpack %ld/%ld", static_cast<long>(done), static_cast<long>(total_));
  }

 private:
  std::atomic<std::int64_t> done_{0};
  std::int64_t total_;
  bool shown_;
};

/// Collective. Builds this rank's shards; the union of what could not be decoded anywhere.
std::vector<BadSample> build_shards(const MpiSession& mpi, const ShardBuilder& builder,
                                    const std::vector<ShardTask>& tasks, const fs::path& folder) {
  std::vector<BadSample> mine;
  on_all_ranks(mpi, [&] {
    std::int64_t total = 0;
    for (const auto& task : tasks) total += task.count;
    PackProgress progress(total / mpi.size(), mpi.rank() == 0);
    for (std::size_t t = static_cast<std::size_t>(mpi.rank()); t < tasks.size();
         t += static_cast<std::size_t>(mpi.size())) {
      if (usable(folder, tasks[t], builder.schema(tasks[t].split))) continue;
      const auto bad = builder.build(tasks[t], folder, [&] { progress(); });
      mine.insert(mine.end(), bad.begin(), bad.end());
    }
  });
  std::vector<BadSample> all;
  const auto parts = mpi.all_gather(bad_json(mine).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  for (const auto& part : parts) {
    const auto bad = bad_from_json(part);
    all.insert(all.end(), bad.begin(), bad.end());
  }
  // In the order of split and id, whichever thread or rank met them first: the manifest names them.
  std::sort(all.begin(), all.end(),
            [](const BadSample& a, const BadSample& b) { return std::tie(a.split, a.id) < std::tie(b.split, b.id); });
  return all;
}

/// What a packed set is made of, beside its shards.
struct PackedParts {
  const Config& config;
  const PackInputs& inputs;
  const Streams& streams;
  const Scan& scan;
  const std::vector<std::vector<std::string>>& classes;
  const StageInputs& stage;
};

Manifest make_manifest(const PackedParts& parts, const std::vector<ShardTask>& tasks, const fs::path& folder) {
  const auto& [config, inputs, streams, scan, classes, stage] = parts;
  Manifest manifest;
  manifest.samples_per_shard = config.data.samples_per_shard;
  auto& info = manifest.info;
  info.key = stage.key();
  const auto labels = resolved_tasks(config.data);
  for (std::size_t t = 0; t < labels.size(); ++t) info.tasks.push_back({labels[t].label, classes[t]});
  info.policies = inputs.policies;
  info.image_streams = streams.images;
  info.image_stream_of = streams.image_of;
  info.token_stream_of = streams.token_of;
  for (const auto& tokenizer : streams.tokenizers) {
    info.token_streams.push_back(
        {tokenizer.digest(), tokenizer.vocab_size(), tokenizer.pad_id(), config.data.max_length});
  }
  for (std::size_t s = 0; s < 3; ++s) info.counts[s] = static_cast<std::int64_t>(scan.samples[s].size());
  for (const auto& task : tasks)
    manifest.shards[static_cast<std::size_t>(task.split)].push_back(describe_shard(folder / task.file(), task.count));
  for (const auto& bad : scan.bad)
    manifest.quarantined[static_cast<std::size_t>(bad.split)].push_back(fmt::format("{}: {}", bad.id, bad.reason));
  info.input_keys = input_keys(config, inputs, streams, stage.external.at("samples"));
  info.input_contents = input_contents(manifest, folder);
  return manifest;
}

/// Collective. The scan of rank 0, given to all: digests are computed and remembered once.
Scan shared_scan(const Config& config, const MpiSession& mpi) {
  const auto text = from_rank_zero(mpi, [&] {
    DigestMemo memo(artifacts_root(config));
    const auto scan = scan_data(config.data, memo);
    refuse_bad(scan, config.data.on_bad_sample);
    nlohmann::json json{{"bad", bad_json(scan.bad)}};
    for (std::size_t s = 0; s < 3; ++s) {
      auto& rows = json["samples"][s] = nlohmann::json::array();
      for (std::size_t i = 0; i < scan.samples[s].size(); ++i) {
        const auto& x = scan.samples[s][i];
        rows.push_back({x.id, x.image.string(), nlohmann::json::binary({x.text.begin(), x.text.end()}),
                        x.text_was_empty, x.labels, x.where, scan.digests[s][i]});
      }
    }
    const auto bytes = nlohmann::json::to_cbor(json);  // keeps bytes that are no UTF-8
    return std::string(bytes.begin(), bytes.end());
  });
  const auto json = nlohmann::json::from_cbor(text);
  Scan scan;
  scan.bad = bad_from_json(json.at("bad").dump());
  for (std::size_t s = 0; s < 3; ++s) {
    for (const auto& row : json.at("samples").at(s)) {
      const auto& caption = row.at(2).get_binary();
      scan.samples[s].push_back({.id = row.at(0).get<std::string>(),
                                 .image = row.at(1).get<std::string>(),
                                 .text = std::string(caption.begin(), caption.end()),
                                 .text_was_empty = row.at(3).get<bool>(),
                                 .labels = row.at(4).get<std::vector<std::string>>(),
                                 .where = row.at(5).get<std::string>()});
      scan.digests[s].push_back(row.at(6).get<std::string>());
    }
  }
  return scan;
}

void require_samples(const Scan& scan) {
  for (const Split split : {Split::train, Split::dev}) {
    if (scan.samples[static_cast<std::size_t>(split)].empty())
      throw Error("the {} split has no usable samples", name(split));
  }
}

void log_summary(const Scan& scan, const PackedInfo& info, double seconds) {
  std::int64_t samples = 0;
  std::int64_t empty_texts = 0;
  for (const auto& split : scan.samples) {
    samples += static_cast<std::int64_t>(split.size());
    for (const auto& sample : split) empty_texts += sample.text_was_empty ? 1 : 0;
  }
  if (empty_texts > 0) log::info("pack: {} empty captions were replaced by \"No description available\"", empty_texts);
  for (const auto& bad : scan.bad)
    log::warn("pack: left out sample '{}' ({}): {}", bad.id, name(bad.split), bad.reason);
  log::info("pack: {} samples in {:.1f} s, {:.0f} images/s -> {}", samples, seconds,
            static_cast<double>(samples) / seconds, info.folder.string());
}

}  // namespace

StageInputs pack_stage_inputs(const Config& config) {
  const auto inputs = resolve_pack_inputs(config);
  DigestMemo memo(artifacts_root(config));
  auto scan = scan_data(config.data, memo);
  refuse_bad(scan, config.data.on_bad_sample);
  return stage_inputs(config, inputs, make_streams(inputs), scan);
}

std::array<std::string, 2> data_input_keys(const Config& config) {
  const auto inputs = resolve_pack_inputs(config);
  DigestMemo memo(artifacts_root(config));
  auto scan = scan_data(config.data, memo);
  refuse_bad(scan, config.data.on_bad_sample);
  return input_keys(config, inputs, make_streams(inputs), samples_digest(scan));
}

fs::path locate_pack(const Config& config) {
  if (!config.data.packed.empty()) return config.data.packed;
  auto folder = StageStore(artifacts_root(config)).folder(pack_stage_inputs(config));
  if (!fs::exists(folder / kManifestFile)) {
    throw UsageError(
        "the data is not packed yet (looked for {}). Run:  mmkd-pack {}  with the same --set options, or "
        "launch/run.sh, which does both.",
        folder.string(), config.source.empty() ? "CONFIG" : config.source.string());
  }
  return folder;
}

PackedInfo pack(const Config& config, const MpiSession& mpi) {
  const auto start = std::chrono::steady_clock::now();
  PackInputs inputs;
  std::optional<Streams> streams;
  on_all_ranks(mpi, [&] {
    inputs = resolve_pack_inputs(config);
    streams.emplace(make_streams(inputs));
  });
  auto scan = shared_scan(config, mpi);
  const auto stage = stage_inputs(config, inputs, *streams, scan);
  const StageStore store(artifacts_root(config));
  const auto is_packed = [&] {
    const auto ready = from_rank_zero(mpi, [&] { return std::string(store.state(stage, {}, true).ready ? "1" : ""); });
    if (!ready.empty() && mpi.rank() == 0) log::info("pack: reused {}", store.folder(stage).string());
    return !ready.empty();
  };
  if (is_packed()) return read_packed_info(store.folder(stage));
  const auto lock = lock_stage(mpi, store, stage, config.watchdog.dead_after);
  if (is_packed()) return read_packed_info(store.folder(stage));

  const auto tasks = resolved_tasks(config.data).size();
  const fs::path work = store.work_folder(stage);
  std::vector<std::vector<std::string>> classes;
  std::vector<ShardTask> shards;
  for (;;) {  // again without those that turn out to be undecodable
    classes = discover_classes(scan, tasks);
    on_all_ranks(mpi, [&] {
      refuse_bad(scan, config.data.on_bad_sample);
      require_samples(scan);
    });
    shards = divide(scan, config.data.samples_per_shard);
    const auto bad = build_shards(mpi, ShardBuilder(config, *streams, scan, classes, stage.key()), shards,
                                  work / samples_digest(scan).substr(0, 16));
    if (bad.empty()) break;
    remove_bad(scan, bad);
  }
  on_rank_zero(mpi, [&] {
    const fs::path built = work / samples_digest(scan).substr(0, 16);
    store.build(stage, {}, [&](const fs::path& folder) {
      for (const auto& shard : shards) link_or_copy(built / shard.file(), folder / shard.file());
      auto manifest = make_manifest({config, inputs, *streams, scan, classes, stage}, shards, folder);
      write_file_atomic(folder / kManifestFile, manifest_text(manifest));
    });
    std::error_code ignored;
    fs::remove_all(work, ignored);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    log_summary(scan, read_packed_info(store.folder(stage)), seconds);
  });
  return read_packed_info(store.folder(stage));
}

}  // namespace mmkd
