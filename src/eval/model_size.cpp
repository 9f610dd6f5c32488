#include "mmkd/eval/model_size.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <vector>

#include "mmkd/nn/cpu_kernels.h"
#include "mmkd/nn/linear.h"
#include "mmkd/train/precision.h"

namespace mmkd {
namespace {

/// Counts on one thread; operators that others are made of are counted at the outermost.
struct Counter {
  std::int64_t flops = 0;
  int depth = 0;  // of counted operators that are running
};
thread_local Counter* active = nullptr;

struct Counted final : at::ObserverContext {};

std::int64_t product(at::IntArrayRef sizes) {
  std::int64_t result = 1;
  for (const auto size : sizes) result *= size;
  return result;
}

/// Of a matrix product whose left operand ends in [.., M, K] and whose result has N columns.
std::int64_t matrix_flops(const at::Tensor& left, std::int64_t columns) { return 2 * left.numel() * columns; }

std::int64_t flops_of(std::string_view name, c10::ArrayRef<const c10::IValue> inputs) {
  const auto tensor = [&](std::size_t i) { return inputs[i].toTensor(); };
  if (name == "aten::linear") return matrix_flops(tensor(0), tensor(1).size(0));
  if (name == "aten::mm" || name == "aten::bmm" || name == "aten::matmul")
    return matrix_flops(tensor(0), tensor(1).size(-1));
  if (name == "aten::addmm") return matrix_flops(tensor(1), tensor(2).size(-1));
  if (name == "aten::scaled_dot_product_attention") {
    const auto q = tensor(0), k = tensor(1), v = tensor(2);  // [B, H, M, d], [B, H, N, d], [B, H, N, d']
    return 2 * q.numel() * k.size(-2) + 2 * product(q.sizes().slice(0, q.dim() - 1)) * v.size(-2) * v.size(-1);
  }
  if (name == "aten::conv2d") {
    const auto x = tensor(0), w = tensor(1);  // [B, C, H, W], [O, C / groups, k, k]
    const auto stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector(), dilation = inputs[5].toIntVector();
    std::int64_t places = x.size(0);
    for (std::size_t d = 0; d < 2; ++d) {
      const auto at = [&](const std::vector<std::int64_t>& list) { return list[std::min(d, list.size() - 1)]; };
      const auto dim = static_cast<std::int64_t>(d) + 2;
      places *= (x.size(dim) + 2 * at(padding) - at(dilation) * (w.size(dim) - 1) - 1) / at(stride) + 1;
    }
    return 2 * places * w.numel();
  }
  return -1;
}

std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function) {
  if (active == nullptr) return nullptr;
  const auto flops = flops_of(function.name(), function.inputs());
  if (flops < 0) return nullptr;
  if (active->depth++ == 0) active->flops += flops;
  return std::make_unique<Counted>();
}

void on_end(const at::RecordFunction&, at::ObserverContext* context) {
  if (context != nullptr && active != nullptr) --active->depth;
}

ModelInput one_sample(const InputSpec& input, std::int64_t tokens, at::Device device) {
  ModelInput sample;
  if (input.modality != Modality::text)
    sample.pixels = at::zeros({1, 3, input.height, input.width}, at::TensorOptions(at::kFloat).device(device));
  if (input.modality != Modality::image) {
    const std::int64_t length = tokens + input.min_padding;
    sample.input_ids = at::full({1, length}, input.pad_id, at::TensorOptions(at::kLong).device(device));
    sample.attention_mask = at::ones({1, length}, at::TensorOptions(at::kBool).device(device));
    if (input.min_padding > 0) sample.attention_mask.narrow(1, tokens, input.min_padding).fill_(false);
  }
  return sample;
}

}  // namespace

std::int64_t count_flops(const std::function<void()>& work) {
  Counter counter;
  active = &counter;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(&on_start, &on_end).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  work();
  at::removeCallback(handle);
  active = nullptr;
  return counter.flops;
}

std::int64_t flops_per_sample(MultimodalModel& model, const InputSpec& input, std::int64_t tokens) {
  const at::NoGradGuard no_grad;
  const nn::NoCpuKernels no_kernels;  // which no counter sees
  model.eval();
  const auto device = model.parameters().front().device();
  return count_flops([&] { model.forward(one_sample(input, tokens, device), {}); });
}

Latency measure_latency(MultimodalModel& model, const InputSpec& input, std::int64_t tokens, at::Device device,
                        Precision precision) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kWarmUp = 3, kRuns = 20;
  const at::NoGradGuard no_grad;
  const nn::ConstantWeights constant;
  model.eval();
  const auto sample = one_sample(input, tokens, device);
  std::vector<double> times;
  for (std::int64_t run = 0; run < kWarmUp + kRuns; ++run) {
    const auto start = Clock::now();
    {
      const AutocastGuard autocast(device.type(), precision);
      const auto output = model.forward(sample, {});
      (void)output.logits.front().to(at::kCPU);  // waits for the device
    }
    if (run >= kWarmUp) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return {.median_ms = times[times.size() / 2], .p90_ms = times[times.size() * 9 / 10], .runs = kRuns};
}

}  // namespace mmkd
