#include "mmkd/distill/teacher_outputs.h"

namespace mmkd {

TeacherOutputs joined(std::vector<TeacherOutputs> outputs) {
  TeacherOutputs all = std::move(outputs.at(0));
  if (outputs.size() == 1) return all;
  for (std::size_t task = 0; task < all.logits.size(); ++task) {
    at::Tensor sum = all.logits[task].to(at::kFloat);
    for (std::size_t teacher = 1; teacher < outputs.size(); ++teacher)
      sum = sum + outputs[teacher].logits.at(task).to(at::kFloat);
    all.logits[task] = sum / static_cast<double>(outputs.size());
  }
  return all;
}

}  // namespace mmkd
