#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/parity/parity.h"

// The tensors of a case as plain numbers, for the handlers that know nothing of torch.
namespace mmkd::parity {

struct Array {
  std::vector<std::int64_t> shape;
  bool integral = false;       ///< compared for equality rather than within the tolerance
  std::vector<double> values;  ///< row-major; exact for float32 and for integers below 2^53
};

/// Every tensor of a safetensors file.
std::map<std::string, Array> read_arrays(const std::filesystem::path& file);

/// Shape, then every value: integers equal, others within the case's tolerance.
void compare(const Case& c, const std::string& name, const Array& got, const Array& want, Verdict& verdict);

}  // namespace mmkd::parity
