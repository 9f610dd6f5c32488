#include "mmkd/backbones/vision_backbone.h"

#include <nlohmann/json.hpp>

#include "mmkd/base/files.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"
#include "tests/parity/parity.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {

Verdict check_vision_backbone(const Case& c) {
  const auto folder = c.folder / "model";
  const auto config = vision_config_from_hf(nlohmann::json::parse(read_file(folder / "config.json")), folder.string());
  const auto tower = make_vision_backbone(config);
  const auto weights = tower->named_weights();
  load_backbone(weights, folder, names_of(config.family));

  const TensorMap inputs = read_tensors(c, "inputs");
  TensorMap got;
  got["last_hidden_state"] = tower->forward_features(inputs.at("pixel_values"), {});
  got["img_raw"] = tower->forward(inputs.at("pixel_values"), {});
  (got.at("img_raw") * inputs.at("g")).sum().backward();
  for (const auto& weight : weights) got["grad." + weight.name] = nn::gradient(weight);

  Verdict verdict;
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
