#include "mmkd/config/zoo.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

using Entry = std::pair<std::string_view, std::string_view>;

constexpr std::array kVision{
    Entry{"vit-large", "google/vit-large-patch16-224"},
    Entry{"vit-base", "google/vit-base-patch16-224"},
    Entry{"tiny-vit", "google/vit-base-patch16-224-in21k"},
    Entry{"deit-base", "facebook/deit-base-distilled-patch16-224"},
    Entry{"deit-small", "facebook/deit-small-patch16-224"},
    Entry{"deit-tiny", "facebook/deit-tiny-patch16-224"},
    Entry{"mobilevit-xx-small", "apple/mobilevit-xx-small"},
    Entry{"mobilevit-x-small", "apple/mobilevit-x-small"},
    Entry{"mobilevit-small", "apple/mobilevit-small"},
    Entry{"mobilenet-v2", "google/mobilenet_v2_1.0_224"},
};
constexpr std::array kText{
    Entry{"bio-clinical-bert", "emilyalsentzer/Bio_ClinicalBERT"},
    Entry{"distilbert", "distilbert-base-uncased"},
    Entry{"minilm", "nreimers/MiniLM-L6-H384-uncased"},
    Entry{"bert-mini", "prajjwal1/bert-mini"},
    Entry{"bert-tiny", "prajjwal1/bert-tiny"},
    Entry{"mobile-bert", "google/mobilebert-uncased"},
};
/// Names that configs of the original system hold and that no published checkpoint has.
constexpr std::array<std::string_view, 2> kWithoutCheckpoint{"mobilevit-medium", "efficientvit-b0"};

std::string_view what(TowerKind kind) { return kind == TowerKind::vision ? "vision" : "text"; }

std::string replaced(std::string text, char from, const std::string& to) {
  const auto at = text.find(from);
  if (at != std::string::npos) text.replace(at, 1, to);
  return text;
}

/// The snapshot of a model in the layout of the Hugging Face cache, if there is one.
std::optional<fs::path> snapshot(const fs::path& model) {
  const fs::path snapshots = model / "snapshots";
  if (!fs::is_directory(snapshots)) return std::nullopt;
  const fs::path ref = model / "refs" / "main";
  if (fs::is_regular_file(ref)) {
    std::string revision = read_file(ref, 4096);
    while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back())) != 0) revision.pop_back();
    if (!revision.empty() && revision.find('/') == std::string::npos && fs::is_directory(snapshots / revision))
      return snapshots / revision;
  }
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(snapshots)) {
    if (entry.is_directory()) all.push_back(entry.path());
  }
  if (all.empty()) return std::nullopt;
  return *std::max_element(all.begin(), all.end(), [](const fs::path& a, const fs::path& b) {
    return std::pair(fs::last_write_time(a), a) < std::pair(fs::last_write_time(b), b);
  });
}

bool is_model_folder(const fs::path& path) { return fs::is_regular_file(path / "config.json"); }

}  // namespace

std::optional<std::string> zoo_id(TowerKind kind, const std::string& name) {
  if (std::find(kWithoutCheckpoint.begin(), kWithoutCheckpoint.end(), name) != kWithoutCheckpoint.end()) {
    throw UsageError(
        "{} tower '{}': no published checkpoint has this name (the original system listed it, but it never existed). "
        "Choose another "
        "tower, e.g. mobilevit-small.",
        what(kind), name);
  }
  const auto find = [&](const auto& zoo) -> std::optional<std::string> {
    for (const auto& [friendly, id] : zoo) {
      if (friendly == name) return std::string(id);
    }
    return std::nullopt;
  };
  return kind == TowerKind::vision ? find(kVision) : find(kText);
}

fs::path default_hf_home() {
  if (const char* home = std::getenv("HF_HOME"); home != nullptr && *home != '\0') return home;
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "." : home) / ".cache" / "huggingface";
}

fs::path resolve_model_folder(TowerKind kind, const std::string& name, const fs::path& weights_root,
                              const fs::path& hf_home) {
  const auto id = zoo_id(kind, name);
  std::vector<fs::path> looked;
  const auto check = [&](const fs::path& path) {
    looked.push_back(path);
    return is_model_folder(path);
  };
  if (!id && check(name)) return name;
  const std::string full = id.value_or(name);
  if (!weights_root.empty()) {
    for (const auto& candidate : {weights_root / full, weights_root / replaced(full, '/', "--"),
                                  weights_root / fs::path(full).filename(), weights_root / name}) {
      if (check(candidate)) return candidate;
    }
  }
  const fs::path cached = hf_home / "hub" / ("models--" + replaced(full, '/', "--"));
  const auto found = snapshot(cached);
  if (check(found.value_or(cached / "snapshots" / "<revision>"))) return *found;
  std::string places;
  for (const auto& path : looked) places += fmt::format("\n  {}", path.string());
  throw UsageError(
      "{} tower '{}'{}: no local folder with its config.json was found. Looked for:{}\nGet config.json, "
      "model.safetensors{} of {} and put "
      "them into one of these folders (weights.root names a folder of your own; nothing is downloaded).",
      what(kind), name, id ? " (" + *id + ")" : "", places,
      kind == TowerKind::vision ? " and preprocessor_config.json" : ", vocab.txt and tokenizer_config.json", full);
}

}  // namespace mmkd
