#pragma once
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/dist/device_graph.h"

// A device without hardware, to try what is written for GPUs: its memory is the machine's and its operators are the
// CPU's, but to everything above the dispatcher it is another device. It counts what the host waits for, refuses what a
// GPU would (operands on two devices, copies while work is recorded), and records work as CUDA graphs do: operators
// with the addresses of their operands, and numbers as they were. Include it in one file of a program.
namespace mmkd::testing {

inline constexpr at::DeviceType kFakeDeviceType = at::kHPU;
inline const at::Device kFakeDevice(kFakeDeviceType, 0);

struct FakeOperation {
  c10::OperatorHandle op;
  torch::jit::Stack inputs, outputs;  // tensors of the CPU that share the device's memory
  bool in_place;
};
struct FakeRecording {
  std::vector<FakeOperation> operations;
  std::set<const void*> memory;  // that was made meanwhile
};

struct FakeDeviceState {
  std::int64_t host_reads = 0;         ///< values and copies that the host waited for
  FakeRecording* recording = nullptr;  ///< of the graph that is being recorded
  std::vector<std::string> refused;    ///< what a GPU would not have done
};
inline FakeDeviceState& fake_device() {
  static FakeDeviceState state;
  return state;
}

inline void refuse(const std::string& what) {
  fake_device().refused.push_back(what);
  throw Error("the device refuses {}", what);
}

inline void count_host_read(const std::string& what) {
  if (fake_device().recording != nullptr) refuse("a read by the host of recorded work: " + what);
  ++fake_device().host_reads;
}

/// The same memory as a tensor of the other device. Each holds the other alive.
inline at::Tensor on_cpu(const at::Tensor& x) {
  if (!x.defined() || x.is_cpu()) return x;
  return at::from_blob(
      x.data_ptr(), x.sizes(), x.strides(), [x](void*) {}, at::TensorOptions(x.scalar_type()).device(at::kCPU));
}
inline at::Tensor on_fake(const at::Tensor& x) {
  if (!x.defined() || !x.is_cpu()) return x;
  return at::from_blob(
      x.data_ptr(), x.sizes(), x.strides(), [x](void*) {}, at::TensorOptions(x.scalar_type()).device(kFakeDevice),
      kFakeDevice);
}

/// `value` with `change` made to each tensor in it.
template <class Change>
c10::IValue with_tensors(const c10::IValue& value, const Change& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const auto& tensor : value.toTensorVector()) list.push_back(change(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> tensor : value.toOptionalTensorList())
      list.push_back(tensor ? std::optional(change(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

inline c10::IValue operand_on_cpu(const c10::IValue& value, const std::string& op) {
  if (value.isDevice() && value.toDevice().type() == kFakeDeviceType) return at::Device(at::kCPU);
  return with_tensors(value, [&](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.is_cpu() && tensor.dim() > 0 && op != "aten::_copy_from")
      refuse(op + " of operands on two devices");
    return on_cpu(tensor);
  });
}

/// Number of the argument that return value `i` is, or -1.
inline std::ptrdiff_t argument_returned(const c10::FunctionSchema& schema, std::size_t i) {
  const auto* alias = schema.returns()[i].alias_info();
  if (alias == nullptr || !alias->isWrite()) return -1;
  for (std::size_t a = 0; a < schema.arguments().size(); ++a) {
    const auto* of_argument = schema.arguments()[a].alias_info();
    if (of_argument != nullptr && *of_argument == *alias) return static_cast<std::ptrdiff_t>(a);
  }
  return -1;
}

inline bool writes_to_arguments(const c10::FunctionSchema& schema) {
  return std::any_of(schema.arguments().begin(), schema.arguments().end(), [](const c10::Argument& argument) {
    return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
  });
}

/// Whether the sizes of a result depend on values, which a host has to wait for.
inline bool reads_values(const std::string& op, const torch::jit::Stack& arguments) {
  for (const std::string_view name : {"aten::equal", "aten::nonzero", "aten::masked_select", "aten::_unique2"})
    if (op == name) return true;
  if (!op.starts_with("aten::index") && !op.starts_with("aten::_index")) return false;
  for (const auto& argument : arguments) {
    if (!argument.isOptionalTensorList()) continue;
    for (const std::optional<at::Tensor> index : argument.toOptionalTensorList())
      if (index && index->defined() && index->scalar_type() == at::kBool) return true;
  }
  return false;
}

/// Numbers of the arguments that get their size, and memory, from the operator: results without elements.
inline std::vector<std::size_t> grown_arguments(const c10::FunctionSchema& schema, const torch::jit::Stack& arguments) {
  std::vector<std::size_t> grown;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    if (alias != nullptr && alias->isWrite() && arguments[i].isTensor() && arguments[i].toTensor().numel() == 0)
      grown.push_back(i);
  }
  return grown;
}

/// Whether all that the operator writes to was made while recording.
inline bool writes_to_new_memory(const c10::FunctionSchema& schema, const torch::jit::Stack& inputs,
                                 const FakeRecording& recording) {
  const auto is_new = [&](const at::Tensor& tensor) {
    return !tensor.defined() || recording.memory.contains(tensor.storage().data());
  };
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    if (inputs[i].isTensor() && !is_new(inputs[i].toTensor())) return false;
    if (!inputs[i].isTensorList()) continue;
    const auto tensors = inputs[i].toTensorVector();
    if (!std::all_of(tensors.begin(), tensors.end(), is_new)) return false;
  }
  return true;
}

inline void take_memory(const at::Tensor& target, const at::Tensor& result) {
  const at::Tensor memory = on_fake(result);
  auto* const impl = target.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(memory.storage());
  impl->set_storage_offset(0);
  impl->set_sizes_and_strides(memory.sizes(), memory.strides());
}

/// Any operator.
inline void compute_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const auto& schema = op.schema();
  const auto arguments = torch::jit::pop(*stack, schema.arguments().size());
  if (reads_values(schema.name(), arguments)) count_host_read(schema.name());
  torch::jit::Stack inputs;
  for (const auto& argument : arguments) inputs.push_back(operand_on_cpu(argument, schema.name()));
  const auto grown = grown_arguments(schema, arguments);
  for (const auto i : grown) inputs[i] = at::empty({0}, inputs[i].toTensor().options());
  const bool in_place = writes_to_arguments(schema);
  auto* const recording = fake_device().recording;
  torch::jit::Stack outputs = inputs;
  // Recorded work is not done yet: what is new gets its size, and values that fit; what was there must stay as it is.
  if (recording == nullptr || !in_place || !grown.empty() || writes_to_new_memory(schema, inputs, *recording)) {
    op.callBoxed(outputs);
  } else {
    outputs.clear();
    for (std::size_t i = 0; i < schema.returns().size(); ++i)
      outputs.push_back(inputs.at(static_cast<std::size_t>(argument_returned(schema, i))));
  }
  for (const auto i : grown) take_memory(arguments[i].toTensor(), inputs[i].toTensor());
  if (recording != nullptr) {
    recording->operations.push_back({op, inputs, outputs, in_place});
    if (!in_place || !grown.empty()) {
      for (const auto& output : outputs)
        with_tensors(output, [&](const at::Tensor& tensor) {
          if (tensor.defined()) recording->memory.insert(tensor.storage().data());
          return tensor;
        });
    }
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const auto argument = argument_returned(schema, i);
    stack->push_back(argument >= 0 ? arguments.at(static_cast<std::size_t>(argument))
                                   : with_tensors(outputs[i], on_fake));
  }
}

// ---------------------------------------------------------------- operators that are another thing on a device

inline at::Tensor fake_as_strided(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef strides,
                                  std::optional<std::int64_t> offset) {
  return at::native::as_strided_tensorimpl(x, sizes, strides, offset);
}
inline at::Tensor fake_view(const at::Tensor& x, at::IntArrayRef sizes) { return at::native::view(x, sizes); }
inline at::Tensor fake_reshape_alias(const at::Tensor& x, at::IntArrayRef sizes, at::IntArrayRef strides) {
  return at::native::_reshape_alias(x, sizes, strides);
}
inline at::Scalar fake_item(const at::Tensor& x) {
  count_host_read("aten::item");
  return on_cpu(x).item();
}
inline at::Tensor fake_copy(const at::Tensor& from, const at::Tensor& to, bool /*non_blocking*/) {
  if (to.is_cpu()) count_host_read("copy to the host");
  auto* const recording = fake_device().recording;
  if (recording != nullptr && from.is_cpu() && from.dim() > 0) refuse("a copy from the host while work is recorded");
  if (recording == nullptr || recording->memory.contains(to.storage().data())) on_cpu(to).copy_(on_cpu(from));
  if (recording == nullptr) return to;
  static const auto copy = c10::Dispatcher::singleton().findSchemaOrThrow("aten::copy_", "");
  recording->operations.push_back({copy, {on_cpu(to), on_cpu(from), false}, {}, true});
  return to;
}
inline void no_stream(at::Tensor& /*x*/, c10::Stream /*stream*/) {}
inline std::int64_t plain_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                    const std::optional<at::Tensor>&, double, bool, std::optional<double>, bool) {
  return 0;  // by matrix products
}

