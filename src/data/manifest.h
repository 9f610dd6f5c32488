#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/data/packed.h"

namespace mmkd {

/// One shard as the manifest describes it.
struct ShardEntry {
  std::string file;         ///< inside the packed folder
  std::int64_t count = 0;   ///< samples
  std::uint64_t bytes = 0;  ///< of the file
  std::string sha256;       ///< of the file
  std::string outside;      ///< XXH3 of everything but the pictures: checked on opening, before HDF5 sees the file
  std::vector<std::array<std::uint64_t, 2>> pictures;  ///< offset and size of each image stream's raw data
};

struct Manifest {
  PackedInfo info;
  std::int64_t samples_per_shard = 0;
  std::array<std::vector<ShardEntry>, 3> shards;        ///< by split
  std::array<std::vector<std::string>, 3> quarantined;  ///< "<id>: <reason>", by split
};

nlohmann::json to_json(const ShardEntry& shard);
/// Throws Error or a JSON exception if it is none.
ShardEntry shard_entry_from_json(const nlohmann::json& json);

/// The manifest's text, with its own checksum. info.digest is computed here from the shards' digests and the rest.
std::string manifest_text(Manifest& manifest);
/// Throws Error if it is missing, malformed, of another version, or does not fit its checksum.
Manifest read_manifest(const std::filesystem::path& folder);

/// XXH3 over the bytes of a shard that are not pictures.
std::string checksum_outside(std::span<const std::byte> file, const std::vector<std::array<std::uint64_t, 2>>& pictures,
                             const std::string& name);

nlohmann::json to_json(const ImagePolicy& policy);
ImagePolicy image_policy_from_json(const nlohmann::json& json);

inline constexpr const char* kManifestFile = "manifest.json";

}  // namespace mmkd
