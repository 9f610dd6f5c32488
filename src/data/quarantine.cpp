#include <algorithm>
#include <tuple>
#include <utility>

#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"
#include "mmkd/data/pack.h"
#include "shard.h"

// Records that were damaged after they had been packed.
namespace mmkd {
namespace {

std::string text_of(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // ids may be no UTF-8
}

nlohmann::json to_json(const std::vector<DamagedRecord>& records) {
  auto json = nlohmann::json::array();
  for (const auto& r : records) json.push_back({static_cast<int>(r.split), r.shard, r.record, r.sample, r.id});
  return json;
}

std::vector<DamagedRecord> records_from_json(const std::string& text) {
  std::vector<DamagedRecord> records;
  for (const auto& r : nlohmann::json::parse(text)) {
    records.push_back({static_cast<Split>(r.at(0).get<int>()), r.at(1).get<std::string>(), r.at(2).get<std::int64_t>(),
                       r.at(3).get<std::int64_t>(), r.at(4).get<std::string>()});
  }
  return records;
}

void sort_by_place(std::vector<DamagedRecord>& records) {
  std::sort(records.begin(), records.end(), [](const DamagedRecord& a, const DamagedRecord& b) {
    return std::tie(a.split, a.sample) < std::tie(b.split, b.sample);
  });
}

}  // namespace

std::vector<DamagedRecord> damaged_records(const PackedInfo& info, int part, int parts) {
  const auto manifest = read_manifest(info.folder);
  std::vector<DamagedRecord> found;
  std::int64_t number = 0;  // of the shard, over all splits
  for (const Split split : kSplits) {
    const auto schema = schema_of(manifest.info, split);
    std::int64_t index = 0;
    for (const auto& entry : manifest.shards[static_cast<std::size_t>(split)]) {
      const auto first = index * manifest.samples_per_shard;
      const auto shard_index = index++;
      if (number++ % parts != part) continue;
      const Shard shard(info.folder, entry, schema, shard_index);
      for (std::int64_t i = 0; i < shard.size(); ++i) {
        if (!shard.is_whole(i)) found.push_back({split, entry.file, i, first + i, std::string(shard.get(i).id)});
      }
      activity().tick(number);
    }
  }
  return found;
}

PackedInfo without_records(PackedInfo info, std::vector<DamagedRecord> records) {
  if (records.empty()) return info;
  sort_by_place(records);
  auto ids = nlohmann::json::array();
  for (const auto& record : records) {
    ids.push_back({name(record.split), record.id});
    --info.counts[static_cast<std::size_t>(record.split)];
  }
  for (const auto& record : records) {
    if (info.counts[static_cast<std::size_t>(record.split)] < 1) {
      throw Error(
          "packed data {}: every record of the {} split is damaged, none is left (data.on_bad_record: quarantine); "
          "pack the data again",
          info.folder.string(), name(record.split));
    }
  }
  for (auto* digests : {&info.input_keys, &info.input_contents}) {
    for (auto& digest : *digests) digest = sha256_hex(text_of({{"whole", digest}, {"left_out", ids}}));
  }
  info.left_out = std::move(records);
  return info;
}

std::array<std::string, 2> job_input_keys(const Config& config) {
  const bool quarantine = config.data.on_bad_record == OnBadRecord::quarantine;
  fs::path folder = config.data.packed;
  if (folder.empty()) {
    if (!quarantine) return data_input_keys(config);
    folder = StageStore(artifacts_root(config)).folder(pack_stage_inputs(config));
    if (!fs::exists(folder / kManifestFile)) return data_input_keys(config);
  }
  const auto info = read_packed_info(folder);
  return quarantine ? without_records(info, damaged_records(info)).input_keys : info.input_keys;
}

PackedInfo without_damaged_records(PackedInfo info, const MpiSession& mpi) {
  std::string mine;
  on_all_ranks(mpi, [&] {
    activity().enter_phase("checking every record");
    mine = text_of(to_json(damaged_records(info, mpi.rank(), mpi.size())));
  });
  std::vector<DamagedRecord> all;
  for (const auto& part : mpi.all_gather(mine)) {
    auto records = records_from_json(part);
    std::move(records.begin(), records.end(), std::back_inserter(all));
  }
  sort_by_place(all);
  if (mpi.rank() == 0) {
    for (const auto& r : all) {
      log::warn("{}: record {} of {} (sample '{}') is damaged: its checksum does not fit; it is left out of {}",
                info.folder.string(), r.record, r.shard, r.id, name(r.split));
    }
  }
  on_all_ranks(mpi, [&] { info = without_records(std::move(info), std::move(all)); });
  return info;
}

}  // namespace mmkd
