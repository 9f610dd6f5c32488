#include "mmkd/eval/perturbation.h"

#include <ATen/Parallel.h>

#include <array>
#include <bit>
#include <numeric>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd {
namespace {

using Kind = Perturbation::Kind;

/// What the numbers are drawn for; a part of their key.
enum class Use : std::uint64_t { derangement = 1, noise = 2, image_missing = 3, text_missing = 4 };

KeyedRng rng_of(std::uint64_t seed, Use use, std::int64_t sample_key) {
  return {seed, RngPurpose::perturb, {static_cast<std::uint64_t>(use), std::bit_cast<std::uint64_t>(sample_key)}};
}

/// Sattolo's algorithm: one cycle over all samples, so that none keeps its own.
std::vector<std::int64_t> derangement(std::uint64_t seed, std::int64_t samples) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), 0);
  KeyedRng rng(seed, RngPurpose::perturb, {static_cast<std::uint64_t>(Use::derangement)});
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i - 1)]);
  return order;
}

void add_noise(double deviation, std::uint64_t seed, const at::Tensor& keys, at::Tensor& pixels) {
  pixels = pixels.contiguous().clone();
  const std::int64_t values = pixels.numel() / pixels.size(0);
  auto* data = pixels.mutable_data_ptr<float>();
  const auto* sample_keys = keys.const_data_ptr<std::int64_t>();
  at::parallel_for(0, pixels.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      auto rng = rng_of(seed, Use::noise, sample_keys[i]);
      for (std::int64_t k = 0; k < values; ++k) data[i * values + k] += static_cast<float>(deviation * rng.normal());
    }
  });
}

/// [B] bool, false with probability `share`.
at::Tensor present(double share, std::uint64_t seed, Use use, const at::Tensor& keys) {
  at::Tensor result = at::empty({keys.size(0)}, at::kBool);
  auto* out = result.mutable_data_ptr<bool>();
  for (std::int64_t i = 0; i < keys.size(0); ++i)
    out[i] = rng_of(seed, use, keys.const_data_ptr<std::int64_t>()[i]).uniform() >= share;
  return result;
}

}  // namespace

std::string Perturbation::name() const {
  switch (kind) {
    case Kind::none:
      return "none";
    case Kind::mismatched_text:
      return "mismatched_text";
    case Kind::noise:
      return fmt::format("noise_{}", strength);
    case Kind::missing:
      return fmt::format("missing_{}", strength);
    case Kind::no_image:
      return "no_image";
    case Kind::no_text:
      return "no_text";
  }
  throw Error("perturbation {} is none of the known", static_cast<int>(kind));
}

bool Perturbation::concerns(Modality modality) const {
  if (kind == Kind::none || modality == Modality::both) return true;
  // A model of one modality has nothing left without it.
  return modality == Modality::image ? kind == Kind::noise : kind == Kind::mismatched_text;
}

std::span<const Perturbation> standard_perturbations() {
  static constexpr std::array<Perturbation, 6> kAll{{{Kind::mismatched_text, 0},
                                                     {Kind::noise, 0.1},
                                                     {Kind::noise, 0.2},
                                                     {Kind::missing, 0.3},
                                                     {Kind::no_image, 0},
                                                     {Kind::no_text, 0}}};
  return kAll;
}

void perturb_plans(const Perturbation& perturbation, std::uint64_t seed, std::int64_t samples,
                   std::vector<BatchPlan>& plans) {
  if (perturbation.kind != Kind::mismatched_text || samples < 2) return;
  const auto order = derangement(seed, samples);
  for (auto& plan : plans) {
    for (const auto row : plan.rows) plan.text_rows.push_back(order.at(static_cast<std::size_t>(row)));
  }
}

void perturb_input(const Perturbation& perturbation, std::uint64_t seed, const at::Tensor& sample_keys,
                   ModelInput& input) {
  const at::Tensor keys = sample_keys.contiguous();
  switch (perturbation.kind) {
    case Kind::none:
    case Kind::mismatched_text:
      return;
    case Kind::noise:
      if (input.pixels.defined()) add_noise(perturbation.strength, seed, keys, input.pixels);
      return;
    case Kind::missing:
      input.has_image = present(perturbation.strength, seed, Use::image_missing, keys);
      input.has_text = present(perturbation.strength, seed, Use::text_missing, keys);
      return;
    case Kind::no_image:
      input.has_image = at::zeros({keys.size(0)}, at::kBool);
      return;
    case Kind::no_text:
      input.has_text = at::zeros({keys.size(0)}, at::kBool);
      return;
  }
}

}  // namespace mmkd
