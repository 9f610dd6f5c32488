#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/data/pack.h"
#include "scan.h"
#include "shard.h"

// The pictures and texts of a data set, prepared and written into shards.
namespace mmkd {

/// What is stored: one stream for each different kind of input of teacher and student.
struct Streams {
  std::vector<ImagePolicy> policies;
  std::vector<ImageStream> images;
  std::array<int, 2> image_of{};  ///< [teacher, student]
  std::vector<WordPieceTokenizer> tokenizers;
  std::array<int, 2> token_of{};
};
Streams make_streams(const PackInputs& inputs);

/// Samples [first, first + count) of a split.
struct ShardTask {
  Split split = Split::train;
  std::int64_t index = 0, first = 0, count = 0;
  std::string file() const { return fmt::format("{}-{:05}.h5", name(split), index); }
};
std::vector<ShardTask> divide(const Scan& scan, std::int64_t samples_per_shard);

/// Everything that decides the shards.
struct ShardPlan {
  const Config& config;
  const Streams& streams;
  const Scan& scan;
  const std::vector<std::vector<std::string>>& classes;  ///< of each task
  std::string key;
  std::vector<ShardTask> tasks;
};

/// A shard that lies on the disk and was read back.
struct BuiltShard {
  ShardEntry entry;
  std::vector<RecordParts> records;
};

struct BuiltShards {
  std::vector<BadSample> bad;      ///< what could not be decoded, in the order of split and id: on every rank
  std::vector<BuiltShard> shards;  ///< those of the plan's tasks, on rank 0, where nothing was bad
};

/// Collective. The ranks share the shards; whole ones that a killed build left in `folder` are kept.
BuiltShards build_shards(const MpiSession& mpi, const ShardPlan& plan, const std::filesystem::path& folder);

/// For other ranks: CBOR keeps binary data, and text that is no UTF-8.
std::string as_cbor(const nlohmann::json& json);
nlohmann::json to_json(const std::vector<BadSample>& bad);
std::vector<BadSample> bad_samples_from_json(const nlohmann::json& json);

}  // namespace mmkd
