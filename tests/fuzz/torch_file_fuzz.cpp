// libFuzzer target: the bytes are a whole torch.save() file, or (where they are none) one pickle. Whatever is wrong
// must end in Error; what is accepted has tensors of the sizes that type and shape say.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "mmkd/base/error.h"
#include "mmkd/formats/pickle.h"
#include "mmkd/formats/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const mmkd::TorchFile file(bytes, "input");
    for (const auto& [name, tensor] : file.tensors()) {
      std::uint64_t expected = mmkd::size_of(tensor.dtype);
      for (const auto dimension : tensor.shape) expected *= static_cast<std::uint64_t>(dimension);
      if (expected > size) std::abort();  // nothing may grow out of a file
      if (file.read(name).size() != expected) std::abort();
    }
  } catch (const mmkd::Error&) {  // what a damaged file must end in
  }
  try {
    if (mmkd::Pickle(bytes, "input").size() > size) std::abort();
  } catch (const mmkd::Error&) {
  }
  return 0;
}
