#pragma once
#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/formats/safetensors.h"

namespace mmkd {

/// The tensors of a checkpoint: a safetensors file, a file of torch.save() (.bin, .pth, .pt), or shards of either that
/// a `….index.json` lists.
class Checkpoint {
 public:
  /// `path`: a file, an index, or a folder with, in this order, model.safetensors, its index, pytorch_model.bin, its
  /// index. Throws Error if there is none, if an index is malformed, names a file outside its folder or a tensor that
  /// its file does not hold, and for unreadable files. Pickles are parsed, never run.
  static Checkpoint open(const std::filesystem::path& path);

  /// Sorted.
  std::vector<std::string> names() const;
  const std::vector<std::int64_t>& shape(const std::string& name) const;
  DType dtype(const std::string& name) const;
  /// On the CPU, as stored. From a safetensors file it lies in the mapping, which it keeps alive.
  at::Tensor tensor(const std::string& name) const;
  /// The file or index that was opened, for messages.
  const std::filesystem::path& path() const { return path_; }
  /// Every file that holds weights, and the index: what the content of the checkpoint is.
  const std::vector<std::filesystem::path>& files() const { return files_; }
  /// Of a single safetensors file; empty otherwise.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  class File;
  class Safetensors;
  class Pickled;
  static std::shared_ptr<const File> open_file(const std::filesystem::path& file);
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index);
  const File& file_of(const std::string& name) const;

  std::filesystem::path path_;
  std::vector<std::filesystem::path> files_;
  std::map<std::string, std::shared_ptr<const File>> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace mmkd
