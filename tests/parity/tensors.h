#pragma once
#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <string>

#include "tests/parity/parity.h"

// The tensors of a case, for the handlers of mmkd_learn.
namespace mmkd::parity {

using TensorMap = std::map<std::string, at::Tensor>;

/// Every tensor of a safetensors file, as stored (types and shapes).
TensorMap read_tensors(const std::filesystem::path& file);

/// `<case>/inputs.safetensors`, `<case>/weights.safetensors` or `<case>/expected.safetensors`.
TensorMap read_tensors(const Case& c, const std::string& what);

/// Shape, then every value: integers equal, others within the case's tolerance. An undefined `got` is a failure.
void compare(const Case& c, const std::string& name, const at::Tensor& got, const at::Tensor& want, Verdict& verdict);

/// Compares every tensor of `want`; one that `got` lacks is a failure. What `got` holds beyond is not looked at.
void compare(const Case& c, const TensorMap& got, const TensorMap& want, Verdict& verdict);

}  // namespace mmkd::parity
