#include "mpi_backend.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <pthread.h>

#include <optional>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <utility>

#include "../comm/keep_forever.h"
#include "mmkd/base/error.h"

namespace mmkd {

namespace {

std::optional<ElementType> element_type_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return ElementType::f32;
    case at::kDouble:
      return ElementType::f64;
    case at::kBFloat16:
      return ElementType::bf16;
    case at::kHalf:
      return ElementType::f16;
    case at::kLong:
      return ElementType::i64;
    case at::kInt:
      return ElementType::i32;
    case at::kByte:
      return ElementType::u8;
    case at::kBool:
      return ElementType::boolean;
    default:
      return std::nullopt;
  }
}

ElementType require_element_type(const at::Tensor& tensor) {
  if (const auto type = element_type_of(tensor.scalar_type())) return *type;
  throw Error("MPI collectives cannot reduce {}: use float32, float64, bfloat16, float16, int64, int32, uint8 or bool",
              c10::toString(tensor.scalar_type()));
}

Reduction require_reduction(const c10d::ReduceOp& op) {
  switch (op.op_) {
    case c10d::ReduceOp::SUM:
      return Reduction::sum;
    case c10d::ReduceOp::AVG:
      return Reduction::average;
    case c10d::ReduceOp::PRODUCT:
      return Reduction::product;
    case c10d::ReduceOp::MIN:
      return Reduction::min;
    case c10d::ReduceOp::MAX:
      return Reduction::max;
    default:
      break;
  }
  throw Error("MPI collectives reduce by sum, average, product, min or max, not by c10d's operator number {}",
              static_cast<int>(op.op_));
}

void require_cpu(const at::Tensor& tensor) {
  if (tensor.defined() && tensor.device().is_cpu() && tensor.layout() == at::kStrided) return;
  throw Error("MPI collectives take dense CPU tensors, found {}",
              !tensor.defined() ? std::string("an undefined one")
                                : fmt::format("a {} one on {}", tensor.layout() == at::kStrided ? "dense" : "sparse",
                                              tensor.device().str()));
}

// c10d hands lists, one entry for each device of a process.
template <class T>
T& require_one(std::vector<T>& list) {
  if (list.size() != 1) throw Error("MPI collectives take one tensor per process, found {}", list.size());
  return list.front();
}

void require_shape(bool fits, const char* what, const at::Tensor& input, const at::Tensor& output, int size) {
  if (fits && input.scalar_type() == output.scalar_type()) return;
  throw Error("{} in a world of {}: input has {} elements of {}, output {} of {}", what, size, input.numel(),
              c10::toString(input.scalar_type()), output.numel(), c10::toString(output.scalar_type()));
}

std::size_t count_of(const at::Tensor& tensor) { return static_cast<std::size_t>(tensor.numel()); }

/// `target` itself where it is contiguous, else a contiguous stand-in whose values write_back() copies to it.
class Contiguous {
 public:
  explicit Contiguous(at::Tensor target) : target_(std::move(target)), values_(target_.contiguous()) {}
  void* data() const { return values_.data_ptr(); }
  const at::Tensor& values() const { return values_; }
  void write_back() const {
    if (!values_.is_same(target_)) target_.copy_(values_);
  }

 private:
  at::Tensor target_, values_;
};

struct Pair {
  at::Tensor input;
  Contiguous output;
};

}  // namespace

class MpiBackend::Job final : public c10d::Work {
 public:
  Job(int rank, c10d::OpType type, Tensors results, std::function<void(Channel&)> collective)
      : c10d::Work(rank, type),
        results_(std::move(results)),
        collective_(std::move(collective)),
        future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))) {}

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  Tensors result() override { return results_; }

  void run(Channel& channel) {
    std::exception_ptr failure;
    try {
      collective_(channel);
      collective_ = nullptr;  // and with it our hold on the inputs
    } catch (...) {
      keep_forever(std::move(collective_));  // and with it the tensors
      failure = std::current_exception();
    }
    if (failure) {
      future_->setError(failure);
    } else {
      future_->markCompleted(at::IValue(results_));
    }
    finish(failure);
  }

 private:
  Tensors results_;
  std::function<void(Channel&)> collective_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

MpiBackend::MpiBackend(std::unique_ptr<Channel> channel)
    : c10d::Backend(channel->rank(), channel->size()),
      channel_(std::move(channel)),
      options_(c10::make_intrusive<Options>("mpi", ChannelOptions{}.timeout)),
      worker_([this] { run_jobs(); }) {
  pthread_setname_np(worker_.native_handle(), "mmkd-comm");
}

MpiBackend::~MpiBackend() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  submitted_.notify_all();
  worker_.join();
}

void MpiBackend::setTimeout(std::chrono::milliseconds timeout) {
  options_->timeout = timeout;
  channel_->set_timeout(timeout);
}

std::uint64_t MpiBackend::getSequenceNumberForGroup() {
  const std::lock_guard lock(mutex_);
  return submissions_;
}

void MpiBackend::run_jobs() {
  const at::NoGradGuard no_grad;
  // A team of threads of its own would compete with that of the computation.
  at::internal::lazy_init_num_threads();
  omp_set_num_threads(1);
  for (;;) {
    c10::intrusive_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      submitted_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      job = std::move(queue_.front());
      queue_.pop_front();
    }
    job->run(*channel_);
  }
}

MpiBackend::Work MpiBackend::submit(c10d::OpType type, Tensors results, std::function<void(Channel&)> collective) {
  auto job = c10::make_intrusive<Job>(rank_, type, std::move(results), std::move(collective));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(job);
    ++submissions_;
  }
  submitted_.notify_one();
  return job;
}

