// libFuzzer target: the bytes are a whole safetensors file. A malformed one must end in Error; in what is accepted
// every tensor lies inside the file and has the size that type and shape say.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "mmkd/base/error.h"
#include "mmkd/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto bytes = std::as_bytes(std::span(data, size));
    for (const auto& [name, entry] : mmkd::parse_safetensors_header(bytes, size, "input").tensors) {
      if (entry.begin > entry.end || entry.end > size) std::abort();
      std::uint64_t expected = mmkd::size_of(entry.dtype);
      for (const auto dimension : entry.shape) expected *= static_cast<std::uint64_t>(dimension);
      if (expected != entry.end - entry.begin) std::abort();
    }
  } catch (const mmkd::Error&) {  // what a malformed file must end in
  }
  return 0;
}
