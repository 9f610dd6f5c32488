#include "mmkd/weights/load.h"

#include <fmt/ranges.h>

#include <set>

#include "mmkd/base/error.h"
#include "mmkd/weights/checkpoint.h"

namespace mmkd {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

/// What is wrong with a file, said at once.
class Problems {
 public:
  void add(std::string problem) { problems_.push_back(std::move(problem)); }

  void throw_if_any(const Checkpoint& checkpoint) const {
    if (problems_.empty()) return;
    constexpr std::size_t kShown = 60;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, problems_.size()); ++i) text += "\n  " + problems_[i];
    if (problems_.size() > kShown) text += fmt::format("\n  and {} more", problems_.size() - kShown);
    throw Error("{}: the weights do not fit the model ({} problem{}):{}", checkpoint.path().string(), problems_.size(),
                problems_.size() == 1 ? "" : "s", text);
  }

 private:
  std::vector<std::string> problems_;
};

/// Entry name -> name in the checkpoint. Two names for one entry are a problem.
class Sources {
 public:
  void add(const std::string& entry, const std::string& stored, Problems& problems) {
    const auto [place, added] = stored_.emplace(entry, stored);
    if (!added) problems.add(fmt::format("twice: '{}' and '{}' are both {}", place->second, stored, entry));
  }
  const std::string* find(const std::string& entry) const {
    const auto found = stored_.find(entry);
    return found == stored_.end() ? nullptr : &found->second;
  }
  const std::map<std::string, std::string>& all() const { return stored_; }

 private:
  std::map<std::string, std::string> stored_;
};

std::string wrong_shape(const nn::WeightEntry& entry, at::IntArrayRef found) {
  const at::IntArrayRef expected = entry.view.sizes();
  const bool only_rows_differ = found.size() == 2 && expected.size() == 2 && found[1] == expected[1];
  if (only_rows_differ && entry.name.ends_with("word_embeddings.weight")) {
    return fmt::format(
        "wrong vocabulary: {}: the checkpoint has {} rows, the tokenizer has {} tokens; use the tokenizer that belongs "
        "to "
        "these weights",
        entry.name, found[0], expected[0]);
  }
  return fmt::format("wrong shape: {}: expected {}, found {}", entry.name, shape_text(expected), shape_text(found));
}

void check_entry(const nn::WeightEntry& entry, const std::string& stored, const Checkpoint& checkpoint,
                 Problems& problems) {
  const auto& shape = checkpoint.shape(stored);
  if (entry.view.sizes() != at::IntArrayRef(shape)) {
    problems.add(wrong_shape(entry, shape));
    return;
  }
  const DType found = checkpoint.dtype(stored);
  const bool floating = found == DType::f64 || found == DType::f32 || found == DType::f16 || found == DType::bf16;
  if (entry.view.is_floating_point() && !floating) {
    problems.add(fmt::format("wrong type: {}: expected floating-point numbers, found {}", entry.name, name(found)));
  }
}

/// Checks that every entry has its tensor and every tensor its entry.
void check(std::span<const nn::WeightEntry> entries, const Sources& sources, const Checkpoint& checkpoint,
           Problems& problems) {
  std::set<std::string> known;
  for (const auto& entry : entries) {
    known.insert(entry.name);
    const std::string* stored = sources.find(entry.name);
    if (stored == nullptr) {
      problems.add(fmt::format("missing: {} {}", entry.name, shape_text(entry.view.sizes())));
    } else {
      check_entry(entry, *stored, checkpoint, problems);
    }
  }
  for (const auto& [entry, stored] : sources.all()) {
    if (!known.contains(entry)) {
      problems.add(fmt::format("not known: {} {}", stored, shape_text(checkpoint.shape(stored))));
    }
  }
  problems.throw_if_any(checkpoint);
}

void copy(std::span<const nn::WeightEntry> entries, const Sources& sources, const Checkpoint& checkpoint) {
  const at::NoGradGuard no_grad;
  for (const auto& entry : entries) {
    at::Tensor view = entry.view;
    view.copy_(checkpoint.tensor(*sources.find(entry.name)));
  }
}

}  // namespace

void load_backbone(std::span<const nn::WeightEntry> entries, const std::filesystem::path& path,
                   const BackboneNames& names) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  Sources sources;
  Problems problems;
  for (const auto& stored : checkpoint.names()) {
    if (const auto entry = entry_name(names, stored)) sources.add(*entry, stored, problems);
  }
  check(entries, sources, checkpoint, problems);
  copy(entries, sources, checkpoint);
}

std::map<std::string, at::Tensor> load_model_weights(std::span<const nn::WeightEntry> entries,
                                                     const std::filesystem::path& path,
                                                     std::span<const Alias> aliases) {
  constexpr std::string_view kDistillation = "distill.";
  const Checkpoint checkpoint = Checkpoint::open(path);
  std::set<std::string> known;
  for (const auto& entry : entries) known.insert(entry.name);
  Sources sources;
  Problems problems;
  std::map<std::string, at::Tensor> rest;
  for (const auto& stored : checkpoint.names()) {
    if (stored.ends_with(".num_batches_tracked")) continue;  // a counter of batch norms, which nothing uses
    const std::string entry = known.contains(stored) ? stored : rename(aliases, stored);
    if (!known.contains(entry) && entry.rfind(kDistillation, 0) == 0) {
      rest.emplace(entry, checkpoint.tensor(stored).clone());
    } else {
      sources.add(entry, stored, problems);
    }
  }
  check(entries, sources, checkpoint, problems);
  copy(entries, sources, checkpoint);
  return rest;
}

}  // namespace mmkd
