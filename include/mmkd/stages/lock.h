#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace mmkd {

/// Who builds a stage, as its lock says.
struct LockOwner {
  std::string host;
  std::int64_t pid = 0;
  std::string since;     ///< UTC
  std::string progress;  ///< what it said of itself last
};

struct LockOptions {
  std::chrono::milliseconds beat{5000};          ///< between two signs of life of the owner
  std::chrono::milliseconds stale_after{60000};  ///< without one the owner is taken for dead
  std::chrono::milliseconds poll{500};           ///< between two looks of one who waits
  /// What others are told, asked for at every beat on a thread of the lock's own; may be empty.
  std::function<std::string()> progress;
  /// Called once, on that thread, when another process took the lock over: this one has to stop building.
  std::function<void()> lost;
  /// Called at every look while another process holds the lock; what it throws ends the waiting.
  std::function<void(const LockOwner&)> waiting;
};

/// The right to build one stage, held by one process among all that see its folder, on any host. It needs nothing of
/// the file system but that creating a file exclusively is atomic, so it works where flock() does not (NFS, Lustre).
///
/// The lock is a file `<place>.lock.<generation>` that its owner rewrites again and again. An owner whose process is
/// gone (told at once on its own host), or whose file has not changed for `stale_after` by the clock of the one who
/// waits, is taken over by creating the next generation, which only one can do. An owner that was taken over, say
/// because it was stopped for long, finds the newer generation at its next beat.
class StageLock {
 public:
  /// Waits until the lock is free or its owner is gone, and takes it. Throws Error for a folder that cannot be written.
  static std::unique_ptr<StageLock> acquire(const std::filesystem::path& place, LockOptions options);
  ~StageLock();  ///< gives the lock back
  StageLock(const StageLock&) = delete;
  StageLock& operator=(const StageLock&) = delete;

  /// Who holds the lock now, if anybody who is alive as far as can be told without waiting.
  static std::optional<LockOwner> owner(const std::filesystem::path& place);

 private:
  StageLock(std::filesystem::path place, std::int64_t generation, int fd, LockOptions options);
  void beat();
  void write_state();

  std::filesystem::path place_;
  std::int64_t generation_;
  int fd_;
  LockOptions options_;
  std::string since_;
  std::uint64_t beats_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace mmkd
