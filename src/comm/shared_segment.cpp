#include "shared_segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <random>
#include <utility>

#include "mmkd/base/error.h"

namespace mmkd {

namespace {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "the barrier is shared by processes");

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Where rank 0's memory file is to be found. The token tells it from any other file that another process-id name space
// might have under the same path.
struct Address {
  std::int64_t pid = 0, fd = -1;
  std::uint64_t token = 0;
};

std::string system_error(std::string_view what) { return fmt::format("{}: {}", what, std::strerror(errno)); }

FileDescriptor create_memory_file(std::size_t bytes, std::uint64_t token) {
  FileDescriptor file(memfd_create("mmkd-channel", MFD_CLOEXEC));
  if (file.get() < 0) throw Error("{}", system_error("memfd_create"));
  // Allocates the pages: memory that cannot be had shows now, not as a bus error in the middle of a step.
  const int failed = posix_fallocate(file.get(), 0, static_cast<off_t>(bytes + sizeof token));
  if (failed != 0) throw Error("allocating {} bytes of shared memory: {}", bytes, std::strerror(failed));
  if (pwrite(file.get(), &token, sizeof token, static_cast<off_t>(bytes)) != static_cast<ssize_t>(sizeof token))
    throw Error("{}", system_error("writing shared memory"));
  return file;
}

FileDescriptor open_memory_file(const Address& address, std::size_t bytes) {
  const auto path = fmt::format("/proc/{}/fd/{}", address.pid, address.fd);
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) throw Error("{}", system_error(path));
  std::uint64_t token = 0;
  if (pread(file.get(), &token, sizeof token, static_cast<off_t>(bytes)) != static_cast<ssize_t>(sizeof token) ||
      token != address.token)
    throw Error("{} is not the shared memory of rank 0 (ranks in different containers?)", path);
  return file;
}

void* map(int fd, std::size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (data == MAP_FAILED) throw Error("{}", system_error("mapping shared memory"));
  return data;
}

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout, nullptr, 0);
}

}  // namespace

std::unique_ptr<SharedSegment> SharedSegment::create(const MpiSession& session, std::size_t bytes,
                                                     std::string& why_not) {
  std::string problem;
  FileDescriptor file;
  Address address;
  if (session.rank() == 0) {
    std::random_device random;
    address = {getpid(), -1, (std::uint64_t{random()} << 32) | random()};
    try {
      file = create_memory_file(bytes, address.token);
      address.fd = file.get();
    } catch (const Error& error) {
      problem = error.what();
    }
  }
  std::string message(reinterpret_cast<const char*>(&address), sizeof address);
  session.broadcast(message, 0);
  std::memcpy(&address, message.data(), sizeof address);

  void* data = nullptr;
  if (address.fd >= 0) {
    try {
      if (session.rank() != 0) file = open_memory_file(address, bytes);
      data = map(file.get(), bytes);
    } catch (const Error& error) {
      problem = error.what();
    }
  }
  auto segment =
      std::unique_ptr<SharedSegment>(data ? new SharedSegment(static_cast<std::byte*>(data), bytes) : nullptr);
  // Also the point until which rank 0 must keep its file open.
  for (const auto& text : session.all_gather(problem)) {
    if (text.empty()) continue;
    why_not = text;
    return nullptr;
  }
  return segment;
}

SharedSegment::~SharedSegment() { munmap(data_, bytes_); }

void SharedBarrier::arrive_and_wait(int rank, int ranks, const Patience& patience) {
  constexpr std::chrono::microseconds kSpin{20};
  constexpr timespec kLongestSleep{.tv_sec = 0, .tv_nsec = 50'000'000};  // between looks at patience

  const std::uint32_t generation = generation_.load();
  reached_[rank].store(generation + 1, std::memory_order_relaxed);
  if (arrived_.fetch_add(1) + 1 == static_cast<std::uint32_t>(ranks)) {
    arrived_.store(0);
    generation_.store(generation + 1);
    if (sleepers_.load() > 0) futex(generation_, FUTEX_WAKE, INT_MAX, nullptr);
    return;
  }
  const auto spin_until = Patience::Clock::now() + kSpin;
  while (Patience::Clock::now() < spin_until)
    if (generation_.load() != generation) return;
  for (;;) {
    sleepers_.fetch_add(1);
    futex(generation_, FUTEX_WAIT, generation, &kLongestSleep);
    sleepers_.fetch_sub(1);
    if (generation_.load() != generation) return;
    if (failed_.load() != 0) rethrow_failure();
    if (patience.exhausted()) patience.give_up(missing(generation, ranks));
  }
}

void SharedBarrier::fail(int rank, std::string_view why) noexcept {
  const auto me = static_cast<std::uint32_t>(rank) + 1;
  std::uint32_t nobody = 0;
  if (!failing_.compare_exchange_strong(nobody, me)) return;
  const std::size_t length = std::min(why.size(), sizeof reason_ - 1);  // it ends in a zero from the start
  std::memcpy(reason_, why.data(), length);
  failed_.store(me);
  futex(generation_, FUTEX_WAKE, INT_MAX, nullptr);
}

void SharedBarrier::rethrow_failure() const { throw Error("rank {} failed: {}", failed_.load() - 1, reason_); }

std::string SharedBarrier::missing(std::uint32_t generation, int ranks) const {
  std::string names;
  for (int rank = 0; rank < ranks; ++rank) {
    if (reached_[rank].load(std::memory_order_relaxed) == generation + 1) continue;
    names += fmt::format("{}{}", names.empty() ? "rank " : ", ", rank);
  }
  return names.empty() ? "the other ranks" : names;
}

}  // namespace mmkd
