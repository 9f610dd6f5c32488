#pragma once
#include <ATen/ATen.h>

#include <vector>

namespace mmkd {

// B batch, S text tokens, Dv/Dt widths of the towers, D fusion width, K classes of a task

/// One tower pair's inputs for a batch, on the model's device.
struct ModelInput {
  at::Tensor pixels;          ///< [B, 3, H, W] float32, normalised
  at::Tensor input_ids;       ///< [B, S] int64, right-padded
  at::Tensor attention_mask;  ///< [B, S] bool, true at real tokens
  /// [B] int64, always on the CPU: real tokens of each text. Undefined where they aren't known, or a text holds the
  /// padding token itself.
  at::Tensor text_lengths;
  at::Tensor has_image, has_text;  ///< [B] bool: false where that modality is missing; undefined: none is
};

/// What a model of one modality does not have is undefined.
struct ModelOutput {
  at::Tensor img_raw, txt_raw;     ///< [B, Dv], [B, Dt] backbone CLS or pooled features
  at::Tensor img_proj, txt_proj;   ///< [B, D] projected to the fusion width
  std::vector<at::Tensor> logits;  ///< [B, K_task] each, in the order of the tasks
  at::Tensor energy;               ///< [B] float32, expected energy of the fusion's routes; undefined without
  at::Tensor route;                ///< [B] int64, route that the fusion took; undefined without
};

}  // namespace mmkd
