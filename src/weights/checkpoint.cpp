#include "mmkd/weights/checkpoint.h"

#include <fmt/ranges.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/formats/torch_file.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

/// What a folder may hold, the preferred first.
constexpr const char* kInFolder[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                     "pytorch_model.bin.index.json"};

bool is_index(const fs::path& file) { return file.extension() == ".json"; }

bool is_pickled(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".bin" || extension == ".pth" || extension == ".pt" || extension == ".ckpt";
}

/// The file or index that `path` stands for.
fs::path resolve(const fs::path& path) {
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

class Checkpoint::File {
 public:
  virtual ~File() = default;
  virtual std::vector<std::string> names() const = 0;
  /// Throw Error if there is no such tensor.
  virtual const std::vector<std::int64_t>& shape(const std::string& name) const = 0;
  virtual DType dtype(const std::string& name) const = 0;
  virtual at::Tensor tensor(const std::string& name) const = 0;
  virtual std::map<std::string, std::string> metadata() const { return {}; }
};

class Checkpoint::Safetensors final : public Checkpoint::File {
 public:
  explicit Safetensors(const fs::path& path) : file_(std::make_shared<const SafetensorsFile>(path)) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, entry] : file_->header().tensors) names.push_back(name);
    return names;
  }
  const std::vector<std::int64_t>& shape(const std::string& name) const override { return file_->entry(name).shape; }
  DType dtype(const std::string& name) const override { return file_->entry(name).dtype; }
  at::Tensor tensor(const std::string& name) const override { return tensor_of(file_, name); }
  std::map<std::string, std::string> metadata() const override { return file_->header().metadata; }

 private:
  std::shared_ptr<const SafetensorsFile> file_;
};

class Checkpoint::Pickled final : public Checkpoint::File {
 public:
  explicit Pickled(const fs::path& path) : file_(path), path_(path.string()) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : file_.tensors()) names.push_back(name);
    return names;
  }
  const std::vector<std::int64_t>& shape(const std::string& name) const override { return find(name).shape; }
  DType dtype(const std::string& name) const override { return find(name).dtype; }
  at::Tensor tensor(const std::string& name) const override {
    const auto bytes = file_.read(name);
    const at::Tensor result = at::empty(shape(name), scalar_type(dtype(name)));
    std::memcpy(result.mutable_data_ptr(), bytes.data(), bytes.size());
    return result;
  }

 private:
  const TorchTensor& find(const std::string& name) const {
    const auto found = file_.tensors().find(name);
    if (found == file_.tensors().end()) throw Error("{}: holds no tensor '{}'", path_, name);
    return found->second;
  }
  TorchFile file_;
  std::string path_;
};

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

std::shared_ptr<const Checkpoint::File> Checkpoint::open_file(const fs::path& file) {
  if (is_pickled(file)) return std::make_shared<const Pickled>(file);
  return std::make_shared<const Safetensors>(file);
}

void Checkpoint::add_file(const fs::path& file) {
  const auto opened = open_file(file);
  for (const auto& name : opened->names()) tensors_.emplace(name, opened);
  metadata_ = opened->metadata();
  files_.push_back(file);
}

void Checkpoint::add_shards(const fs::path& index) {
  const auto weight_map = read_index(index);
  files_.push_back(index);
  std::map<fs::path, std::shared_ptr<const File>> opened;
  for (const auto& shard : shards_of(weight_map)) {
    opened[shard] = open_file(shard);
    files_.push_back(shard);
  }
  for (const auto& [name, shard] : weight_map) {
    const auto& file = opened.at(shard);
    (void)file->dtype(name);  // throws if the shard does not hold it
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
  return *found->second;
}

const std::vector<std::int64_t>& Checkpoint::shape(const std::string& name) const { return file_of(name).shape(name); }

DType Checkpoint::dtype(const std::string& name) const { return file_of(name).dtype(name); }

at::Tensor Checkpoint::tensor(const std::string& name) const { return file_of(name).tensor(name); }

std::vector<fs::path> checkpoint_files(const fs::path& path) {
  const fs::path file = resolve(path);
  if (!is_index(file)) return {file};
  std::vector<fs::path> files{file};
  for (const auto& shard : shards_of(read_index(file))) files.push_back(shard);
  return files;
}

}  // namespace mmkd