MpiBackend::Work MpiBackend::allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) {
  const at::Tensor& tensor = require_one(tensors);
  require_cpu(tensor);
  const auto type = require_element_type(tensor);
  const auto reduction = require_reduction(options.reduceOp);
  return submit(c10d::OpType::ALLREDUCE, {tensor}, [type, reduction, target = Contiguous(tensor)](Channel& channel) {
    channel.all_reduce(target.data(), count_of(target.values()), type, reduction);
    target.write_back();
  });
}

MpiBackend::Work MpiBackend::allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) {
  const auto reduction = require_reduction(options.reduceOp);
  std::vector<std::pair<ElementType, Contiguous>> targets;
  for (const auto& tensor : tensors) {
    require_cpu(tensor);
    targets.emplace_back(require_element_type(tensor), Contiguous(tensor));
  }
  return submit(c10d::OpType::ALLREDUCE_COALESCED, tensors, [reduction, targets](Channel& channel) {
    for (const auto& [type, target] : targets) {
      channel.all_reduce(target.data(), count_of(target.values()), type, reduction);
      target.write_back();
    }
  });
}

MpiBackend::Work MpiBackend::broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) {
  const at::Tensor& tensor = require_one(tensors);
  require_cpu(tensor);
  const int root = static_cast<int>(options.rootRank);
  return submit(c10d::OpType::BROADCAST, {tensor}, [root, target = Contiguous(tensor)](Channel& channel) {
    channel.broadcast(target.data(), target.values().nbytes(), root);
    target.write_back();
  });
}

MpiBackend::Work MpiBackend::allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions&) {
  const Tensors& rows = require_one(outputs);
  const at::Tensor& input = require_one(inputs);
  require_cpu(input);
  if (static_cast<int>(rows.size()) != size_)
    throw Error("all-gather in a world of {}: {} output tensors", size_, rows.size());
  for (const auto& row : rows) {
    require_cpu(row);
    require_shape(row.numel() == input.numel(), "all-gather", input, row, size_);
  }
  return submit(c10d::OpType::ALLGATHER, rows, [rows, source = input.contiguous()](Channel& channel) {
    const auto gathered = at::empty({channel.size(), source.numel()}, source.options());
    channel.all_gather(source.data_ptr(), gathered.data_ptr(), source.nbytes());
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i].copy_(gathered[static_cast<std::int64_t>(i)].view_as(rows[i]));
  });
}

MpiBackend::Work MpiBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                             const c10d::AllgatherOptions& options) {
  Tensors outputs{output}, inputs{input};
  return allgather_into_tensor_coalesced(outputs, inputs, options);
}

MpiBackend::Work MpiBackend::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                             const c10d::AllgatherOptions&) {
  if (outputs.size() != inputs.size()) throw Error("all-gather of {} tensors to {}", inputs.size(), outputs.size());
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require_cpu(inputs[i]);
    require_cpu(outputs[i]);
    require_shape(outputs[i].numel() == size_ * inputs[i].numel(), "all-gather", inputs[i], outputs[i], size_);
    pairs.push_back({inputs[i].contiguous(), Contiguous(outputs[i])});
  }
  return submit(c10d::OpType::_ALLGATHER_BASE, outputs, [pairs](Channel& channel) {
    for (const auto& [input, output] : pairs) {
      channel.all_gather(input.data_ptr(), output.data(), input.nbytes());
      output.write_back();
    }
  });
}

MpiBackend::Work MpiBackend::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                            const c10d::ReduceScatterOptions& options) {
  at::Tensor& output = require_one(outputs);
  const Tensors& rows = require_one(inputs);
  if (static_cast<int>(rows.size()) != size_)
    throw Error("reduce-scatter in a world of {}: {} input tensors", size_, rows.size());
  for (const auto& row : rows) {
    require_cpu(row);
    require_shape(row.numel() == output.numel(), "reduce-scatter", row, output, size_);
  }
  auto joined = at::stack(rows);
  return _reduce_scatter_base(output, joined, options);
}

MpiBackend::Work MpiBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                  const c10d::ReduceScatterOptions& options) {
  Tensors outputs{output}, inputs{input};
  return reduce_scatter_tensor_coalesced(outputs, inputs, options);
}

MpiBackend::Work MpiBackend::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                             const c10d::ReduceScatterOptions& options) {
  if (outputs.size() != inputs.size()) throw Error("reduce-scatter of {} tensors to {}", inputs.size(), outputs.size());
  const auto reduction = require_reduction(options.reduceOp);
  std::vector<std::pair<ElementType, Pair>> pairs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    require_cpu(inputs[i]);
    require_cpu(outputs[i]);
    require_shape(inputs[i].numel() == size_ * outputs[i].numel(), "reduce-scatter", inputs[i], outputs[i], size_);
    pairs.emplace_back(require_element_type(inputs[i]), Pair{inputs[i].contiguous(), Contiguous(outputs[i])});
  }
  return submit(c10d::OpType::_REDUCE_SCATTER_BASE, outputs, [reduction, pairs](Channel& channel) {
    for (const auto& [type, pair] : pairs) {
      channel.reduce_scatter(pair.input.data_ptr(), pair.output.data(), count_of(pair.output.values()), type,
                             reduction);
      pair.output.write_back();
    }
  });
}

MpiBackend::Work MpiBackend::barrier(const c10d::BarrierOptions&) {
  return submit(c10d::OpType::BARRIER, {}, [](Channel& channel) { channel.barrier(); });
}

}  // namespace mmkd
