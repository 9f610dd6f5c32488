#include "tests/parity/tensors.h"

#include "mmkd/base/error.h"
#include "mmkd/weights/tensors.h"
#include "tests/parity/arrays.h"

namespace mmkd::parity {
namespace {

Array to_array(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  const bool integral = c10::isIntegralType(tensor.scalar_type(), /*includeBool=*/true);
  return {tensor.sizes().vec(),
          integral,
          {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()}};
}

}  // namespace

TensorMap read_tensors(const std::filesystem::path& file) { return load_tensors(file); }

TensorMap read_tensors(const Case& c, const std::string& what) {
  return read_tensors(c.folder / (what + ".safetensors"));
}

void compare(const Case& c, const std::string& name, const at::Tensor& got, const at::Tensor& want, Verdict& verdict) {
  if (!got.defined()) return fail(verdict, name + ": got no tensor");
  compare(c, name, to_array(got), to_array(want), verdict);
}

void compare(const Case& c, const TensorMap& got, const TensorMap& want, Verdict& verdict) {
  for (const auto& [name, tensor] : want) {
    const auto found = got.find(name);
    if (found == got.end()) {
      fail(verdict, name + ": not computed");
    } else {
      compare(c, name, found->second, tensor, verdict);
    }
  }
}

}  // namespace mmkd::parity