TORCH_LIBRARY_IMPL(_, HPU, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute_on_cpu>()); }
TORCH_LIBRARY_IMPL(aten, HPU, library) {
  library.impl("as_strided", fake_as_strided);
  library.impl("view", fake_view);
  library.impl("_reshape_alias", fake_reshape_alias);
  library.impl("_local_scalar_dense", fake_item);
  library.impl("_copy_from", fake_copy);
  library.impl("_fused_sdp_choice", plain_attention);
  library.impl("record_stream", no_stream);
  // Backends without one get a composition that gives its result another shape.
  library.impl("smooth_l1_loss", torch::CppFunction::makeFromBoxedFunction<&compute_on_cpu>());
}

struct FakeHooks final : at::HPUHooksInterface {
  explicit FakeHooks(const at::HPUHooksArgs&) {}
  bool hasHPU() const override { return true; }
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex /*device*/) const override { return true; }
  at::DeviceIndex deviceCount() const override { return 1; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
  at::DeviceIndex exchangeDevice(at::DeviceIndex /*device*/) const override { return 0; }
  at::DeviceIndex maybeExchangeDevice(at::DeviceIndex /*device*/) const override { return 0; }
};
inline const bool hooks_are_registered = [] {
  at::HPUHooksRegistry()->Register(
      "HPUHooks", [](const at::HPUHooksArgs& arguments) { return std::make_unique<FakeHooks>(arguments); });
  return true;
}();

