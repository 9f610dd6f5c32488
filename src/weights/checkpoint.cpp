#include "mmkd/weights/checkpoint.h"

#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/formats/torch_file.h"
#include "mmkd/formats/weight_files.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

bool is_pickled(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".bin" || extension == ".pth" || extension == ".pt" || extension == ".ckpt";
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
  checkpoint.path_ = weight_file(path);
  if (is_weight_index(checkpoint.path_)) {
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
  const auto weight_map = read_weight_index(index);
  files_ = weight_files(index);
  std::map<fs::path, std::shared_ptr<const File>> opened;
  for (const auto& file : files_) {
    if (file != index) opened[file] = open_file(file);
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

}  // namespace mmkd
