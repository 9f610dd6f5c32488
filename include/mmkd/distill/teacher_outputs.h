#pragma once
#include <ATen/ATen.h>

#include <vector>

namespace mmkd {

/// What the teacher gave for the rows of a batch, computed live or read from the teacher cache; no gradients.
/// B batch, Dv/Dt widths of the teacher's towers, D its fusion width, K classes of a task
struct TeacherOutputs {
  at::Tensor img_raw, txt_raw;     ///< [B, Dv], [B, Dt] backbone features; any floating type
  at::Tensor img_proj, txt_proj;   ///< [B, D] projected to the teacher's fusion width; not used by any loss so far
  std::vector<at::Tensor> logits;  ///< [B, K_task] each, in the order of the tasks
};

/// All of them that are defined.
std::vector<at::Tensor*> tensors_of(TeacherOutputs& outputs);

/// What several teachers (at least one) say together: the mean of their logits, and the features of the first.
TeacherOutputs joined(std::vector<TeacherOutputs> outputs);

}  // namespace mmkd
