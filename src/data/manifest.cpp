#include "manifest.h"

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"

namespace mmkd {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 2;
constexpr const char* kFormat = "mmkd packed data";

Json body(const Manifest& manifest) {
  const auto& info = manifest.info;
  Json json{{"format", kFormat},
            {"version", kVersion},
            {"key", info.key},
            {"samples_per_shard", manifest.samples_per_shard},
            {"image_stream_of", info.image_stream_of},
            {"token_stream_of", info.token_stream_of},
            {"input_keys", info.input_keys},
            {"input_contents", info.input_contents}};
  for (const auto& task : info.tasks) json["tasks"].push_back({{"label", task.label}, {"classes", task.classes}});
  for (const auto& policy : info.policies) json["policies"].push_back(to_json(policy));
  for (const auto& s : info.image_streams)
    json["image_streams"].push_back({{"height", s.height}, {"width", s.width}, {"pixel_key", s.pixel_key}});
  for (const auto& s : info.token_streams) {
    json["token_streams"].push_back({{"tokenizer_digest", s.tokenizer_digest},
                                     {"vocab_size", s.vocab_size},
                                     {"pad_id", s.pad_id},
                                     {"max_length", s.max_length}});
  }
  for (std::size_t s = 0; s < kSplits.size(); ++s) {
    const std::string split(name(kSplits[s]));
    json["counts"][split] = info.counts[s];
    json["shards"][split] = Json::array();
    for (const auto& shard : manifest.shards[s]) json["shards"][split].push_back(to_json(shard));
    json["quarantined"][split] = manifest.quarantined[s];
  }
  return json;
}

Manifest parse(const Json& json, const fs::path& folder) {
  Manifest manifest;
  auto& info = manifest.info;
  info.folder = folder;
  info.key = json.at("key").get<std::string>();
  info.digest = json.at("digest").get<std::string>();
  manifest.samples_per_shard = json.at("samples_per_shard").get<std::int64_t>();
  info.image_stream_of = json.at("image_stream_of").get<std::array<int, 2>>();
  info.token_stream_of = json.at("token_stream_of").get<std::array<int, 2>>();
  info.input_keys = json.at("input_keys").get<std::array<std::string, 2>>();
  info.input_contents = json.at("input_contents").get<std::array<std::string, 2>>();
  for (const auto& task : json.at("tasks"))
    info.tasks.push_back({task.at("label").get<std::string>(), task.at("classes").get<std::vector<std::string>>()});
  for (std::size_t i = 0; i < 2; ++i) info.policies[i] = image_policy_from_json(json.at("policies").at(i));
  for (const auto& s : json.at("image_streams")) {
    info.image_streams.push_back(
        {s.at("height").get<std::int64_t>(), s.at("width").get<std::int64_t>(), s.at("pixel_key").get<std::string>()});
  }
  for (const auto& s : json.at("token_streams")) {
    info.token_streams.push_back({s.at("tokenizer_digest").get<std::string>(), s.at("vocab_size").get<std::int64_t>(),
                                  s.at("pad_id").get<std::int32_t>(), s.at("max_length").get<std::int64_t>()});
  }
  for (std::size_t s = 0; s < kSplits.size(); ++s) {
    const std::string split(name(kSplits[s]));
    info.counts[s] = json.at("counts").at(split).get<std::int64_t>();
    for (const auto& shard : json.at("shards").at(split)) manifest.shards[s].push_back(shard_entry_from_json(shard));
    manifest.quarantined[s] = json.at("quarantined").at(split).get<std::vector<std::string>>();
  }
  return manifest;
}

/// What readers divide by and index with, whoever wrote the file.
void require_consistent(const Manifest& manifest, const fs::path& path) {
  const auto& info = manifest.info;
  const auto names_stream = [](const std::array<int, 2>& of, std::size_t streams) {
    return std::all_of(of.begin(), of.end(), [&](int s) { return s >= 0 && s < static_cast<int>(streams); });
  };
  const auto sizes = [](const auto& streams) { return streams.size() == 1 || streams.size() == 2; };
  if (manifest.samples_per_shard < 1 || !sizes(info.image_streams) || !sizes(info.token_streams) ||
      !names_stream(info.image_stream_of, info.image_streams.size()) ||
      !names_stream(info.token_stream_of, info.token_streams.size())) {
    throw Error("{}: its streams or its samples per shard are none that mmkd-pack writes; pack the data again",
                path.string());
  }
}

}  // namespace

