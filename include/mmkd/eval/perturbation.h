#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/train/batch.h"

namespace mmkd {

/// A disturbance of the inputs that a robustness study evaluates under. Random numbers are keyed by seed and sample.
struct Perturbation {
  enum class Kind {
    none,
    mismatched_text,  ///< every sample gets the text of another one: a seeded derangement of the split
    noise,            ///< normal noise of deviation `strength` on the normalised pixels
    missing,          ///< each modality of each sample is missing with probability `strength`, independently
    no_image,
    no_text,
  };
  Kind kind = Kind::none;
  double strength = 0;
  std::string name() const;  ///< "noise_0.1"
  /// Can it happen to a model of this modality?
  bool concerns(Modality modality) const;
};

/// mismatched_text, noise_0.1, noise_0.2, missing_0.3, no_image, no_text
std::span<const Perturbation> standard_perturbations();

/// Before batches are made: which text each row gets.
void perturb_plans(const Perturbation& perturbation, std::uint64_t seed, std::int64_t samples,
                   std::vector<BatchPlan>& plans);
/// After: pixels and missing modalities of a batch on the CPU.
void perturb_input(const Perturbation& perturbation, std::uint64_t seed, const at::Tensor& sample_keys,
                   ModelInput& input);

}  // namespace mmkd
