// config.json of Hugging Face folders: a size, or an error; what is accepted can be written and read again.
#include <cstdint>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/weights/hf_config.h"

namespace {

template <class Read>
void read_and_write(const nlohmann::json& json, const Read& read) {
  try {
    const auto config = read(json, "fuzz");
    if (!(read(nlohmann::json::parse(mmkd::to_hf_json(config).dump()), "again") == config)) std::abort();
  } catch (const mmkd::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto json = nlohmann::json::parse(data, data + size, nullptr, false);
  if (json.is_discarded()) return 0;
  read_and_write(json, mmkd::vision_config_from_hf);
  read_and_write(json, mmkd::text_config_from_hf);
  return 0;
}
