#include <nlohmann/json.hpp>

#include "mmkd/base/files.h"
#include "mmkd/models/multimodal_model.h"
#include "mmkd/weights/hf_config.h"
#include "mmkd/weights/load.h"
#include "tests/parity/fusion_spec.h"
#include "tests/parity/parity.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {
namespace {

nlohmann::json read_json(const std::filesystem::path& file) { return nlohmann::json::parse(read_file(file)); }

ModelSpec model_spec(const Case& c) {
  const auto vision = c.folder / "vision" / "config.json";
  const auto text = c.folder / "text" / "config.json";
  ModelSpec spec;
  spec.vision = vision_config_from_hf(read_json(vision), vision.string());
  spec.text = text_config_from_hf(read_json(text), text.string());
  spec.fusion = fusion_spec(c.config.at("fusion"));
  spec.tasks = {{"modality", c.config.at("num_modality")}, {"location", c.config.at("num_location")}};
  return spec;
}

}  // namespace

Verdict check_model(const Case& c) {
  const auto model = make_model(model_spec(c), /*seed=*/0);
  const auto weights = model->named_weights();
  load_model_weights(weights, c.folder / "weights.safetensors");

  const TensorMap inputs = read_tensors(c, "inputs");
  const ModelOutput output = model->forward(
      {inputs.at("pixel_values"), inputs.at("input_ids"), inputs.at("attention_mask").to(at::kBool)}, {});
  const auto& modality = output.logits.at(0);
  const auto& location = output.logits.at(1);
  ((modality * inputs.at("g_modality")).sum() + (location * inputs.at("g_location")).sum()).backward();
  TensorMap got{{"img_raw", output.img_raw},   {"txt_raw", output.txt_raw},   {"img_proj", output.img_proj},
                {"txt_proj", output.txt_proj}, {"logits_modality", modality}, {"logits_location", location}};
  for (const auto& weight : weights) got["grad." + weight.name] = nn::gradient(weight);

  Verdict verdict;
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
