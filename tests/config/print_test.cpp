#include "mmkd/config/print.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "mmkd/base/files.h"
#include "mmkd/config/names.h"
#include "src/config/keys.h"
#include "tests/config/config_testing.h"

namespace mmkd {
namespace {

using namespace config_testing;

/// Values that differ from the defaults and are valid with the minimal configuration, by key path.
std::string other_value(const config_detail::Key& key) {
  // Valid with other keys only, or not beside others.
  for (const char* path : {"student.arch", "data.tasks", "teacher.modality", "teacher.runs"})
    if (key.path == path) return "";
  if (key.name() == "output_stride") return "16";
  if (key.name() == "hidden_sizes") return "[16, 32, 64]";
  if (key.name() == "neck_hidden_sizes") return "[8, 8, 8, 16, 16, 16, 32]";
  if (key.name() == "max_ratio") return "2";
  if (const auto* target = std::get_if<config_detail::EnumTarget>(&key.target)) {
    if (key.path == "data.type") return "wound";
    return std::string(target->names[(target->get() + 1) % target->names.size()]);
  }
  struct Other {
    const config_detail::Key& key;
    std::string operator()(bool* value) const { return *value ? "false" : "true"; }
    std::string operator()(std::int64_t* value) const { return std::to_string(*value == 0 ? 8 : *value * 2); }
    std::string operator()(double* value) const { return *value == 0.25 ? "0.5" : "0.25"; }
    std::string operator()(std::string* value) const {
      if (key.choices.empty()) return "'an \"odd\": name #1 '";
      for (const auto choice : key.choices)
        if (choice != *value) return std::string(choice);
      return "";
    }
    std::string operator()(std::filesystem::path*) const { return "./some folder/ä.x"; }
    std::string operator()(std::optional<bool>*) const { return "false"; }
    std::string operator()(std::optional<std::int64_t>*) const { return "512"; }
    std::string operator()(std::optional<double>*) const { return "0.125"; }
    std::string operator()(std::array<double, 2>*) const { return "[0.5, 0.25]"; }
    std::string operator()(std::vector<std::int64_t>*) const { return "[1, 2]"; }
    std::string operator()(std::vector<std::string>*) const { return "[a, 'b: c']"; }
    std::string operator()(std::vector<LossTerm>*) const { return "[{ce: 0.5}, {dkd: {T: 2, beta: 3}}, {mmd: 1}]"; }
    std::string operator()(std::vector<TaskConfig>*) const { return "[]"; }
    std::string operator()(const config_detail::EnumTarget&) const { return ""; }
    std::string operator()(const config_detail::IgnoredTarget&) const { return ""; }
  };
  return std::visit(Other{key}, key.target);
}

const std::string kSizedBoth =
    "data: {root: d, max_length: 64}\n"
    "teacher: {vision: {family: vit}, text: {family: bert}, tokenizer: x}\n"
    "student: {vision: {family: vit}, text: {family: bert}, tokenizer: x}\n";

/// The shortest configuration that `key` can be set in: towers have inline sizes where the key is part of a size.
Config with(const config_detail::Key& key, const std::vector<std::string>& overrides) {
  const bool size =
      key.section().find(".vision") != std::string::npos || key.section().find(".text") != std::string::npos;
  const bool named = key.shorthand == config_detail::Shorthand::alone;
  auto all = overrides;
  // A family's own section needs that family, and augmentations need views.
  const auto section = key.section();
  for (const std::string family : {"mobilevit", "mobilenet_v2", "mobilebert"}) {
    const std::string own = "." + family;
    if (section.ends_with(own))
      all.insert(all.begin(), section.substr(0, section.size() - own.size()) + "={family: " + family +
                                  (family == "mobilebert" ? ", num_attention_heads: 4}" : "}"));
  }
  if (section.starts_with("augment") && key.path != "augment.views") all.insert(all.begin(), "augment.views=2");
  return load(size && !named ? kSizedBoth : kMinimal, all).config;
}

TEST(ToYaml, OfEveryKeyLoadsToTheSame) {
  Config bound;
  int checked = 0;
  for (const auto& key : config_detail::bind_keys(bound)) {
    const std::string value = other_value(key);
    if (value.empty()) continue;
    const Config config = with(key, {key.path + "=" + value});
    const std::string yaml = to_yaml(config);
    EXPECT_EQ(parse_config(yaml, config.source.string()).config, config) << key.path << "\n" << yaml;
    EXPECT_NE(config, with(key, {})) << key.path;
    ++checked;
  }
  EXPECT_GT(checked, 100);
}

TEST(ToYaml, OfTextThatYamlCouldMisreadLoadsToTheSame) {
  for (const std::string text : {"null", "~",    "true",   "3",      "-",      "- a",    "a: b",     "a #b",
                                 " a",   "a ",   "'",      "\"",     "\\n",    "[a]",    "{a}",      "&a",
                                 "*a",   "!a",   "%a",     "@a",     "`a",     "|",      ">",        "?",
                                 "? a",  "...",  "---",    ",",      ":",      "a:",     "äöü😀",     "\x7f",
                                 "a\tb", "a\nb", "a\r\nb", "\u0085", "\u2028", "\ufeff", "a/b.c-d_e"}) {
    Config config = minimal().config;
    config.data.root = text;
    config.student.text.name = text;
    config.data.type = DatasetType::table;
    config.data.table.train = config.data.table.dev = text;
    config.data.tasks = {{"x" + text, text}, {"other", text}};
    EXPECT_EQ(parse_config(to_yaml(config), "c.yaml").config, config) << text;
  }
}

TEST(ToYaml, OfModelsThatTakeNoPartLoadsToTheSame) {
  for (const auto& config :
       {load("data: {root: d}\nteacher: {vision: a, text: b}\ntraining: {teacher_only: true}\n").config,
        load("data: {root: d}\nstudent: {vision: a, text: b}\n", {"training.teacher_epochs=0", "loss.type=ce_only"})
            .config,
        load("data: {root: d}\nteacher: {vision: a, text: b}\nstudent: {arch: custom_tiny}\n").config})
    EXPECT_EQ(parse_config(to_yaml(config), "c.yaml").config, config);
}

TEST(ToYaml, NamesANamedTowerAndSizesAnInlineOne) {
  const std::string named = to_yaml(minimal().config);
  EXPECT_NE(named.find("teacher:\n  vision: vit-base\n  text: distilbert\n  tokenizer: null\n"), std::string::npos)
      << named;
  const std::string sized = to_yaml(load(kSizedBoth).config);
  EXPECT_NE(sized.find("teacher:\n  vision:\n    family: vit\n    hidden_size: 768\n"), std::string::npos) << sized;
  EXPECT_EQ(sized.find("name:"), std::string::npos) << sized;
}

TEST(ConfigNames, RoundTripForEveryEnumValue) {
  Config bound;
  std::set<std::string> kinds;
  for (const auto& key : config_detail::bind_keys(bound)) {
    const auto* target = std::get_if<config_detail::EnumTarget>(&key.target);
    if (!target) continue;
    for (std::size_t i = 0; i < target->names.size(); ++i) {
      target->set(i);
      EXPECT_EQ(target->get(), i) << key.path;
    }
    kinds.insert(key.name());
  }
  EXPECT_EQ(to_string(DatasetType::table), "table");
  EXPECT_EQ(to_string(FusionType::shomr), "shomr");
  EXPECT_EQ(to_string(FusionType::energy_aware_adaptive), "energy_aware_adaptive");
  EXPECT_EQ(to_string(LossType::ce_only), "ce_only");
  EXPECT_EQ(to_string(VisionFamily::mobilenet_v2), "mobilenet_v2");
  EXPECT_EQ(to_string(TextFamily::roberta), "roberta");
  EXPECT_EQ(to_string(Device::automatic), "auto");
  EXPECT_EQ(to_string(StudentArch::custom_tiny), "custom_tiny");
  EXPECT_EQ(to_string(Schedule::cosine), "cosine");
  EXPECT_EQ(to_string(Precision::bf16), "bf16");
  EXPECT_EQ(to_string(OnBadSample::quarantine), "quarantine");
  EXPECT_EQ(to_string(OnBadRecord::quarantine), "quarantine");
  EXPECT_EQ(to_string(TeacherSelect::best), "best");
  EXPECT_EQ(to_string(TeacherOutputsFrom::live), "live");
  EXPECT_EQ(to_string(CacheFeatures::fp16), "fp16");
  EXPECT_EQ(to_string(TextPooling::mean), "mean");
}

TEST(ConfigNames, AreReadBackFromTheirOwnText) {
  for (const auto type : {FusionType::simple, FusionType::concat_mlp, FusionType::cross_attention, FusionType::gated,
                          FusionType::film, FusionType::modality_dropout, FusionType::transformer_concat,
                          FusionType::energy_aware_adaptive, FusionType::shomr})
    EXPECT_EQ(minimal({"fusion.type=" + std::string(to_string(type))}).config.fusion.type, type);
  for (const auto type :
       {LossType::vanilla, LossType::combined, LossType::crd, LossType::rkd, LossType::mmd, LossType::ce_only})
    EXPECT_EQ(minimal({"loss.type=" + std::string(to_string(type))}).config.loss.type, type);
}

TEST(ToJson, IsNestedLikeTheYaml) {
  const auto json = to_json(minimal({"training.T=4"}).config);
  EXPECT_EQ(json["data"]["batch_size"], 16);
  EXPECT_EQ(json["teacher"]["vision"], "vit-base");
  EXPECT_EQ(json["training"]["T"], 4.0);
  EXPECT_TRUE(json["training"]["alpha"].is_null());
  EXPECT_EQ(json["device"], "auto");
  EXPECT_EQ(to_json(load(kSizedBoth).config)["student"]["vision"]["patch_size"], 16);
}

TEST(ToJson, DiffersWhereverTheConfigurationDiffers) {
  Config bound;
  for (const auto& key : config_detail::bind_keys(bound)) {
    const std::string value = other_value(key);
    if (!value.empty()) {
      EXPECT_NE(to_json(with(key, {key.path + "=" + value})), to_json(with(key, {}))) << key.path;
    }
  }
}

TEST(ToJson, OfALossHasEveryTermWithItsConstants) {
  EXPECT_EQ(to_json(resolved_loss(minimal({"loss.type=combined"}).config)),
            nlohmann::json::parse(R"([{"ce": {"weight": 1.0}}, {"kl": {"weight": 1.0, "T": 4.0}},
                                      {"mse": {"weight": 100.0}}, {"crd": {"weight": 10.0, "tau": 0.1}}])"));
}

TEST(Subset, HoldsTheKeysAndSectionsAskedFor) {
  const Config config = minimal().config;
  EXPECT_EQ(subset(config, {"training.seed", "cache"}),
            nlohmann::json::parse(R"({"training": {"seed": 0}, "cache": {"features": "fp32"}})"));
  EXPECT_EQ(subset(config, {"teacher"})["teacher"], to_json(config)["teacher"]);
  EXPECT_EQ(subset(config, {"teacher.vision"}), nlohmann::json::parse(R"({"teacher": {"vision": "vit-base"}})"));
  EXPECT_EQ(subset(config, {}), nlohmann::json::object());
}

TEST(Subset, MatchesWholePartsOfPathsOnly) {
  EXPECT_EQ(subset(minimal().config, {"training.teacher"}),
            nlohmann::json::parse(R"({"training": {"teacher": "cached"}})"));
}

TEST(Subset, RefusesAPathThatNamesNothing) {
  EXPECT_THROW(subset(minimal().config, {"training.sede"}), std::invalid_argument);
  EXPECT_THROW(subset(minimal().config, {"train"}), std::invalid_argument);
  EXPECT_THROW(subset(minimal().config, {""}), std::invalid_argument);
}

TEST(ConfigShow, CommentsEveryValueWithItsSource) {
  const std::string shown = config_show(minimal({"training.seed=3", "device=cuda:1"}));
  for (const auto* line :
       {"  root: data                                  # c.yaml:1\n",
        "  vision: vit-base                            # c.yaml:2\n",
        "  seed: 3                                     # --set\n",
        "  batch_size: 16                              # default\n",
        "  T: null                                     # default: loss.*, else the preset of loss.type\n",
        "# loss:      {\"ce\":{\"weight\":1.0}} {\"kl\":{\"T\":2.0,\"weight\":1.0}} {\"mse\":{\"weight\":100.0}}\n",
        "# tasks:     modality (column Type), location (column Location Category)\n", "# artifacts: artifacts\n",
        "# note:      device: the index in \"cuda:1\" is ignored"})
    EXPECT_NE(shown.find(line), std::string::npos) << line << "\nin\n" << shown;
}

TEST(ConfigShow, LoadsToTheSameConfiguration) {
  const auto loaded = load(kSizedBoth, {"loss.type=combined", "training.T=3"});
  EXPECT_EQ(parse_config(config_show(loaded), "c.yaml").config, loaded.config);
}

TEST(Keys, HaveAMeaningEachAndNoneIsListedTwice) {
  Config bound;
  std::set<std::string> paths;
  for (const auto& key : config_detail::bind_keys(bound)) {
    EXPECT_TRUE(paths.insert(key.path).second) << key.path;
    EXPECT_FALSE(key.meaning.empty()) << key.path;
    EXPECT_EQ(key.meaning.find('|'), std::string::npos) << key.path << ": breaks the table of the reference";
    EXPECT_EQ(key.unset.find('|'), std::string::npos) << key.path;
  }
}

TEST(ConfigurationReference, NamesEveryKey) {
  const std::string text = configuration_reference();
  Config bound;
  for (const auto& key : config_detail::bind_keys(bound))
    EXPECT_NE(text.find("| `" + key.name() + "`"), std::string::npos) << key.path;
  EXPECT_NE(text.find("| `fusion_layers` | integer from 1 | `2` (teacher), `1` (student) |"), std::string::npos)
      << text;
}

TEST(ConfigurationReference, IsWhatTheDocumentationHolds) {
  const fs::path file = fs::path(MMKD_SOURCE_DIR) / "docs/configuration.md";
  if (std::getenv("MMKD_UPDATE_DOCS") != nullptr) write_file_atomic(file, configuration_reference());
  ASSERT_TRUE(fs::exists(file)) << "write it by running this test with MMKD_UPDATE_DOCS=1";
  EXPECT_EQ(read_file(file), configuration_reference())
      << "the list of keys has changed: run this test with MMKD_UPDATE_DOCS=1 and commit docs/configuration.md";
}

}  // namespace
}  // namespace mmkd
