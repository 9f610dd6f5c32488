#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "mmkd/train/trainer.h"

namespace mmkd {

/// Of the joint teacher, where there is one.
std::vector<NamedTensor> joint_parameters(const TrainerParts& parts);

/// Everything that is trained, the joint teacher's parameters first.
std::vector<NamedTensor> parameters_of(const TrainerParts& parts);

/// What is trained of which batches use single rows. Elsewhere than on the CPU it is like other parameters.
std::vector<at::Tensor> tables_of(const TrainerParts& parts);

}  // namespace mmkd
