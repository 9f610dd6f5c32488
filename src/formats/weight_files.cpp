#include "mmkd/formats/weight_files.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

/// What a folder may hold, the preferred first.
constexpr const char* kInFolder[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                     "pytorch_model.bin.index.json"};

}  // namespace

fs::path weight_file(const fs::path& path) {
  if (!fs::exists(path)) {
    throw Error("{}: no such weights (a .safetensors, .bin or .pth file, or a folder with one, is needed)",
                path.string());
  }
  if (!fs::is_directory(path)) return path;
  for (const char* name : kInFolder) {
    if (fs::exists(path / name)) return path / name;
  }
  throw Error("{}: holds no weights; one of {} is needed", path.string(), fmt::join(kInFolder, ", "));
}

bool is_weight_index(const fs::path& file) { return file.extension() == ".json"; }

std::map<std::string, fs::path> read_weight_index(const fs::path& index) {
  constexpr std::uint64_t kMaxIndexBytes = 100'000'000;
  std::map<std::string, fs::path> files;
  try {
    const auto json = nlohmann::json::parse(read_file(index, kMaxIndexBytes));
    for (const auto& [tensor, file] : json.at("weight_map").items()) {
      const fs::path name = file.get<std::string>();
      if (name.filename() != name || name.empty() || name == "..") {
        throw Error("{}: '{}' of tensor '{}' is no plain file name", index.string(), name.string(), tensor);
      }
      files[tensor] = index.parent_path() / name;
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: no valid index of a sharded checkpoint: {}", index.string(), error.what());
  }
  if (files.empty()) throw Error("{}: names no tensors", index.string());
  return files;
}

std::vector<fs::path> weight_files(const fs::path& path) {
  const fs::path file = weight_file(path);
  if (!is_weight_index(file)) return {file};
  std::set<fs::path> shards;
  for (const auto& [tensor, shard] : read_weight_index(file)) shards.insert(shard);
  std::vector<fs::path> files{file};
  files.insert(files.end(), shards.begin(), shards.end());
  return files;
}

}  // namespace mmkd
