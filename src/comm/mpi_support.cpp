#include "mpi_support.h"

#include <algorithm>

#include "mmkd/base/error.h"

namespace mmkd::mpi {

namespace {
// One tag is enough: messages of a pair of ranks on one communicator arrive in the order they were posted.
constexpr int kTag = 1;
}  // namespace

void check(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error("{} failed: {}", what, std::string_view(text, static_cast<std::size_t>(length)));
}

void Backoff::pause() {
  if (nap_.count() == 0) {
    if (std::chrono::steady_clock::now() - start_ < kEager) {
      std::this_thread::yield();
      return;
    }
    nap_ = kFirstNap;
  }
  std::this_thread::sleep_for(nap_);
  nap_ = std::min(nap_ * 3 / 2, longest_nap_);
}

void wait(std::span<MPI_Request> requests, std::string_view function) {
  wait_all(requests, WaitFor::peers, function, [] {});
}

void post_send(MPI_Comm comm, int peer, const std::byte* data, std::size_t bytes, std::size_t max_message,
               std::vector<MPI_Request>& requests) {
  for (std::size_t begin = 0; begin < bytes; begin += max_message) {
    const auto length = static_cast<int>(std::min(max_message, bytes - begin));
    check(MPI_Isend(data + begin, length, MPI_BYTE, peer, kTag, comm, &requests.emplace_back(MPI_REQUEST_NULL)),
          "MPI_Isend");
  }
}

void post_receive(MPI_Comm comm, int peer, std::byte* data, std::size_t bytes, std::size_t max_message,
                  std::vector<MPI_Request>& requests) {
  for (std::size_t begin = 0; begin < bytes; begin += max_message) {
    const auto length = static_cast<int>(std::min(max_message, bytes - begin));
    check(MPI_Irecv(data + begin, length, MPI_BYTE, peer, kTag, comm, &requests.emplace_back(MPI_REQUEST_NULL)),
          "MPI_Irecv");
  }
}

}  // namespace mmkd::mpi
