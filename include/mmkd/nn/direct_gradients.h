#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

// Gradients that operators write where they belong. Autograd makes a tensor of each, adds it to one that was filled
// with zeros before, and gives it back: four passes over memory as large as the model, and for an embedding, of whose
// rows a batch needs a few hundred, all rows each time.
namespace mmkd::nn {

/// Takes care of the gradients of matrices on the CPU, from begin_step() to end_step() on its thread. linear() and
/// embedding() then write into `.grad()`, and give autograd none; gradients that come from elsewhere are added as ever,
/// so that a parameter may have both. torch::autograd::grad() must not be called in between.
class DirectGradients {
 public:
  enum class Memory : std::uint8_t {
    kept,     ///< gradients stay where they are; parameters whose gradient is undefined are not served
    per_step  ///< but for the tables' they are made when they are written to, and undefined again from release() on
  };

  /// Of `parameters` it takes those that it can serve. `tables` are those of them of which embedding() uses rows, and
  /// into whose gradients nobody else writes: rows that no token met stay zeros, and nobody touches them. Where a
  /// table's gradient is undefined now, who defines it later gives zeros.
  DirectGradients(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& tables,
                  Memory memory = Memory::kept);
  DirectGradients(const DirectGradients&) = delete;
  DirectGradients& operator=(const DirectGradients&) = delete;
  ~DirectGradients();

  /// Whether the gradient of `parameter` is one of its: begin_step() makes it 0, nobody else has to.
  bool serves(const at::Tensor& parameter) const;

  /// All of its gradients count as 0. Their memory is not touched before something is written there.
  void begin_step();
  /// After the last backward pass: gradients that nothing was written to become zeros.
  void end_step();
  /// Nobody needs this step's gradients any more. With Memory::per_step the activations of the next step may take their
  /// memory, as they took that of this step's activations.
  void release();

  /// After end_step(), of a table that it serves: the rows that may hold something else than zeros, [n] int64; nothing
  /// where all may.
  std::optional<at::Tensor> rows_of(const at::Tensor& table) const;
  /// Makes the gradient of such a table the sum of `values` [n, D] over equal `rows` [n], in their order.
  void set_rows(const at::Tensor& table, const at::Tensor& rows, const at::Tensor& values);
  /// Somebody has written into all of its rows.
  void set_dense(const at::Tensor& table);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

struct DirectGradient {
  at::Tensor tensor;  ///< the parameter's gradient
  bool is_fresh;      ///< its values are meaningless and are to be written; otherwise they are to be added to
};

/// Where an operator's backward pass is to write the gradient of `parameter`, all of it; nothing: it returns it. With a
/// value the operator must write, and return an undefined gradient.
std::optional<DirectGradient> direct_gradient(const at::Tensor& parameter);

/// The same for an operator that adds to `rows` [n] int64 of the gradient only; what is there is meaningful.
std::optional<at::Tensor> direct_gradient_of_rows(const at::Tensor& parameter, const at::Tensor& rows);

/// Adds rows of `from` [n, D] float32 to rows `ids` [n] of `to` [V, D], in their order; those of the id `left_out` not.
void add_rows(const at::Tensor& from, const at::Tensor& ids, const at::Tensor& to, std::int64_t left_out = -1);

}  // namespace mmkd::nn
