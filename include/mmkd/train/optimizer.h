#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "mmkd/dist/flat_tensors.h"
#include "mmkd/train/checkpoint.h"

namespace mmkd {

class HostShares;
class World;

struct AdamWOptions {
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  double weight_decay = 0.01;  ///< decoupled, on all parameters; 0 disables
  double clip_norm = 0.0;      ///< global gradient norm; 0 disables
};

/// AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019): what torch.optim.AdamW(fused=True)
/// gives after torch.nn.utils.clip_grad_norm_, on CUDA by torch's own kernels, on the CPU up to rounding. Nothing here
/// waits for the device.
///
/// Values and moments lie in one block of memory each, parameter behind parameter. Results do not depend on where the
/// gradients lie, which changes after the first step with several ranks.
class AdamW {
 public:
  /// Parameters: float32, on one device, named uniquely (names key the state in checkpoints), in the same order on
  /// every rank. Throws Error otherwise. The first `scaled` of them learn at `scale` times the rate. The parameters
  /// stay the same tensors, but their values move: memory that was taken from them before is theirs no longer.
  /// With `shares`, made for the same parameters, values (those of rank 0) and moments are those of all ranks, and so
  /// is the work: then this, update() and step() are collective, take gradients that lie in the shares (but those of
  /// tables) and are not averaged yet, and each rank must give them the same rates, skips and rows.
  AdamW(std::vector<NamedTensor> parameters, const AdamWOptions& options, std::size_t scaled = 0, double scale = 1,
        std::shared_ptr<const HostShares> shares = nullptr);

  struct Step {
    at::Tensor norm;  ///< [] float32 on the device: of all gradients, before clipping
    at::Tensor
        skipped;  ///< [] float32 on the device: 1 where nothing was changed, since the norm is not finite; else 0
  };
  /// One update from the parameters' gradients, which must all be there (Error names one that is not), unless one of
  /// them is not finite, or `skip` ([] float32 on the device; undefined: 0) is not 0. The gradients hold nothing
  /// meaningful afterwards. `rows_of` (may be empty) tells the rows [n] int64 of a parameter's gradient outside of
  /// which there are only zeros, so that those need not be read; rows that never had a gradient are then scaled by the
  /// decay, which is all that the formula does to them. `copy_of` (may be empty) gives the bfloat16 tensor, of the
  /// parameter's shape, that is to get the new values of a parameter on the CPU too, or an undefined one.
  using RowsOf = std::function<std::optional<at::Tensor>(const at::Tensor& parameter)>;
  using CopyOf = std::function<at::Tensor(const at::Tensor& parameter)>;
  Step step(double learning_rate, const at::Tensor& skip = {}, const RowsOf& rows_of = {}, const CopyOf& copy_of = {});
  /// step() in two parts, of which the second one, on a device, has only the device's work and may be recorded.
  void set_learning_rate(double learning_rate);
  Step update(const at::Tensor& skip = {}, const RowsOf& rows_of = {}, const CopyOf& copy_of = {});

  /// Gradients to 0 in place: the buckets of a gradient synchroniser and captured graphs keep their addresses.
  /// Those of parameters of which `is_done` says so are left alone.
  void zero_grad(const std::function<bool(const at::Tensor& parameter)>& is_done = {});

  /// State as it is now, sharing its memory: `step` ([] float32) and for each parameter `exp_avg.<name>` and
  /// `exp_avg_sq.<name>`.
  std::vector<NamedTensor> state() const;
  /// Copies of it on the CPU; of rows that were never met there are pages of zeros that take no memory.
  std::vector<NamedTensor> copied_state() const;
  /// Takes another optimizer's state, those of a checkpoint: the next step then gives the same bits as if training had
  /// never stopped. To be called before the first step. `stored` gives what belongs to an entry of state().
  using StateOf = std::function<const at::Tensor&(const NamedTensor& entry)>;
  void load_state(const StateOf& stored);
  /// Collective. All ranks get what rank 0 has loaded.
  void broadcast_state(const World& world);

  /// Values become this rank's own again, with which the use of the shares, and of this optimizer, ends. Gradients are
  /// undefined then. Without shares it does nothing.
  void leave_shares();

 private:
  void update_by_torch(const std::vector<at::Tensor>& parameters, const Step& step);
  void update_on_cpu(const std::vector<at::Tensor>& parameters, const Step& step, const RowsOf& rows_of,
                     const CopyOf& copy_of);
  std::optional<at::Tensor> divisor(const Step& step) const;

  std::vector<NamedTensor> parameters_;
  AdamWOptions options_;
  std::size_t scaled_;
  double scale_;
  double learning_rate_ = 0;
  at::Tensor rates_;  // [2] float32 on the device: of the scaled parameters, of the others
  FlatTensors values_, exp_avg_, exp_avg_sq_;
  at::Tensor step_;  // [] float32 on the device, as the kernels take it; the same for all parameters
  // On the CPU, of each parameter: which rows have moments that may be something else than 0; empty: all.
  std::vector<std::vector<bool>> met_;
  std::shared_ptr<const HostShares> shares_;
};

}  // namespace mmkd
