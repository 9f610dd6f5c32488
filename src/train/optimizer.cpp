#include "mmkd/train/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "gradient_norm.h"
#include "host_shares.h"
#include "mmkd/base/error.h"
#include "mmkd/kernels/adamw.h"
#include "named_values.h"

namespace mmkd {
namespace {

void check_parameters(const std::vector<NamedTensor>& parameters) {
  if (parameters.empty()) throw Error("optimizer: there are no parameters to train");
  std::set<std::string> names;
  for (const auto& [name, tensor] : parameters) {
    if (!names.insert(name).second) throw Error("optimizer: two parameters have the name {}", name);
    if (tensor.scalar_type() != at::kFloat) {
      throw Error("optimizer: parameter {} has type {}; float32 is expected", name,
                  c10::toString(tensor.scalar_type()));
    }
    if (tensor.device() != parameters.front().tensor.device()) {
      throw Error("optimizer: parameter {} lies on {}, parameter {} on {}; all must be on one device", name,
                  tensor.device().str(), parameters.front().name, parameters.front().tensor.device().str());
    }
  }
}

/// Which rows of a matrix hold something else than zeros, in either moment.
std::vector<bool> rows_with_moments(const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq) {
  const at::Tensor any = exp_avg.ne(0).any(1).logical_or_(exp_avg_sq.ne(0).any(1));
  const auto* row = any.const_data_ptr<bool>();
  return std::vector<bool>(row, row + any.numel());
}

at::Tensor numbers_of(const std::vector<bool>& rows) {
  std::vector<std::int64_t> numbers;
  for (std::size_t row = 0; row < rows.size(); ++row)
    if (rows[row]) numbers.push_back(static_cast<std::int64_t>(row));
  return at::tensor(numbers, at::kLong);
}

void copy_rows(const at::Tensor& from, const at::Tensor& into, const at::Tensor& rows) {
  into.index_copy_(0, rows, from.index_select(0, rows));
}

}  // namespace

AdamW::AdamW(std::vector<NamedTensor> parameters, const AdamWOptions& options, std::size_t scaled, double scale,
             std::shared_ptr<const HostShares> shares)
    : parameters_(std::move(parameters)),
      options_(options),
      scaled_(scaled),
      scale_(scale),
      shares_(std::move(shares)) {
  check_parameters(parameters_);
  const at::NoGradGuard no_grad;
  const auto tensors = values(parameters_);
  if (shares_) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto& shared = shares_->parameters().at(i);
      if (shares_->world().rank() == 0) shared.value.copy_(tensors[i]);
      values_.parts.push_back(shared.value);
      exp_avg_.parts.push_back(shared.exp_avg);
      exp_avg_sq_.parts.push_back(shared.exp_avg_sq);
    }
    shares_->meet();
  } else {
    values_ = FlatTensors::copies_of(tensors);
    exp_avg_ = FlatTensors::zeros_like(tensors);
    exp_avg_sq_ = FlatTensors::zeros_like(tensors);
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].set_data(values_.parts[i]);
    const bool has_rows = tensors[i].dim() == 2 && tensors[i].is_cpu();
    met_.emplace_back(has_rows ? static_cast<std::size_t>(tensors[i].size(0)) : 0, false);
  }
  step_ = at::zeros({}, tensors.front().options().requires_grad(false));
  rates_ = at::zeros({2}, step_.options());
}

/// What gradients are divided by, in the kernels that read them, rather than in a pass of its own. It is exactly 1
/// where nothing is to be clipped.
std::optional<at::Tensor> AdamW::divisor(const Step& step) const {
  if (options_.clip_norm <= 0) return std::nullopt;
  return ((step.norm + 1e-6) / options_.clip_norm).clamp_min(1.0);
}

void AdamW::update_by_torch(const std::vector<at::Tensor>& parameters, const Step& step) {
  const auto all = std::ssize(parameters), scaled = static_cast<std::ptrdiff_t>(scaled_);
  for (const auto& [begin, end, rate] :
       {std::tuple(std::ptrdiff_t{0}, scaled, rates_[0]), std::tuple(scaled, all, rates_[1])}) {
    if (begin == end) continue;
    const auto part = [begin = begin, end = end](const std::vector<at::Tensor>& tensors) {
      return std::vector<at::Tensor>(tensors.begin() + begin, tensors.begin() + end);
    };
    const auto values = part(parameters);
    std::vector<at::Tensor> gradients;
    gradients.reserve(values.size());
    for (const auto& value : values) gradients.push_back(value.grad());
    const std::vector<at::Tensor> steps(values.size(), step_);
    at::_fused_adamw_(values, gradients, part(exp_avg_.parts), part(exp_avg_sq_.parts), /*max_exp_avg_sqs=*/{}, steps,
                      rate, options_.betas[0], options_.betas[1], options_.weight_decay, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false, divisor(step), step.skipped);
  }
}

namespace {

using Range = HostShares::Range;

/// Divides parameters into pieces of about the same work.
class Pieces {
 public:
  explicit Pieces(std::vector<kernels::AdamWPiece>& pieces) : pieces_(pieces) {}