nlohmann::json to_json(const ShardEntry& shard) {
  return {{"file", shard.file},     {"count", shard.count},     {"bytes", shard.bytes},
          {"sha256", shard.sha256}, {"outside", shard.outside}, {"pictures", shard.pictures}};
}

ShardEntry shard_entry_from_json(const nlohmann::json& json) {
  ShardEntry shard{json.at("file").get<std::string>(),    json.at("count").get<std::int64_t>(),
                   json.at("bytes").get<std::uint64_t>(), json.at("sha256").get<std::string>(),
                   json.at("outside").get<std::string>(), {}};
  shard.pictures = json.at("pictures").get<std::vector<std::array<std::uint64_t, 2>>>();
  if (fs::path(shard.file).has_parent_path() || shard.file.empty())
    throw Error("shard name '{}' is no plain file name", shard.file);
  return shard;
}

std::string manifest_text(Manifest& manifest) {
  Json json = body(manifest);
  manifest.info.digest = sha256_hex(json.dump());
  json["digest"] = manifest.info.digest;
  json["checksum"] = sha256_hex(json.dump());
  return json.dump(1) + "\n";
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestFile;
  const auto advice = "pack the data again with mmkd-pack";
  const std::string text = read_file(path, std::uint64_t{1} << 30);
  const auto damaged = [&] { return Error("{}: is damaged (its checksum does not fit); {}", path.string(), advice); };
  try {
    auto json = Json::parse(text, nullptr, false);  // its own messages quote bytes that may be no UTF-8
    if (!json.is_object()) throw Error("{}: is no JSON object; {}", path.string(), advice);
    if (json.value("format", "") != kFormat) throw Error("{}: is no manifest of packed data", path.string());
    if (json.value("version", 0) != kVersion) {
      throw Error("{}: has format version {}, this program reads {}; {}", path.string(), json.value("version", 0),
                  kVersion, advice);
    }
    if (json.dump(1) + "\n" != text) throw damaged();  // the checksum is over the values, not over the white space
    const auto checksum = json.value("checksum", "");
    json.erase("checksum");
    if (sha256_hex(json.dump()) != checksum) throw damaged();
    auto manifest = parse(json, folder);
    require_consistent(manifest, path);
    return manifest;
  } catch (const Json::exception& e) {
    throw Error("{}: {}; {}", path.string(), e.what(), advice);
  }
}

std::string checksum_outside(std::span<const std::byte> file, const std::vector<std::array<std::uint64_t, 2>>& pictures,
                             const std::string& name) {
  std::vector<std::byte> kept;
  std::uint64_t at = 0;
  for (const auto& [offset, size] : pictures) {
    if (offset < at || offset > file.size() || size > file.size() - offset)
      throw Error("{}: is shorter than its manifest says", name);
    kept.insert(kept.end(), file.begin() + static_cast<std::ptrdiff_t>(at),
                file.begin() + static_cast<std::ptrdiff_t>(offset));
    at = offset + size;
  }
  kept.insert(kept.end(), file.begin() + static_cast<std::ptrdiff_t>(at), file.end());
  return to_hex(checksum64(kept));
}

nlohmann::json to_json(const ImagePolicy& p) {
  return {{"do_resize", p.do_resize},
          {"height", p.height},
          {"width", p.width},
          {"shortest_edge", p.shortest_edge},
          {"resample", static_cast<int>(p.resample)},
          {"do_center_crop", p.do_center_crop},
          {"crop_height", p.crop_height},
          {"crop_width", p.crop_width},
          {"do_rescale", p.do_rescale},
          {"rescale_factor", p.rescale_factor},
          {"do_normalize", p.do_normalize},
          {"mean", p.mean},
          {"std", p.std},
          {"bgr", p.bgr}};
}

ImagePolicy image_policy_from_json(const nlohmann::json& json) {
  ImagePolicy p;
  json.at("do_resize").get_to(p.do_resize);
  json.at("height").get_to(p.height);
  json.at("width").get_to(p.width);
  json.at("shortest_edge").get_to(p.shortest_edge);
  p.resample = static_cast<Resample>(json.at("resample").get<int>());
  json.at("do_center_crop").get_to(p.do_center_crop);
  json.at("crop_height").get_to(p.crop_height);
  json.at("crop_width").get_to(p.crop_width);
  json.at("do_rescale").get_to(p.do_rescale);
  json.at("rescale_factor").get_to(p.rescale_factor);
  json.at("do_normalize").get_to(p.do_normalize);
  json.at("mean").get_to(p.mean);
  json.at("std").get_to(p.std);
  json.at("bgr").get_to(p.bgr);
  return p;
}

}  // namespace mmkd
