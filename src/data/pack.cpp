#include "mmkd/data/pack.h"

#include <chrono>
#include <optional>

#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/agree.h"
#include "mmkd/config/print.h"
#include "mmkd/stages/building.h"
#include "pack_shards.h"

namespace mmkd {
namespace {

constexpr int kPackVersion = 2;

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

/// PackedInfo::input_contents: SHA-256 over classes, counts and the checksums of every record's id, labels, picture and
/// tokens as [teacher, student] read them, whatever the division into shards.
std::array<std::string, 2> input_contents(const PackedInfo& info, const std::vector<BuiltShard>& shards) {
  std::array<Sha256, 2> digests;
  nlohmann::json head{{"counts", info.counts}};
  for (const auto& task : info.tasks) head["classes"].push_back(task.classes);
  for (auto& digest : digests) digest.update(head.dump());
  for (const auto& shard : shards) {
    for (const auto& record : shard.records) {
      for (std::size_t role = 0; role < digests.size(); ++role) {
        const std::array parts{record.id, record.labels,
                               record.pixels[static_cast<std::size_t>(info.image_stream_of[role])],
                               record.tokens[static_cast<std::size_t>(info.token_stream_of[role])]};
        digests[role].update(std::as_bytes(std::span(parts)));
      }
    }
  }
  return {std::move(digests[0]).hex(), std::move(digests[1]).hex()};
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

/// `built`: the shards of `tasks`.
Manifest make_manifest(const PackedParts& parts, const std::vector<ShardTask>& tasks,
                       const std::vector<BuiltShard>& built) {
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
  for (std::size_t t = 0; t < tasks.size(); ++t)
    manifest.shards[static_cast<std::size_t>(tasks[t].split)].push_back(built[t].entry);
  for (const auto& bad : scan.bad)
    manifest.quarantined[static_cast<std::size_t>(bad.split)].push_back(fmt::format("{}: {}", bad.id, bad.reason));
  info.input_keys = input_keys(config, inputs, streams, stage.external.at("samples"));
  info.input_contents = input_contents(info, built);
  return manifest;
}

/// Collective. The scan of rank 0, given to all: digests are computed and remembered once.
Scan shared_scan(const Config& config, const MpiSession& mpi) {
  Scan scan;
  const auto text = from_rank_zero(mpi, [&] {
    DigestMemo memo(artifacts_root(config));
    scan = scan_data(config.data, memo);
    refuse_bad(scan, config.data.on_bad_sample);
    if (mpi.size() == 1) return std::string();
    nlohmann::json json{{"bad", to_json(scan.bad)}};
    for (std::size_t s = 0; s < 3; ++s) {
      auto& rows = json["samples"][s] = nlohmann::json::array();
      for (std::size_t i = 0; i < scan.samples[s].size(); ++i) {
        const auto& x = scan.samples[s][i];
        rows.push_back({x.id, x.image.string(), nlohmann::json::binary({x.text.begin(), x.text.end()}),
                        x.text_was_empty, x.labels, x.where, scan.digests[s][i]});
      }
    }
    return as_cbor(json);
  });
  if (mpi.rank() == 0) return scan;
  const auto json = nlohmann::json::from_cbor(text);
  scan.bad = bad_samples_from_json(json.at("bad"));
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
  BuiltShards built;
  fs::path folder;
  for (;;) {  // again without those that turn out to be undecodable
    classes = discover_classes(scan, tasks);
    on_all_ranks(mpi, [&] {
      refuse_bad(scan, config.data.on_bad_sample);
      require_samples(scan);
    });
    shards = divide(scan, config.data.samples_per_shard);
    folder = work / samples_digest(scan).substr(0, 16);
    built = build_shards(mpi, {config, *streams, scan, classes, stage.key(), shards}, folder);
    if (built.bad.empty()) break;
    remove_bad(scan, built.bad);
  }
  on_rank_zero(mpi, [&] {
    auto manifest = make_manifest({config, inputs, *streams, scan, classes, stage}, shards, built.shards);
    std::map<std::string, std::string> digests;
    for (const auto& shard : built.shards) digests[shard.entry.file] = shard.entry.sha256;
    const auto fill = [&](const fs::path& target) {
      for (const auto& shard : shards) link_or_copy(folder / shard.file(), target / shard.file());
      write_file_atomic(target / kManifestFile, manifest_text(manifest));
    };
    store.build(stage, {}, fill, 0, digests);
    std::error_code ignored;
    fs::remove_all(work, ignored);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    log_summary(scan, read_packed_info(store.folder(stage)), seconds);
  });
  return read_packed_info(store.folder(stage));
}

}  // namespace mmkd
