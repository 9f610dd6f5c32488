#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mmkd/formats/safetensors.h"

// Checkpoints that Python's torch.save() wrote (.bin, .pth, .pt), without Python, without torch, and without running
// what is in them.
namespace mmkd {

/// A tensor of such a file: a view into one of its storages.
struct TorchTensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape, strides;  ///< strides in elements, not negative
  std::int64_t offset = 0;                   ///< in elements
  std::string storage;                       ///< key of the storage
};

/// The tensors of a state dict: the file's own dict, or the one under "state_dict" or "model" of it. Other values are
/// left out. Reads the zip format (since PyTorch 1.6; CRCs are checked on reading) and the one before.
class TorchFile {
 public:
  /// Maps the file. Throws Error if it is no such file, damaged, holds no tensors, or wants to import anything beyond
  /// the names that rebuild tensors.
  explicit TorchFile(const std::filesystem::path& path);
  /// The same from memory, which must outlive the object; `name` stands for the file in messages.
  TorchFile(std::span<const std::byte> bytes, const std::string& name);
  ~TorchFile();
  TorchFile(TorchFile&&) noexcept;

  const std::map<std::string, TorchTensor>& tensors() const;
  /// The tensor's elements in row-major order. Throws Error if there is none, or its storage is damaged.
  std::vector<std::byte> read(const std::string& tensor) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmkd
