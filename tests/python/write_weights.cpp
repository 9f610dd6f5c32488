// Writes into the folder on the command line what check_weights.py reads: a saved model, and for each family a tower
// exported as a Hugging Face folder, with inputs and the outputs that the tower gives for them.
#include <ATen/ATen.h>

#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>

#include "mmkd/backbones/text_backbone.h"
#include "mmkd/backbones/vision_backbone.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/nn/weight_entry.h"
#include "mmkd/weights/export.h"
#include "mmkd/weights/save.h"
#include "mmkd/weights/tensors.h"

namespace {

using namespace mmkd;

const fs::path kVocabulary = MMKD_SOURCE_DIR "/tests/parity/vocab/uncased.txt";
constexpr const char* kTexts[] = {"Axial CT of the abdomen.", "Pr\u00e9cis: 12-mm n\u00f3dulo, T2-weighted MR",
                                  "\u80ba CT"};

/// Initial values leave norms at one and biases at zero: noise makes every tensor count.
void fill(std::span<const nn::WeightEntry> entries) {
  nn::initialize(entries, /*seed=*/7);
  const at::NoGradGuard no_grad;
  for (const auto& entry : entries) {
    at::Tensor view = entry.view;
    view.add_(at::randn_like(view), 0.1);
  }
}

/// A picture, and what the preprocessing of `policy` makes of it: what the exported preprocessor_config.json must
/// describe.
void append_picture(const ImagePolicy& policy, std::vector<NamedTensor>& tensors) {
  const at::Tensor picture = at::randint(256, {45, 61, 3}, at::kByte);
  Image image{45, 61, {}};
  image.rgb.assign(picture.const_data_ptr<std::uint8_t>(), picture.const_data_ptr<std::uint8_t>() + picture.numel());
  const Image resized = apply_policy(image, policy);
  const PixelTable table = pixel_table(policy);
  const at::Tensor pixels = at::empty({3, resized.height, resized.width});
  auto values = pixels.accessor<float, 3>();
  std::size_t byte = 0;
  const auto channel = [&](std::int64_t c) { return policy.bgr ? 2 - c : c; };
  for (std::int64_t y = 0; y < resized.height; ++y) {
    for (std::int64_t x = 0; x < resized.width; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        values[channel(c)][y][x] = table[static_cast<std::size_t>(channel(c))][resized.rgb[byte++]];
      }
    }
  }
  tensors.push_back({"picture", picture});
  tensors.push_back({"picture_pixels", pixels});
}

/// Small sizes of every family.
VisionConfig small_vision(VisionFamily family) {
  VisionConfig config;
  config.family = family;
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.intermediate_size = 48;
  config.image_size = 32;
  config.patch_size = 8;
  if (family == VisionFamily::mobilevit) {
    config.image_size = 64;
    config.mobilevit.hidden_sizes = {16, 24, 32};
    config.mobilevit.neck_hidden_sizes = {8, 8, 12, 16, 20, 24, 40};
  }
  if (family == VisionFamily::mobilenet_v2) {
    config.image_size = 64;
    config.mobilenet_v2.depth_multiplier = 0.35;
  }
  return config;
}

/// What checkpoints of the family come with.
ImagePolicy usual_policy(const VisionConfig& config) {
  auto policy = vit_policy(config.image_size);
  if (config.family == VisionFamily::mobilevit) {
    policy.shortest_edge = config.image_size + 8;
    policy.do_center_crop = true;
    policy.crop_height = policy.crop_width = config.image_size;
    policy.do_normalize = false;
    policy.bgr = true;
  }
  if (config.family == VisionFamily::mobilenet_v2) {
    policy.shortest_edge = config.image_size + 8;
    policy.do_center_crop = true;
    policy.crop_height = policy.crop_width = config.image_size;
  }
  return policy;
}

