#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace mmkd {

/// MPI for one process: initialised (MPI_THREAD_MULTIPLE) only when a launcher such as mpirun or srun started us, a
/// world of one otherwise, in which every collective is a no-op. One per process, owned by main and constructed before
/// anything that communicates; mpi.h stays in the .cpp files.
///
/// A rank that fails alone must end the whole job, or its peers wait for it for ever. So main keeps the session outside
/// its try block and calls abort() in the one catch; a session destroyed by a flying exception does the same by itself.
///
/// Waiting ranks sleep (naps of 0.2 ms at most) instead of spinning, so that a long wait costs no core. The functions
/// are meant for one thread, and may run while tensor collectives are under way on others.
class MpiSession {
 public:
  /// MPI counts bytes in int, so larger transfers are cut into messages of at most `max_message_bytes`.
  static constexpr std::size_t kDefaultMaxMessageBytes = std::size_t{1} << 30;

  /// Throws Error if MPI cannot start, lacks thread support, or if srun started several tasks without a PMI
  /// (they would take themselves for independent runs).
  explicit MpiSession(std::size_t max_message_bytes = kDefaultMaxMessageBytes);
  /// MPI_Finalize; all channels and process groups must be gone by then.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Among the ranks that share memory with this one.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  const std::string& host() const { return host_; }
  bool launched() const { return launched_; }  ///< MPI is really there
  std::size_t max_message_bytes() const { return max_message_bytes_; }

  // Collective: every rank must call, in the same order. All throw Error with MPI's own message.
  void barrier() const;
  /// `bytes` of `root` everywhere; what the others had is replaced.
  void broadcast(std::string& bytes, int root) const;
  /// What every rank gave, in rank order, on `root`; empty elsewhere. Parts may differ in size.
  std::vector<std::string> gather(const std::string& bytes, int root) const;
  /// What every rank gave, in rank order, everywhere. Parts may differ in size.
  std::vector<std::string> all_gather(const std::string& bytes) const;
  /// Any rank true? A cheap vote.
  bool any(bool mine) const;
  /// Several votes in one: bit i of the result is set if it is set on any rank.
  unsigned any_of(unsigned bits) const;

  /// Ends the whole job after flushing logs, `exit_code` being what the launcher returns; never returns itself. Any
  /// rank may call it, alone.
  [[noreturn]] void abort(int exit_code) const;

 private:
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
  bool launched_ = false;
  std::size_t max_message_bytes_;
  int exceptions_at_start_;  // a destructor that runs with more than these in flight is unwinding
};

}  // namespace mmkd
