#include <torch/autograd.h>

#include "mmkd/train/optimizer.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {

Verdict check_optimizer(const Case& c) {
  Verdict verdict;
  const auto inputs = read_tensors(c, "inputs");
  const auto& clip = c.config.at("clip_grad_norm");
  const std::string prefix = "param.";
  std::vector<NamedTensor> parameters;
  for (const auto& [name, tensor] : inputs) {
    if (name.starts_with(prefix))
      parameters.push_back({name.substr(prefix.size()), tensor.clone().requires_grad_(true)});
  }
  AdamW optimizer(parameters, {.betas = c.config.at("betas").get<std::array<double, 2>>(),
                               .eps = c.config.at("eps"),
                               .weight_decay = c.config.at("weight_decay"),
                               .clip_norm = clip.is_null() ? 0.0 : clip.get<double>()});
  TensorMap got;
  for (int step = 1; step <= c.config.at("steps").get<int>(); ++step) {
    const auto number = std::to_string(step);
    for (auto& [name, tensor] : parameters) tensor.mutable_grad() = inputs.at("grad." + number + "." + name).clone();
    const auto norm = optimizer.step(c.config.at("lr")).norm;
    if (!clip.is_null()) got["grad_norm." + number] = norm;
    for (const auto& [name, tensor] : parameters) got["step." + number + "." + name] = tensor.detach().clone();
  }
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
