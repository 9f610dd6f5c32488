#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <vector>

namespace mmkd::nn {

/// bfloat16 copies of weights, float32 on the CPU, that linear layers multiply with. As long as one of these lives, on
/// its thread, each is made when it is first needed, and then kept: the optimizer, which holds the new values in its
/// registers anyway, writes it too. A weight that torch has changed meanwhile is copied anew.
class WorkingWeights {
 public:
  /// Of those of `parameters` that are matrices. There must be no other at the same time.
  explicit WorkingWeights(const std::vector<at::Tensor>& parameters);
  /// Those of parameters that have a copy: the one of `copies` at the same place (undefined: none), which must hold the
  /// parameter's rounded values from the start. It is for who writes the copies to do so whenever they change: a
  /// parameter that torch changes is an Error.
  WorkingWeights(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& copies);
  WorkingWeights(const WorkingWeights&) = delete;
  WorkingWeights& operator=(const WorkingWeights&) = delete;
  ~WorkingWeights();

  /// Where who changes the values of `parameter` behind torch's back must write them too, rounded to nearest even;
  /// undefined: nowhere.
  at::Tensor copy_of(const at::Tensor& parameter) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// `weight` in `type`: the kept copy where there is one, which must not be written to.
at::Tensor working_weight(const at::Tensor& weight, at::ScalarType type);

}  // namespace mmkd::nn
