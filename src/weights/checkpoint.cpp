#include "mmkd/weights/checkpoint.h"

#include <nlohmann/json.hpp>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_index(const fs::path& file) { return file.extension() == ".json"; }

bool is_pickle(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".bin" || extension == ".pth" || extension == ".pt" || extension == ".ckpt";
}

[[noreturn]] void refuse_pickle(const fs::path& file) {
  const fs::path converted = file.parent_path() / kSingle;
  throw Error(
      "{}: PyTorch's pickled weights cannot be read yet; safetensors are needed. Convert once with Python: python3 -c "
      "\"import torch, safetensors.torch as s; s.save_file({{k: v.contiguous().clone() for k, v in "
      "torch.load('{}', map_location='cpu', weights_only=True).items()}}, '{}')\"",
      file.string(), file.string(), converted.string());
}

/// The file or index that `path` stands for.
fs::path resolve(const fs::path& path) {
  if (!fs::exists(path)) throw Error("{}: no such weights (a .safetensors file or a folder with one)", path.string());
  if (!fs::is_directory(path)) {
    if (is_pickle(path)) refuse_pickle(path);
    return path;
  }
  for (const char* name : {kSingle, kIndex}) {
    if (fs::exists(path / name)) return path / name;
  }
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (fs::exists(path / name)) refuse_pickle(path / name);
  }
  throw Error("{}: holds no weights; {} or {} is needed", path.string(), kSingle, kIndex);
}

/// Tensor name -> file, from an index.
std::map<std::string, fs::path> read_index(const fs::path& index) {
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

std::set<fs::path> shards_of(const std::map<std::string, fs::path>& weight_map) {
  std::set<fs::path> shards;
  for (const auto& [tensor, file] : weight_map) shards.insert(file);
  return shards;
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.path_ = resolve(path);
  if (is_index(checkpoint.path_)) {
    checkpoint.add_shards(checkpoint.path_);
  } else {
    checkpoint.add_file(checkpoint.path_);
  }
  return checkpoint;
}

void Checkpoint::add_file(const fs::path& file) {
  const auto opened = std::make_shared<const SafetensorsFile>(file);
  for (const auto& [name, entry] : opened->header().tensors) tensors_.emplace(name, opened);
  files_.push_back(file);
}

void Checkpoint::add_shards(const fs::path& index) {
  const auto weight_map = read_index(index);
  files_.push_back(index);
  std::map<fs::path, File> opened;
  for (const auto& shard : shards_of(weight_map)) {
    opened[shard] = std::make_shared<const SafetensorsFile>(shard);
    files_.push_back(shard);
  }
  for (const auto& [name, shard] : weight_map) {
    const auto& file = opened.at(shard);
    file->entry(name);  // throws if the shard does not hold it
    tensors_.emplace(name, file);
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : tensors_) names.push_back(name);
  return names;
}

const Checkpoint::File& Checkpoint::file_of(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error("{}: holds no tensor '{}'", path_.string(), name);
  return found->second;
}

const std::vector<std::int64_t>& Checkpoint::shape(const std::string& name) const {
  return file_of(name)->entry(name).shape;
}

DType Checkpoint::dtype(const std::string& name) const { return file_of(name)->entry(name).dtype; }

at::Tensor Checkpoint::tensor(const std::string& name) const { return tensor_of(file_of(name), name); }

std::vector<fs::path> checkpoint_files(const fs::path& path) {
  const fs::path file = resolve(path);
  if (!is_index(file)) return {file};
  std::vector<fs::path> files{file};
  for (const auto& shard : shards_of(read_index(file))) files.push_back(shard);
  return files;
}

}  // namespace mmkd