/// One device with one stream, which has always done its work.
struct FakeGuard final : c10::impl::NoOpDeviceGuardImpl<kFakeDeviceType> {
  at::Device exchangeDevice(at::Device /*device*/) const override { return kFakeDevice; }
  at::Device getDevice() const override { return kFakeDevice; }
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, kFakeDevice); }
  c10::Stream getStream(at::Device /*device*/) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(at::Device /*device*/) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(at::Device /*device*/, bool /*high_priority*/) const override { return stream(); }
  void synchronizeDevice(at::DeviceIndex /*device*/) const override {}
  c10::Stream exchangeStream(c10::Stream /*stream*/) const noexcept override { return stream(); }
  void record(void** /*event*/, const c10::Stream& /*stream*/, at::DeviceIndex /*device*/,
              c10::EventFlag /*flag*/) const override {}
  void block(void* /*event*/, const c10::Stream& /*stream*/) const override {}
  bool queryEvent(void* /*event*/) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(HPU, FakeGuard);

class FakeGraph final : public DeviceGraph {
 public:
  void begin() override { fake_device().recording = &recording_; }
  void end() override { fake_device().recording = nullptr; }
  void replay() override {
    for (const auto& operation : recording_.operations) {
      torch::jit::Stack results = operation.inputs;
      operation.op.callBoxed(results);
      if (operation.in_place) continue;
      for (std::size_t i = 0; i < results.size(); ++i) store(results[i], operation.outputs[i]);
    }
  }
  std::size_t size() const { return recording_.operations.size(); }

 private:
  static void store(const c10::IValue& from, const c10::IValue& to) {
    const auto copy = [](const at::Tensor& result, at::Tensor place) {
      if (result.defined() && result.data_ptr() != place.data_ptr()) place.copy_(result);
    };
    if (from.isTensor()) copy(from.toTensor(), to.toTensor());
    if (!from.isTensorList()) return;
    const auto results = from.toTensorList(), places = to.toTensorList();
    for (std::size_t i = 0; i < results.size(); ++i) copy(results.get(i), places.get(i));
  }
  FakeRecording recording_;
};

}  // namespace mmkd::testing
