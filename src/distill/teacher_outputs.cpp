#include "mmkd/distill/teacher_outputs.h"

namespace mmkd {

std::vector<at::Tensor*> tensors_of(TeacherOutputs& outputs) {
  std::vector<at::Tensor*> all{&outputs.img_raw, &outputs.txt_raw, &outputs.img_proj, &outputs.txt_proj};
  for (auto& logits : outputs.logits) all.push_back(&logits);
  std::erase_if(all, [](const at::Tensor* tensor) { return !tensor->defined(); });
  return all;
}

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