void write_vision_tower(const fs::path& folder, VisionFamily family) {
  const auto config = small_vision(family);
  const auto policy = usual_policy(config);
  const auto tower = make_vision_backbone(config);
  const auto entries = tower->named_weights();
  fill(entries);
  const at::Tensor pixels = at::randn({3, 3, config.image_size, config.image_size});
  const auto hidden = tower->forward_features(pixels, {});
  export_vision_tower(folder / "vision", {config, entries, policy});
  std::vector<NamedTensor> tensors{
      {"pixel_values", pixels}, {"last_hidden_state", hidden}, {"features", tower->forward(pixels, {})}};
  append_picture(policy, tensors);
  save_tensors(folder / "outputs.safetensors", tensors);
}

void write_text_tower(const fs::path& folder, TextFamily family) {
  const auto tokenizer = WordPieceTokenizer::from_file(kVocabulary, {});
  TextConfig config;
  config.family = family;
  config.vocab_size = tokenizer.vocab_size();
  config.hidden_size = 32;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.intermediate_size = 48;
  config.max_position_embeddings = 40;
  if (family == TextFamily::distilbert) config.type_vocab_size = 0;
  if (family == TextFamily::roberta) config.type_vocab_size = 1;
  if (family == TextFamily::mobilebert) {
    config.mobilebert.embedding_size = 16;
    config.mobilebert.intra_bottleneck_size = 16;
    config.mobilebert.num_feedforward_networks = 2;
  }
  const auto tower = make_text_backbone(config);
  const auto entries = tower->named_weights();
  fill(entries);

  const std::int64_t rows = std::size(kTexts), length = 24;
  const at::Tensor ids = at::full({rows, length}, tokenizer.pad_id(), at::kLong);
  const at::Tensor mask = at::zeros({rows, length}, at::kBool);
  nlohmann::json tokens = nlohmann::json::array();
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto encoded = tokenizer.encode(kTexts[row], length);
    tokens.push_back({{"text", kTexts[row]}, {"ids", encoded}});
    for (std::size_t i = 0; i < encoded.size(); ++i) {
      ids[row][static_cast<std::int64_t>(i)] = encoded[i];
      mask[row][static_cast<std::int64_t>(i)] = true;
    }
  }
  const auto hidden = tower->forward_features(ids, mask, {});
  export_text_tower(folder / "text", {config, entries, read_tokenizer_text(kVocabulary), tokenizer.settings(), length});
  write_file_atomic(folder / "tokens.json", tokens.dump());
  save_tensors(folder / "outputs.safetensors", std::vector<NamedTensor>{{"input_ids", ids},
                                                                        {"attention_mask", mask},
                                                                        {"last_hidden_state", hidden},
                                                                        {"features", tower->forward(ids, mask, {})}});
}

void write_model(const fs::path& folder) {
  const at::Tensor fused = at::randn({6, 4});
  const std::vector<nn::WeightEntry> entries{
      {"b.query", fused.narrow(0, 2, 2)},     {"a.key", fused.narrow(0, 4, 2)},           {"a.transposed", fused.t()},
      {"scalar", at::tensor(2.5f).squeeze()}, {"half", at::randn({3}).to(at::kBFloat16)}, {"count", at::arange(5)}};
  save_model(folder, "model", entries, {"0.0.0", {{"Modality", {"CT", "M\u00dc"}}, {"location", {"head"}}}, ""});
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw Error("usage: write_weights FOLDER");
    const fs::path folder = argv[1];
    at::manual_seed(1);
    write_model(folder);
    write_vision_tower(folder / "vit", VisionFamily::vit);
    write_vision_tower(folder / "deit", VisionFamily::deit);
    write_vision_tower(folder / "mobilevit", VisionFamily::mobilevit);
    write_vision_tower(folder / "mobilenet_v2", VisionFamily::mobilenet_v2);
    write_text_tower(folder / "bert", TextFamily::bert);
    write_text_tower(folder / "mobilebert", TextFamily::mobilebert);
    write_text_tower(folder / "distilbert", TextFamily::distilbert);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "write_weights: " << error.what() << '\n';
    return 1;
  }
}
