#include "mmkd/weights/names.h"

#include <algorithm>

namespace mmkd {
namespace {

std::optional<std::string> renamed_by(const Alias& alias, std::string_view name) {
  const std::size_t star = alias.from.find('*');
  if (star == std::string::npos) {
    if (!name.starts_with(alias.from)) return std::nullopt;
    return alias.to + std::string(name.substr(alias.from.size()));
  }
  const std::string_view before = std::string_view(alias.from).substr(0, star);
  const std::string_view after = std::string_view(alias.from).substr(star + 1);
  if (!name.starts_with(before)) return std::nullopt;
  const std::string_view rest = name.substr(before.size());
  const std::string_view component = rest.substr(0, rest.find('.'));
  if (component.empty() || !rest.substr(component.size()).starts_with(after)) return std::nullopt;
  std::string renamed = alias.to;
  renamed.replace(renamed.find('*'), 1, component);
  return renamed + std::string(rest.substr(component.size() + after.size()));
}

/// ViT and DeiT as transformers 5 names them in memory (state_dict() without save_pretrained).
std::vector<Alias> vit_in_memory_names(const std::string& prefix) {
  std::vector<Alias> aliases{
      {"layers.*.attention.q_proj.", "encoder.layer.*.attention.attention.query."},
      {"layers.*.attention.k_proj.", "encoder.layer.*.attention.attention.key."},
      {"layers.*.attention.v_proj.", "encoder.layer.*.attention.attention.value."},
      {"layers.*.attention.o_proj.", "encoder.layer.*.attention.output.dense."},
      {"layers.*.mlp.fc1.", "encoder.layer.*.intermediate.dense."},
      {"layers.*.mlp.fc2.", "encoder.layer.*.output.dense."},
      {"layers.*.layernorm_before.", "encoder.layer.*.layernorm_before."},
      {"layers.*.layernorm_after.", "encoder.layer.*.layernorm_after."},
  };
  for (auto& alias : aliases) alias = {prefix + alias.from, prefix + alias.to};
  return aliases;
}

}  // namespace

std::string rename(std::span<const Alias> aliases, const std::string& name) {
  for (const auto& alias : aliases) {
    if (auto renamed = renamed_by(alias, name)) return *renamed;
  }
  return name;
}

BackboneNames names_of(VisionFamily family) {
  switch (family) {
    case VisionFamily::vit:
      return {"vit.", vit_in_memory_names(""), {"pooler.", "classifier.", "decoder.", "embeddings.mask_token"}};
    case VisionFamily::deit:
      return {"deit.",
              vit_in_memory_names(""),
              {"pooler.", "classifier.", "cls_classifier.", "distillation_classifier.", "decoder.",
               "embeddings.mask_token"}};
    case VisionFamily::mobilevit:
      return {"mobilevit.", {}, {"classifier."}, {".num_batches_tracked"}};
    case VisionFamily::mobilenet_v2:
      return {"mobilenet_v2.", {}, {"classifier."}, {".num_batches_tracked"}};
  }
  return {};
}

BackboneNames names_of(TextFamily family) {
  BackboneNames names{"",
                      {},
                      {"embeddings.position_ids", "embeddings.token_type_ids", "pooler.", "cls.", "vocab_", "lm_head.",
                       "classifier.", "pre_classifier.", "qa_outputs."}};
  switch (family) {
    case TextFamily::bert:
      names.prefix = "bert.";
      break;
    case TextFamily::distilbert:
      names.prefix = "distilbert.";
      break;
    case TextFamily::mobilebert:
      names.prefix = "mobilebert.";
      break;
    case TextFamily::roberta:
      names.prefix = "roberta.";
      break;
    case TextFamily::custom_text:
      break;
  }
  return names;
}

std::optional<std::string> entry_name(const BackboneNames& names, const std::string& checkpoint_name) {
  std::string name = checkpoint_name;
  if (name.starts_with(names.prefix)) name.erase(0, names.prefix.size());
  const auto begins = [&](const std::string& beginning) { return name.starts_with(beginning); };
  const auto ends = [&](const std::string& ending) { return name.ends_with(ending); };
  if (std::any_of(names.ignored.begin(), names.ignored.end(), begins)) return std::nullopt;
  if (std::any_of(names.ignored_endings.begin(), names.ignored_endings.end(), ends)) return std::nullopt;
  name = rename(names.aliases, name);
  for (const auto& [legacy, current] :
       {std::pair{"LayerNorm.gamma", "LayerNorm.weight"}, {"LayerNorm.beta", "LayerNorm.bias"}}) {
    if (name.ends_with(legacy)) name.replace(name.size() - std::string_view(legacy).size(), std::string::npos, current);
  }
  return name;
}

std::vector<Alias> two_tower_aliases(std::span<const std::string> task_slugs) {
  std::vector<Alias> aliases = vit_in_memory_names("vision.");
  aliases.push_back({"fusion.layers.", "fusion.encoder.layers."});
  const char* heads[] = {"head_mod.", "head_loc."};
  for (std::size_t task = 0; task < std::min(task_slugs.size(), std::size(heads)); ++task) {
    aliases.push_back({heads[task], "head_" + task_slugs[task] + ".head.1."});
  }
  aliases.push_back({"kd.P_img.", "distill.proj_img."});
  aliases.push_back({"kd.P_txt.", "distill.proj_txt."});
  return aliases;
}

}  // namespace mmkd
