#include "pack_shards.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/signals.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kMaxImageFileBytes = std::uint64_t{1} << 30;

ShardSchema schema_of(const ShardPlan& plan, Split split) {
  return {.images = plan.streams.images,
          .token_streams = plan.streams.tokenizers.size(),
          .tasks = plan.classes.size(),
          .split = std::string(name(split)),
          .key = plan.key};
}

const Sample& sample_of(const ShardPlan& plan, const ShardTask& task, std::int64_t row) {
  return plan.scan.samples[static_cast<std::size_t>(task.split)][static_cast<std::size_t>(task.first + row)];
}

/// One sample as it is stored.
struct PreparedSample {
  std::vector<Image> images;                      // by stream
  std::vector<std::vector<std::int32_t>> tokens;  // by stream
  std::vector<std::int32_t> labels;
};

PreparedSample prepare(const ShardPlan& plan, const Sample& sample) {
  PreparedSample prepared;
  const std::string encoded = read_file(sample.image, kMaxImageFileBytes);
  const Image image = decode_image(std::as_bytes(std::span(encoded)), sample.image.string());
  for (const auto& policy : plan.streams.policies) prepared.images.push_back(apply_policy(image, policy));
  for (const auto& tokenizer : plan.streams.tokenizers)
    prepared.tokens.push_back(tokenizer.encode(sample.text, plan.config.data.max_length));
  for (std::size_t t = 0; t < plan.classes.size(); ++t) {
    const auto& classes = plan.classes[t];
    const auto found = std::lower_bound(classes.begin(), classes.end(), sample.labels[t]);
    prepared.labels.push_back(static_cast<std::int32_t>(found - classes.begin()));
  }
  return prepared;
}

Record record_of(const Sample& sample, const PreparedSample& prepared) {
  Record record;
  record.id = sample.id;
  record.labels = prepared.labels;
  for (std::size_t s = 0; s < prepared.images.size(); ++s) record.pixels[s] = prepared.images[s].rgb;
  for (std::size_t s = 0; s < prepared.tokens.size(); ++s) record.tokens[s] = prepared.tokens[s];
  return record;
}

