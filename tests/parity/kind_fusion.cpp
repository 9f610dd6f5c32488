#include "mmkd/fusion/fusion.h"
#include "mmkd/weights/load.h"
#include "tests/parity/fusion_spec.h"
#include "tests/parity/parity.h"
#include "tests/parity/tensors.h"

namespace mmkd::parity {

Verdict check_fusion(const Case& c) {
  const auto spec = fusion_spec(c.config);
  if (!spec) return {Verdict::Status::not_built, c.config.at("type"), 0};
  const auto fusion = make_fusion(*spec);
  load_model_weights(fusion->named_weights(), c.folder / "weights.safetensors");

  const TensorMap inputs = read_tensors(c, "inputs");
  const at::Tensor v = inputs.at("v").clone().requires_grad_();
  const at::Tensor t = inputs.at("t").clone().requires_grad_();
  TensorMap got;
  got["output"] = fusion->forward(v, t, {}).fused;
  (got.at("output") * inputs.at("g")).sum().backward();
  got["grad.v"] = v.grad();
  got["grad.t"] = t.grad();

  Verdict verdict;
  compare(c, got, read_tensors(c, "expected"), verdict);
  return verdict;
}

}  // namespace mmkd::parity
