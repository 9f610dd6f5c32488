#pragma once
#include <mpi.h>

#include <chrono>
#include <cstddef>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

// Helpers around MPI's C API for the .cpp files of this folder.
namespace mmkd::mpi {

/// Throws Error with MPI's own text unless `code` is MPI_SUCCESS; `what` is the MPI function.
void check(int code, std::string_view what);

/// What a wait is for. Peers may come late: naps grow to 200 microseconds, so that a long wait costs no core. Data
/// moves only while MPI is polled, and all peers are there: naps stay at 20 microseconds.
enum class WaitFor { peers, data };

/// Polls eagerly for a moment, then sleeps between polls.
class Backoff {
 public:
  explicit Backoff(WaitFor what) : longest_nap_(what == WaitFor::data ? kFirstNap : kLongestNap) {}
  void pause();

 private:
  static constexpr std::chrono::microseconds kEager{50}, kFirstNap{20}, kLongestNap{200};
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::microseconds nap_{0}, longest_nap_;
};

/// Polls until all requests are done; `keep_waiting` is called between polls and may throw.
template <class KeepWaiting>
void wait_all(std::span<MPI_Request> requests, WaitFor what, std::string_view function, KeepWaiting&& keep_waiting) {
  Backoff backoff(what);
  for (;;) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE), function);
    if (done) return;
    keep_waiting();
    backoff.pause();
  }
}

/// Waits without limit: for the session's collectives, where a missing peer ends the job by other means.
void wait(std::span<MPI_Request> requests, std::string_view function);

/// Posts the send or receive of `bytes` in messages of at most `max_message` bytes; both sides cut alike.
void post_send(MPI_Comm comm, int peer, const std::byte* data, std::size_t bytes, std::size_t max_message,
               std::vector<MPI_Request>& requests);
void post_receive(MPI_Comm comm, int peer, std::byte* data, std::size_t bytes, std::size_t max_message,
                  std::vector<MPI_Request>& requests);

}  // namespace mmkd::mpi
