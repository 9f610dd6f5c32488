#include "mmkd/fusion/fusion.h"
#include "mmkd/weights/load.h"
#include "tests/parity/fusion_spec.h"
#include "tests/parity/parity.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {

Verdict check_fusion(const Case& c) {
  const auto fusion = make_fusion(fusion_spec(c.config));
  load_model_weights(fusion->named_weights(), c.folder / "weights.safetensors");

  const TensorMap inputs = read_tensors(c, "inputs");
  const at::Tensor v = inputs.at("v").clone().requires_grad_();
  const at::Tensor t = inputs.at("t").clone().requires_grad_();
  TensorMap got;
  const auto output = fusion->forward(v, t, {});
  got["output"] = output.fused;
  got["route"] = output.route;
  (output.fused * inputs.at("g")).sum().backward({}, /*keep_graph=*/true);
  got["grad.v"] = v.grad().clone();
  got["grad.t"] = t.grad().clone();
  if (output.energy.defined()) {
    v.mutable_grad().zero_();
    t.mutable_grad().zero_();
    got["energy_penalty"] = energy_penalty(output.energy);
    got.at("energy_penalty").backward();
    got["grad_penalty.v"] = v.grad();
    got["grad_penalty.t"] = t.grad();
  }

  Verdict verdict;
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
