#include "mpi_transport.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "keep_forever.h"
#include "mmkd/base/error.h"
#include "mpi_support.h"

namespace mmkd {

namespace {

using mpi::check;

// What a reduction holds of the other ranks' data at a time.
constexpr std::size_t kStagingBytes = std::size_t{16} << 20;

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const MpiSession& session)
      : rank_(session.rank()), size_(session.size()), max_message_(session.max_message_bytes()) {
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    try {
      check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    } catch (...) {
      MPI_Comm_free(&comm_);
      throw;
    }
  }

  ~MpiTransport() override {
    if (comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
  }

  std::string_view name() const override { return "MPI"; }

  void all_reduce(const Call& call, std::byte* data, std::size_t count, ElementType type,
                  Reduction reduction) override {
    agree(call);
    const std::size_t width = element_size(type);
    const std::size_t turn = std::max(kStagingBytes / width, std::size_t{1});
    for (std::size_t begin = 0; begin < count; begin += turn)
      all_reduce_turn(call, data + begin * width, std::min(turn, count - begin), type, reduction);
  }

  void reduce_scatter(const Call& call, const std::byte* input, std::byte* output, std::size_t count, ElementType type,
                      Reduction reduction) override {
    agree(call);
    const std::size_t width = element_size(type);
    const std::size_t turn = std::max(kStagingBytes / width / ranks(), std::size_t{1});
    for (std::size_t begin = 0; begin < count; begin += turn) {
      const std::size_t length = std::min(turn, count - begin);
      const auto row = [&](int peer) { return input + (index(peer) * count + begin) * width; };
      const auto pieces = receive_pieces(call, length * width, row, [&](int) { return length * width; });
      reduce_in_order(reduction, type, pieces, output + begin * width, length);
    }
  }

  void all_gather(const Call& call, const std::byte* input, std::byte* output, std::size_t bytes) override {
    agree(call);
    std::vector<MPI_Request> requests;
    for_each_peer([&](int to, int from) {
      mpi::post_receive(comm_, from, output + index(from) * bytes, bytes, max_message_, requests);
      mpi::post_send(comm_, to, input, bytes, max_message_, requests);
    });
    std::byte* own = output + index(rank_) * bytes;
    if (own != input && bytes > 0) std::memcpy(own, input, bytes);
    finish(call, requests);
  }

  void broadcast(const Call& call, std::byte* data, std::size_t bytes, int root) override {
    agree(call);
    for (std::size_t begin = 0; begin < bytes; begin += max_message_) {
      MPI_Request request = MPI_REQUEST_NULL;
      const auto length = static_cast<int>(std::min(max_message_, bytes - begin));
      check(MPI_Ibcast(data + begin, length, MPI_BYTE, root, comm_, &request), "MPI_Ibcast");
      finish(call, std::span(&request, 1));
    }
  }

  void barrier(const Call& call) override { agree(call); }

  void abandon(std::string_view) noexcept override {
    // Requests may be pending: MPI still writes to the staging buffer, and freeing the communicator waits for peers.
    comm_ = MPI_COMM_NULL;
    keep_forever(std::move(staging_));
  }

 private:
  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  std::size_t ranks() const { return index(size_); }

  // Everyone starts with another peer, so that no rank is flooded.
  template <class Body>
  void for_each_peer(Body&& body) {
    for (int step = 1; step < size_; ++step) body((rank_ + step) % size_, (rank_ - step + size_) % size_);
  }

  void finish(const Call& call, std::span<MPI_Request> requests, mpi::WaitFor what = mpi::WaitFor::data) {
    mpi::wait_all(requests, what, "collective", [&] {
      if (call.patience.exhausted()) call.patience.give_up("the other ranks");
    });
  }

  void agree(const Call& call) {
    std::vector<Operation> theirs(ranks());
    MPI_Request request = MPI_REQUEST_NULL;
    constexpr int bytes = sizeof(Operation);
    check(MPI_Iallgather(&call.operation, bytes, MPI_BYTE, theirs.data(), bytes, MPI_BYTE, comm_, &request),
          "MPI_Iallgather");
    try {
      finish(call, std::span(&request, 1), mpi::WaitFor::peers);
    } catch (...) {
      keep_forever(std::move(theirs));
      throw;
    }
    for (int peer = 0; peer < size_; ++peer) require_same(call.operation, theirs[index(peer)], peer);
  }

  // Sends each peer its piece and receives `own_bytes` from each; the result lists everyone's piece in rank order, our
  // own where it lies.
  template <class PieceOf, class BytesOf>
  std::vector<const std::byte*> receive_pieces(const Call& call, std::size_t own_bytes, PieceOf&& piece_of,
                                               BytesOf&& bytes_of) {
    if (staging_.size() < own_bytes * ranks()) staging_.resize(own_bytes * ranks());
    std::vector<const std::byte*> pieces(ranks());
    pieces[index(rank_)] = piece_of(rank_);
    std::vector<MPI_Request> requests;
    for_each_peer([&](int to, int from) {
      std::byte* place = staging_.data() + index(from) * own_bytes;
      pieces[index(from)] = place;
      mpi::post_receive(comm_, from, place, own_bytes, max_message_, requests);
      mpi::post_send(comm_, to, piece_of(to), bytes_of(to), max_message_, requests);
    });
    finish(call, requests);
    return pieces;
  }

  void all_reduce_turn(const Call& call, std::byte* data, std::size_t count, ElementType type, Reduction reduction) {
    const std::size_t width = element_size(type);
    const auto begin_of = [&](int peer) { return count * index(peer) / ranks(); };
    const auto slice_of = [&](int peer) { return data + begin_of(peer) * width; };
    const auto bytes_of = [&](int peer) { return (begin_of(peer + 1) - begin_of(peer)) * width; };
    const auto pieces = receive_pieces(call, bytes_of(rank_), slice_of, bytes_of);
    reduce_in_order(reduction, type, pieces, slice_of(rank_), bytes_of(rank_) / width);
    std::vector<MPI_Request> requests;
    for_each_peer([&](int to, int from) {
      mpi::post_receive(comm_, from, slice_of(from), bytes_of(from), max_message_, requests);
      mpi::post_send(comm_, to, slice_of(rank_), bytes_of(rank_), max_message_, requests);
    });
    finish(call, requests);
  }

  int rank_, size_;
  std::size_t max_message_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::vector<std::byte> staging_;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(const MpiSession& session) {
  return std::make_unique<MpiTransport>(session);
}

}  // namespace mmkd