  void add_whole(const kernels::AdamWPiece& whole, const std::vector<Range>& ranges) {
    for (const auto& [begin, end] : ranges) add(whole, begin, end, true, true);
  }

  /// Rows of `width`: those in `rows` have gradients, others zeros; those in `met` have moments. Ranges are of whole
  /// rows.
  void add_rows(const kernels::AdamWPiece& whole, std::int64_t width, const at::Tensor& rows,
                const std::vector<bool>& met, const std::vector<Range>& ranges) {
    std::vector<bool> now(met.size(), false);
    const auto* row = rows.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < rows.numel(); ++i) now[static_cast<std::size_t>(row[i])] = true;
    for (const auto& range : ranges) {
      const auto last = static_cast<std::size_t>(range.end / width);
      for (auto begin = static_cast<std::size_t>(range.begin / width); begin < last;) {
        std::size_t end = begin + 1;
        while (end < last && met[end] == met[begin] && now[end] == now[begin]) ++end;
        add(whole, static_cast<std::int64_t>(begin) * width, static_cast<std::int64_t>(end) * width, now[begin],
            met[begin]);
        begin = end;
      }
    }
  }

 private:
  void add(const kernels::AdamWPiece& whole, std::int64_t begin, std::int64_t end, bool has_gradient,
           bool has_moments) {
    constexpr std::int64_t kMost = 8192;  // elements
    for (; begin < end; begin += kMost) {
      kernels::AdamWPiece piece = whole;
      piece.value += begin;
      piece.gradient = has_gradient ? piece.gradient + begin : nullptr;
      piece.exp_avg = has_moments ? piece.exp_avg + begin : nullptr;
      piece.exp_avg_sq = has_moments ? piece.exp_avg_sq + begin : nullptr;
      piece.narrow = piece.narrow != nullptr ? piece.narrow + begin : nullptr;
      piece.count = std::min(kMost, end - begin);
      pieces_.push_back(piece);
    }
  }

  std::vector<kernels::AdamWPiece>& pieces_;
};

}  // namespace

void AdamW::update_on_cpu(const std::vector<at::Tensor>& parameters, const Step& step, const RowsOf& rows_of,
                          const CopyOf& copy_of) {
  if (step.skipped.item<float>() != 0) return;
  const auto clipped = divisor(step);
  const kernels::AdamWNumbers numbers{.beta1 = options_.betas[0],
                                      .beta2 = options_.betas[1],
                                      .eps = options_.eps,
                                      .weight_decay = options_.weight_decay,
                                      .step = step_.item<float>(),
                                      .divisor = clipped ? clipped->item<float>() : 1};
  const auto factors = kernels::adamw_factors(numbers, learning_rate_);
  const auto scaled_factors = kernels::adamw_factors(numbers, learning_rate_ * scale_);
  std::vector<kernels::AdamWPiece> list;
  Pieces pieces(list);
  std::vector<at::Tensor> gradients;  // held while they are read
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    gradients.push_back(parameters[i].grad().contiguous());
    const at::Tensor copy = copy_of ? copy_of(parameters[i]) : at::Tensor();
    const kernels::AdamWPiece whole{.value = values_.parts[i].mutable_data_ptr<float>(),
                                    .gradient = gradients.back().const_data_ptr<float>(),
                                    .exp_avg = exp_avg_.parts[i].mutable_data_ptr<float>(),
                                    .exp_avg_sq = exp_avg_sq_.parts[i].mutable_data_ptr<float>(),
                                    .factors = i < scaled_ ? &scaled_factors : &factors,
                                    .narrow = copy.defined() ? static_cast<std::uint16_t*>(copy.data_ptr()) : nullptr};
    const auto ranges = shares_ ? shares_->parameters()[i].mine : std::vector<Range>{{0, parameters[i].numel()}};
    auto& met = met_[i];
    const auto rows = rows_of && !met.empty() ? rows_of(parameters[i]) : std::nullopt;
    if (!rows) {
      met.clear();
      pieces.add_whole(whole, ranges);
      continue;
    }
    const auto* row = rows->const_data_ptr<std::int64_t>();
    for (std::int64_t r = 0; r < rows->numel(); ++r) met[static_cast<std::size_t>(row[r])] = true;
    pieces.add_rows(whole, parameters[i].size(1), *rows, met, ranges);
  }
  // Pieces differ in their work, so each thread takes the next ones when it has finished some.
  constexpr std::size_t kAtOnce = 16;
  std::atomic<std::size_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t /*begin*/, std::int64_t /*end*/) {
    for (auto begin = next.fetch_add(kAtOnce); begin < list.size(); begin = next.fetch_add(kAtOnce)) {
      const auto end = std::min(begin + kAtOnce, list.size());
      for (auto p = begin; p < end; ++p) kernels::adamw_update(list[p]);
    }
  });
}

void AdamW::set_learning_rate(double learning_rate) {
  const at::NoGradGuard no_grad;
  learning_rate_ = learning_rate;
  if (step_.is_cpu()) return;
  rates_[0].fill_(learning_rate * scale_);
  rates_[1].fill_(learning_rate);
}

