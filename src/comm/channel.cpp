#include "mmkd/comm/channel.h"

#include <cstring>
#include <exception>
#include <utility>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/activity.h"
#include "mpi_transport.h"
#include "shared_memory_transport.h"
#include "transport.h"

namespace mmkd {

namespace {

/// A world of one: results are what went in.
class OneRankTransport final : public Transport {
 public:
  std::string_view name() const override { return "one rank"; }
  void all_reduce(const Call&, std::byte*, std::size_t, ElementType, Reduction) override {}
  void reduce_scatter(const Call&, const std::byte* input, std::byte* output, std::size_t count, ElementType type,
                      Reduction) override {
    if (count > 0) std::memcpy(output, input, count * element_size(type));
  }
  void all_gather(const Call&, const std::byte* input, std::byte* output, std::size_t bytes) override {
    if (bytes > 0 && input != output) std::memcpy(output, input, bytes);
  }
  void broadcast(const Call&, std::byte*, std::size_t, int) override {}
  void barrier(const Call&) override {}
  void abandon(std::string_view) noexcept override {}
};

std::unique_ptr<Transport> make_transport(const MpiSession& session, const ChannelOptions& options) {
  using Choice = ChannelOptions::Transport;
  if (session.size() == 1) return std::make_unique<OneRankTransport>();
  const bool one_host = !session.any(session.local_size() != session.size());
  if (options.transport == Choice::mpi || (options.transport == Choice::automatic && !one_host))
    return make_mpi_transport(session);
  if (!one_host) throw Error("shared memory was asked for, but the ranks run on several hosts");
  std::string why_not;
  if (auto transport = make_shared_memory_transport(session, options.shared_slot_bytes, why_not)) return transport;
  if (options.transport == Choice::shared_memory) throw Error("no shared memory between the ranks: {}", why_not);
  if (session.rank() == 0) log::warn("ranks exchange MPI messages, since there is no shared memory: {}", why_not);
  return make_mpi_transport(session);
}

void require_average_exists(ElementType type, Reduction reduction) {
  if (type == ElementType::boolean && reduction == Reduction::average)
    throw Error("booleans have no average: convert to numbers first");
}

std::string_view to_string(Operation::Kind kind) {
  switch (kind) {
    case Operation::Kind::all_reduce:
      return "all-reduce";
    case Operation::Kind::reduce_scatter:
      return "reduce-scatter";
    case Operation::Kind::all_gather:
      return "all-gather";
    case Operation::Kind::broadcast:
      return "broadcast";
    case Operation::Kind::barrier:
      return "barrier";
  }
  return "unknown collective";
}

Operation typed(Operation::Kind kind, std::size_t count, ElementType type, Reduction reduction) {
  return {.kind = kind,
          .count = count,
          .type = static_cast<std::int32_t>(type),
          .reduction = static_cast<std::int32_t>(reduction)};
}

}  // namespace

std::string describe(const Operation& operation) {
  std::string text = fmt::format("{} number {}", to_string(operation.kind), operation.number);
  if (operation.kind == Operation::Kind::barrier) return text;
  text += fmt::format(" of {}", operation.count);
  text += operation.type < 0 ? std::string(" bytes")
                             : fmt::format(" × {}", to_string(static_cast<ElementType>(operation.type)));
  if (operation.reduction >= 0) text += fmt::format(" ({})", to_string(static_cast<Reduction>(operation.reduction)));
  if (operation.root >= 0) text += fmt::format(" from rank {}", operation.root);
  return text;
}

void require_same(const Operation& mine, const Operation& theirs, int peer) {
  if (mine == theirs) return;
  throw Error("ranks disagree on what to do: here {}, on rank {} {}", describe(mine), peer, describe(theirs));
}

void Patience::give_up(std::string_view whom) const {
  if (*cancelled_) throw Error("cancelled while waiting for {}", whom);
  throw Error("waited {} ms for {}", timeout_.count(), whom);
}

Channel::Channel(const MpiSession& session, const ChannelOptions& options)
    : rank_(session.rank()),
      size_(session.size()),
      transport_(make_transport(session, options)),
      timeout_ms_(options.timeout.count()) {}

Channel::~Channel() = default;

std::string_view Channel::transport() const { return transport_->name(); }

template <class Body>
void Channel::run(Operation operation, Body&& body) {
  operation.number = collectives_++;
  if (failure_) throw Error("{}: an earlier collective failed: {}", describe(operation), *failure_);
  try {
    const Call call{operation, Patience(std::chrono::milliseconds(timeout_ms_), cancelled_)};
    if (cancelled_) call.patience.give_up("nobody yet");
    const Activity::Waiting waiting(activity(), describe(operation));
    body(call);
  } catch (const std::exception& error) {
    failure_ = error.what();
    transport_->abandon(error.what());
    throw Error("{}: {}", describe(operation), error.what());
  }
}

void Channel::all_reduce(void* data, std::size_t count, ElementType type, Reduction reduction) {
  require_average_exists(type, reduction);
  run(typed(Operation::Kind::all_reduce, count, type, reduction),
      [&](const Call& call) { transport_->all_reduce(call, static_cast<std::byte*>(data), count, type, reduction); });
}

void Channel::reduce_scatter(const void* input, void* output, std::size_t count, ElementType type,
                             Reduction reduction) {
  require_average_exists(type, reduction);
  run(typed(Operation::Kind::reduce_scatter, count, type, reduction), [&](const Call& call) {
    transport_->reduce_scatter(call, static_cast<const std::byte*>(input), static_cast<std::byte*>(output), count, type,
                               reduction);
  });
}

void Channel::all_gather(const void* input, void* output, std::size_t bytes) {
  run({.kind = Operation::Kind::all_gather, .count = bytes}, [&](const Call& call) {
    transport_->all_gather(call, static_cast<const std::byte*>(input), static_cast<std::byte*>(output), bytes);
  });
}

void Channel::broadcast(void* data, std::size_t bytes, int root) {
  if (root < 0 || root >= size_) throw Error("broadcast from rank {} in a world of {}", root, size_);
  run({.kind = Operation::Kind::broadcast, .count = bytes, .root = root},
      [&](const Call& call) { transport_->broadcast(call, static_cast<std::byte*>(data), bytes, root); });
}

void Channel::barrier() {
  run({.kind = Operation::Kind::barrier}, [&](const Call& call) { transport_->barrier(call); });
}

}  // namespace mmkd
