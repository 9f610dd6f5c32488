#pragma once
#include <ATen/ATen.h>

#include <vector>

namespace mmkd {

/// Tensors behind one another in one block of memory, each at an address that vector instructions like. Those of equal
/// shapes in equal order lie at equal places, whatever they hold.
struct FlatTensors {
  /// Zeros, with the shapes, type and device of `like`, which has one type and one device. On the CPU a page takes
  /// memory from when something is written to it; those of tables, with thousands of rows, do so singly.
  static FlatTensors zeros_like(const std::vector<at::Tensor>& like);

  /// Values of tensors, which have one type and one device.
  static FlatTensors copies_of(const std::vector<at::Tensor>& tensors);

  at::Tensor block;               ///< [all elements, and zeros between the tensors]
  std::vector<at::Tensor> parts;  ///< views into it
};

}  // namespace mmkd
