#pragma once
#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "mmkd/formats/safetensors.h"

// safetensors files as tensors, in and out.
namespace mmkd {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

at::ScalarType scalar_type(DType dtype);
/// Throws Error for types that safetensors files of this project do not hold (complex, quantised, …).
DType dtype_of(at::ScalarType type);

/// A tensor on the CPU with the stored type and shape. It lies in the file's mapping, which it keeps alive (copied only
/// where the file does not align it); writing to it never changes the file.
at::Tensor tensor_of(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name);

/// Every tensor of a file, as by tensor_of(). Throws Error as SafetensorsFile does.
std::map<std::string, at::Tensor> load_tensors(const std::filesystem::path& file);

/// Atomic; tensors of any device and layout, in the given order. Equal input gives equal bytes.
void save_tensors(const std::filesystem::path& file, std::span<const NamedTensor> tensors,
                  const std::map<std::string, std::string>& metadata = {});

}  // namespace mmkd