/// Prepares and writes the samples of one shard with several threads. What cannot be decoded is collected; the first
/// failure to write ends the work and is thrown.
std::vector<BadSample> fill(ShardWriter& writer, const ShardPlan& plan, const ShardTask& task,
                            const std::function<void()>& one_done) {
  std::vector<BadSample> bad;
  std::exception_ptr failure;
  std::mutex mutex;
  std::atomic<std::int64_t> next{0};
  const auto one = [&](std::int64_t row) {
    const auto& sample = sample_of(plan, task, row);
    PreparedSample prepared;
    try {
      prepared = prepare(plan, sample);
    } catch (const std::exception& e) {
      const std::lock_guard lock(mutex);
      bad.push_back({task.split, sample.id, sample.where, e.what()});
      return;
    }
    writer.put(row, record_of(sample, prepared));
  };
  const auto work = [&] {
    try {
      for (std::int64_t row = next++; row < task.count && !stop_requested(); row = next++) {
        one(row);
        one_done();
      }
    } catch (...) {
      next = task.count;
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    const auto workers = std::clamp<std::int64_t>(plan.config.data.num_workers, 1, task.count);
    for (std::int64_t w = 1; w < workers; ++w) threads.emplace_back(work);
    work();
  }
  if (stop_requested()) throw Interrupted("stopped by a signal; finished shards are kept, the same command goes on");
  if (failure) std::rethrow_exception(failure);
  return bad;
}

/// Reads a written shard back: nothing damaged is given a digest.
BuiltShard examine(const ShardPlan& plan, const ShardTask& task, const fs::path& folder) {
  BuiltShard built{.entry = describe_shard(folder / task.file(), task.count), .records = {}};
  const Shard shard(folder, built.entry, schema_of(plan, task.split), task.index);
  for (std::int64_t i = 0; i < shard.size(); ++i) built.records.push_back(shard.verify(i));
  return built;
}

/// A finished shard of a build that was killed, if it is whole.
std::optional<BuiltShard> left_behind(const ShardPlan& plan, const ShardTask& task, const fs::path& folder) {
  if (!fs::exists(folder / task.file())) return std::nullopt;
  try {
    return examine(plan, task, folder);
  } catch (const Error& e) {
    log::info("{} of an earlier build is built again: {}", task.file(), e.what());
    fs::remove(folder / task.file());
    return std::nullopt;
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

/// The shards of one rank, by task; those of others stay empty. While the samples of a shard are prepared, the shard
/// before it is flushed, read back and digested.
class RankBuilder {
 public:
  RankBuilder(const ShardPlan& plan, const fs::path& folder) : plan_(plan), folder_(folder) {}

  void build(std::size_t number, const std::function<void()>& one_done) {
    const auto& task = plan_.tasks[number];
    if (auto found = left_behind(plan_, task, folder_)) {
      built_[number] = std::move(*found);
      return;
    }
    auto writer =
        std::make_unique<ShardWriter>(folder_ / task.file(), schema_of(plan_, task.split), task.index, task.count);
    const auto bad = fill(*writer, plan_, task, one_done);
    bad_.insert(bad_.end(), bad.begin(), bad.end());
    finish_last();
    if (!bad.empty()) return;
    last_number_ = number;
    last_ = std::async(std::launch::async, [this, &task, writer = std::move(writer)] {
      writer->commit();
      return examine(plan_, task, folder_);
    });
  }

  /// May throw what went wrong with the last shard.
  void finish_last() {
    if (last_.valid()) built_[last_number_] = last_.get();
  }

  const std::vector<BadSample>& bad() const { return bad_; }
  const std::map<std::size_t, BuiltShard>& built() const { return built_; }

 private:
  const ShardPlan& plan_;
  const fs::path& folder_;
  std::vector<BadSample> bad_;
  std::map<std::size_t, BuiltShard> built_;
  std::size_t last_number_ = 0;
  std::future<BuiltShard> last_;  // its destructor waits
};

static_assert(std::has_unique_object_representations_v<RecordParts>);

nlohmann::json to_json(const std::map<std::size_t, BuiltShard>& built) {
  auto json = nlohmann::json::array();
  for (const auto& [number, shard] : built) {
    const auto bytes = std::as_bytes(std::span(shard.records));
    const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
    json.push_back({number, to_json(shard.entry), nlohmann::json::binary(std::vector(first, first + bytes.size()))});
  }
  return json;
}

void take(const nlohmann::json& json, BuiltShards& all) {
  for (const auto& one : json) {
    auto& shard = all.shards.at(one.at(0).get<std::size_t>());
    shard.entry = shard_entry_from_json(one.at(1));
    const auto& records = one.at(2).get_binary();
    shard.records.resize(records.size() / sizeof(RecordParts));
    std::memcpy(shard.records.data(), records.data(), records.size());
  }
}

}  // namespace

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
    if (i == 1 && inputs.tokenizers[1] == inputs.tokenizers[0]) {
      streams.token_of[1] = 0;
      continue;
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

BuiltShards build_shards(const MpiSession& mpi, const ShardPlan& plan, const fs::path& folder) {
  std::string bad;
  std::string built;
  on_all_ranks(mpi, [&] {
    std::int64_t total = 0;
    for (const auto& task : plan.tasks) total += task.count;
    PackProgress progress(total / mpi.size(), mpi.rank() == 0);
    RankBuilder builder(plan, folder);
    for (auto t = static_cast<std::size_t>(mpi.rank()); t < plan.tasks.size();
         t += static_cast<std::size_t>(mpi.size()))
      builder.build(t, [&] { progress(); });
    builder.finish_last();
    bad = as_cbor(to_json(builder.bad()));
    built = as_cbor(to_json(builder.built()));
  });
  BuiltShards all;
  all.shards.resize(plan.tasks.size());
  for (const auto& part : mpi.all_gather(bad)) {
    const auto theirs = bad_samples_from_json(nlohmann::json::from_cbor(part));
    all.bad.insert(all.bad.end(), theirs.begin(), theirs.end());
  }
  for (const auto& part : mpi.gather(built, 0)) take(nlohmann::json::from_cbor(part), all);
  // In the order of split and id, whichever thread or rank met them first: the manifest names them.
  std::sort(all.bad.begin(), all.bad.end(),
            [](const BadSample& a, const BadSample& b) { return std::tie(a.split, a.id) < std::tie(b.split, b.id); });
  return all;
}

std::string as_cbor(const nlohmann::json& json) {
  const auto bytes = nlohmann::json::to_cbor(json);
  return {bytes.begin(), bytes.end()};
}

nlohmann::json to_json(const std::vector<BadSample>& bad) {
  nlohmann::json json = nlohmann::json::array();
  for (const auto& one : bad) json.push_back({static_cast<int>(one.split), one.id, one.where, one.reason});
  return json;
}

std::vector<BadSample> bad_samples_from_json(const nlohmann::json& json) {
  std::vector<BadSample> bad;
  for (const auto& one : json) {
    bad.push_back({static_cast<Split>(one.at(0).get<int>()), one.at(1).get<std::string>(), one.at(2).get<std::string>(),
                   one.at(3).get<std::string>()});
  }
  return bad;
}

}  // namespace mmkd