AdamW::Step AdamW::step(double learning_rate, const at::Tensor& skip, const RowsOf& rows_of, const CopyOf& copy_of) {
  set_learning_rate(learning_rate);
  return update(skip, rows_of, copy_of);
}

AdamW::Step AdamW::update(const at::Tensor& skip, const RowsOf& rows_of, const CopyOf& copy_of) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parameters;
  for (const auto& [name, tensor] : parameters_) {
    if (!tensor.grad().defined()) throw Error("optimizer: parameter {} has no gradient; no loss depends on it", name);
    parameters.push_back(tensor);
  }
  Step result;
  result.norm = gradient_norm(parameters, rows_of, shares_.get());
  result.skipped = at::isfinite(result.norm).logical_not().to(at::kFloat);
  if (skip.defined()) result.skipped = at::maximum(result.skipped, skip.ne(0).to(at::kFloat));
  step_.add_(1 - result.skipped);
  if (step_.is_cpu()) {
    update_on_cpu(parameters, result, rows_of, copy_of);
  } else {
    update_by_torch(parameters, result);
  }
  if (shares_) shares_->meet();
  return result;
}

void AdamW::zero_grad(const std::function<bool(const at::Tensor& parameter)>& is_done) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined() && !(is_done && is_done(parameter))) gradients.push_back(parameter.grad());
  if (!gradients.empty()) at::_foreach_zero_(gradients);
}

std::vector<NamedTensor> AdamW::state() const {
  std::vector<NamedTensor> state{{"step", step_}};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back({"exp_avg." + parameters_[i].name, exp_avg_.parts[i]});
    state.push_back({"exp_avg_sq." + parameters_[i].name, exp_avg_sq_.parts[i]});
  }
  return state;
}

std::vector<NamedTensor> AdamW::copied_state() const {
  const at::NoGradGuard no_grad;
  const auto copied = [](const at::Tensor& moment, const std::vector<bool>& met) {
    if (met.empty()) return moment.to(at::kCPU, moment.scalar_type(), false, true);
    at::Tensor rows = FlatTensors::zeros_like({moment}).parts[0];
    copy_rows(moment, rows, numbers_of(met));
    return rows;
  };
  std::vector<NamedTensor> state{{"step", step_.to(at::kCPU, step_.scalar_type(), false, true)}};
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    state.push_back({"exp_avg." + parameters_[i].name, copied(exp_avg_.parts[i], met_[i])});
    state.push_back({"exp_avg_sq." + parameters_[i].name, copied(exp_avg_sq_.parts[i], met_[i])});
  }
  return state;
}

void AdamW::load_state(const StateOf& stored) {
  const at::NoGradGuard no_grad;
  const auto entries = state();
  step_.copy_(stored(entries[0]));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor &exp_avg = stored(entries[1 + 2 * i]), &exp_avg_sq = stored(entries[2 + 2 * i]);
    if (exp_avg_.parts[i].dim() != 2 || !exp_avg_.parts[i].is_cpu()) {
      exp_avg_.parts[i].copy_(exp_avg);
      exp_avg_sq_.parts[i].copy_(exp_avg_sq);
      continue;
    }
    // Others stay the zeros that they are, without memory.
    met_[i] = rows_with_moments(exp_avg, exp_avg_sq);
    const at::Tensor rows = numbers_of(met_[i]);
    copy_rows(exp_avg, exp_avg_.parts[i], rows);
    copy_rows(exp_avg_sq, exp_avg_sq_.parts[i], rows);
  }
}

void AdamW::broadcast_state(const World& world) {
  const at::NoGradGuard no_grad;
  world.broadcast(step_, 0);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor exp_avg = exp_avg_.parts[i], exp_avg_sq = exp_avg_sq_.parts[i];
    if (met_[i].empty()) {
      if (shares_) continue;
      for (auto* moment : {&exp_avg, &exp_avg_sq}) world.broadcast(*moment, 0);
      continue;
    }
    at::Tensor met = at::zeros({std::ssize(met_[i])}, at::kByte);
    auto* row = met.mutable_data_ptr<std::uint8_t>();
    for (std::size_t r = 0; r < met_[i].size(); ++r) row[r] = met_[i][r] ? 1 : 0;
    world.broadcast(met, 0);
    for (std::size_t r = 0; r < met_[i].size(); ++r) met_[i][r] = row[r] != 0;
    if (shares_) continue;
    const at::Tensor rows = numbers_of(met_[i]);
    for (auto* moment : {&exp_avg, &exp_avg_sq}) {
      at::Tensor values = moment->index_select(0, rows);
      world.broadcast(values, 0);
      moment->index_copy_(0, rows, values);
    }
  }
}

void AdamW::leave_shares() {
  if (!shares_) return;
  const at::NoGradGuard no_grad;
  const auto tensors = values(parameters_);
  values_ = FlatTensors::copies_of(tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].set_data(values_.parts[i]);
    tensors[i].mutable_grad() = at::Tensor();
  }
  exp_avg_ = exp_avg_sq_ = {};
  shares_.reset();
}

}  // namespace mmkd
