#include "mmkd/comm/mpi_session.h"

#include <mpi.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/base/process.h"
#include "mmkd/comm/activity.h"
#include "mpi_support.h"

namespace mmkd {

namespace {

using mpi::check;

bool in_environment(const char* name) { return std::getenv(name) != nullptr; }

// Set by mpirun of Open MPI, by PMIx launchers (srun --mpi=pmix) and by PMI-1/2 ones (srun --mpi=pmi2, Hydra).
bool started_by_launcher() {
  return in_environment("OMPI_COMM_WORLD_SIZE") || in_environment("PMIX_RANK") || in_environment("PMI_RANK");
}

void refuse_srun_without_pmi() {
  const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
  if (tasks == nullptr || !in_environment("SLURM_PROCID") || std::atoi(tasks) <= 1) return;
  throw Error(
      "srun started {} tasks without a process manager interface, so they cannot find each other. Use srun --mpi=pmix "
      "(srun --mpi=list shows what there is), or mpirun inside the allocation.",
      tasks);
}

void wait_for(MPI_Request request, std::string_view function) {
  const Activity::Waiting waiting(activity(), std::string(function));
  mpi::wait(std::span(&request, 1), function);
}

void broadcast_raw(std::byte* data, std::size_t bytes, int root, std::size_t max_message) {
  for (std::size_t begin = 0; begin < bytes; begin += max_message) {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibcast(data + begin, static_cast<int>(std::min(max_message, bytes - begin)), MPI_BYTE, root,
                     MPI_COMM_WORLD, &request),
          "MPI_Ibcast");
    wait_for(request, "MPI_Ibcast");
  }
}

std::byte* bytes_of(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }
const std::byte* bytes_of(const std::string& text) { return reinterpret_cast<const std::byte*>(text.data()); }

std::vector<std::uint64_t> all_gather_sizes(std::size_t mine, int ranks) {
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(ranks));
  const std::uint64_t size = mine;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(&size, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, MPI_COMM_WORLD, &request),
        "MPI_Iallgather");
  wait_for(request, "MPI_Iallgather");
  return sizes;
}

}  // namespace

MpiSession::MpiSession(std::size_t max_message_bytes)
    : host_(host_name()), max_message_bytes_(max_message_bytes), exceptions_at_start_(std::uncaught_exceptions()) {
  if (max_message_bytes == 0 || max_message_bytes > kDefaultMaxMessageBytes)
    throw Error("MPI message size {}: must be 1 to {} bytes", max_message_bytes, kDefaultMaxMessageBytes);
  if (!started_by_launcher()) {
    refuse_srun_without_pmi();
    return;
  }
  // A launcher that is killed cannot end its ranks.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  launched_ = true;
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  if (provided < MPI_THREAD_MULTIPLE) {
    log::error("this MPI was built without MPI_THREAD_MULTIPLE, which is needed: use one that has it (Debian's does)");
    abort(static_cast<int>(ExitCode::failure));
  }
  MPI_Comm local = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
  check(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
  check(MPI_Comm_free(&local), "MPI_Comm_free");
}

MpiSession::~MpiSession() {
  if (!launched_) return;
  // MPI_Finalize waits for all ranks, and the others do not know that this one is leaving.
  if (std::uncaught_exceptions() > exceptions_at_start_) abort(static_cast<int>(ExitCode::failure));
  MPI_Finalize();
}

void MpiSession::barrier() const {
  if (size_ == 1) return;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "MPI_Ibarrier");
  wait_for(request, "MPI_Ibarrier");
}

void MpiSession::broadcast(std::string& bytes, int root) const {
  if (root < 0 || root >= size_) throw Error("broadcast from rank {} in a world of {}", root, size_);
  if (size_ == 1) return;
  std::uint64_t size = bytes.size();
  broadcast_raw(reinterpret_cast<std::byte*>(&size), sizeof size, root, sizeof size);
  bytes.resize(size);
  broadcast_raw(bytes_of(bytes), bytes.size(), root, max_message_bytes_);
}

std::vector<std::string> MpiSession::gather(const std::string& bytes, int root) const {
  if (root < 0 || root >= size_) throw Error("gather on rank {} in a world of {}", root, size_);
  if (size_ == 1) return {bytes};
  // The sizes go to all ranks, since one function less is worth more than a few bytes.
  const auto sizes = all_gather_sizes(bytes.size(), size_);
  std::vector<MPI_Request> requests;
  std::vector<std::string> parts;
  if (rank_ != root) {
    mpi::post_send(MPI_COMM_WORLD, root, bytes_of(bytes), bytes.size(), max_message_bytes_, requests);
  } else {
    parts.resize(sizes.size());
    for (int peer = 0; peer < size_; ++peer) {
      auto& part = parts[static_cast<std::size_t>(peer)];
      if (peer == root) {
        part = bytes;
        continue;
      }
      part.resize(sizes[static_cast<std::size_t>(peer)]);
      mpi::post_receive(MPI_COMM_WORLD, peer, bytes_of(part), part.size(), max_message_bytes_, requests);
    }
  }
  const Activity::Waiting waiting(activity(), "gather");
  mpi::wait(requests, "gather");
  return parts;
}

std::vector<std::string> MpiSession::all_gather(const std::string& bytes) const {
  auto parts = gather(bytes, 0);
  if (size_ == 1) return parts;
  const auto sizes = all_gather_sizes(bytes.size(), size_);
  std::string joined;
  joined.reserve(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  for (const auto& part : parts) joined += part;
  parts.clear();
  broadcast(joined, 0);
  std::size_t begin = 0;
  for (const auto size : sizes) {
    parts.push_back(joined.substr(begin, size));
    begin += size;
  }
  return parts;
}

bool MpiSession::any(bool mine) const { return any_of(mine ? 1U : 0U) != 0; }

unsigned MpiSession::any_of(unsigned bits) const {
  if (size_ == 1) return bits;
  unsigned result = 0;
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallreduce(&bits, &result, 1, MPI_UNSIGNED, MPI_BOR, MPI_COMM_WORLD, &request), "MPI_Iallreduce");
  wait_for(request, "MPI_Iallreduce");
  return result;
}

void MpiSession::abort(int exit_code) const {
  log::flush();
  std::fflush(nullptr);
  if (launched_) MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace mmkd
