#include "trained_parameters.h"

#include <string>

namespace mmkd {
namespace {

std::vector<NamedTensor> trained(const torch::nn::Module& module, const std::string& prefix) {
  std::vector<NamedTensor> parameters;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) parameters.push_back({prefix + item.key(), item.value()});
  }
  return parameters;
}

}  // namespace

std::vector<NamedTensor> joint_parameters(const TrainerParts& parts) {
  return parts.joint_teacher == nullptr ? std::vector<NamedTensor>{} : trained(*parts.joint_teacher, "teacher.");
}

std::vector<NamedTensor> parameters_of(const TrainerParts& parts) {
  auto parameters = joint_parameters(parts);
  for (const auto& more : {trained(parts.model, "model."), trained(parts.objective, "objective.")})
    parameters.insert(parameters.end(), more.begin(), more.end());
  return parameters;
}

std::vector<at::Tensor> tables_of(const TrainerParts& parts) {
  std::vector<at::Tensor> tables;
  for (const auto* model :
       {static_cast<const MultimodalModel*>(parts.joint_teacher), static_cast<const MultimodalModel*>(&parts.model)}) {
    if (model == nullptr || model->text() == nullptr) continue;
    const at::Tensor& table = model->text()->word_embeddings();
    if (table.is_cpu() && table.requires_grad()) tables.push_back(table);
  }
  return tables;
}

}  // namespace mmkd
