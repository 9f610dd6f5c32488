#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "host_shares.h"
#include "mmkd/train/optimizer.h"

namespace mmkd {

/// The Euclidean norm of the gradients of all `parameters` together, [] float32 on their device. The same bits wherever
/// the gradients lie in memory, which changes after the first step with several ranks, and for any number of threads.
/// `rows_of`: as in AdamW::step(). With `shares` (may be null) collective: each rank first averages its share of the
/// gradients, which are those of the shares' parameters.
at::Tensor gradient_norm(const std::vector<at::Tensor>& parameters, const AdamW::RowsOf& rows_of,
                         const HostShares* shares);

}  // namespace mmkd
