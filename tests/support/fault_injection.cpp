// A shared object for LD_PRELOAD that makes the disk and the clock of a program fail, as the environment says:
//
//   MMKD_FAULT_UNDER=<folder>    only files below this folder; nothing is touched without it
//   MMKD_FAULT_MATCH=<text>      only files whose path has this text in it
//   MMKD_FAULT_FAIL_WRITE=<n>    the nth write of the process to these files, from 1 on, fails with EIO; "<n>+": that
//                                one and all after it
//   MMKD_FAULT_FAIL_FSYNC=<n>    the same for fsync and fdatasync
//   MMKD_FAULT_SHORT_WRITES=1    each write takes about half of the bytes
//   MMKD_FAULT_DELAY_MS=<ms>     each write and fsync takes that much longer
//   MMKD_FAULT_CLOCK=<file>      the wall clock is off by as many seconds as the file says, from when it is there; the
//                                monotonic clock and the times of files are left alone
//
// What libc writes by itself is not seen: files of fopen(), which here are logs.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace {

/// The function that this file hides.
template <class Function>
Function* hidden(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string_view setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

/// Which of the calls fail.
struct Failing {
  long from = 0;  ///< counted from 1; 0: none
  bool all_after = false;
  std::atomic<long> calls{0};

  explicit Failing(const char* name) {
    const auto text = setting(name);
    from = text.empty() ? 0 : std::strtol(text.data(), nullptr, 10);
    all_after = text.ends_with('+');
  }
  bool next() {
    const long call = ++calls;
    return from > 0 && (all_after ? call >= from : call == from);
  }
};

struct Faults {
  std::string_view under = setting("MMKD_FAULT_UNDER"), match = setting("MMKD_FAULT_MATCH");
  bool short_writes = !setting("MMKD_FAULT_SHORT_WRITES").empty();
  long delay_ms = std::atol(setting("MMKD_FAULT_DELAY_MS").empty() ? "0" : setting("MMKD_FAULT_DELAY_MS").data());
  Failing write{"MMKD_FAULT_FAIL_WRITE"}, fsync{"MMKD_FAULT_FAIL_FSYNC"};
};

Faults& faults() {
  static Faults instance;
  return instance;
}

/// Is the descriptor one of the files that are to fail?
bool is_meant(int fd) {
  const auto& f = faults();
  if (f.under.empty()) return false;
  std::array<char, 32> link{"/proc/self/fd/"};
  std::array<char, 12> digits{};
  std::size_t n = 0;
  for (unsigned left = fd < 0 ? 0U : static_cast<unsigned>(fd); n == 0 || left > 0; left /= 10)
    digits[n++] = static_cast<char>('0' + left % 10);
  std::reverse_copy(digits.begin(), digits.begin() + n, link.begin() + std::string_view(link.data()).size());
  std::array<char, PATH_MAX> target{};
  const auto length = readlink(link.data(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view path(target.data(), static_cast<std::size_t>(length));
  return path.starts_with(f.under) && path.find(f.match) != std::string_view::npos;
}

void be_slow() {
  const long milliseconds = faults().delay_ms;
  if (milliseconds <= 0) return;
  const timespec pause{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  nanosleep(&pause, nullptr);
}

/// -1: fails with EIO; otherwise how many of the bytes are to be written.
ssize_t allowed(int fd, std::size_t count) {
  const int before = errno;
  const bool meant = count > 0 && is_meant(fd);
  errno = before;
  if (!meant) return static_cast<ssize_t>(count);
  be_slow();
  if (faults().write.next()) {
    errno = EIO;
    return -1;
  }
  return static_cast<ssize_t>(faults().short_writes ? count - count / 2 : count);
}

template <class Offset>
ssize_t write_at(const char* name, int fd, const void* bytes, std::size_t count, Offset offset) {
  const auto wanted = allowed(fd, count);
  return wanted < 0 ? -1
                    : hidden<ssize_t(int, const void*, std::size_t, Offset)>(name)(
                          fd, bytes, static_cast<std::size_t>(wanted), offset);
}

int flush(const char* name, int fd) {
  if (is_meant(fd)) {
    be_slow();
    if (faults().fsync.next()) {
      errno = EIO;
      return -1;
    }
  }
  return hidden<int(int)>(name)(fd);
}

/// Seconds by which the wall clock is off at this moment.
std::time_t clock_error() {
  const auto file = setting("MMKD_FAULT_CLOCK");
  if (file.empty()) return 0;
  const int before = errno;
  std::array<char, 32> text{};
  const int fd = open(file.data(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (read(fd, text.data(), text.size() - 1) < 0) text[0] = '\0';
    close(fd);
  }
  errno = before;
  return std::strtol(text.data(), nullptr, 10);
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* bytes, std::size_t count) {
  const auto wanted = allowed(fd, count);
  static const auto real = hidden<ssize_t(int, const void*, std::size_t)>("write");
  return wanted < 0 ? -1 : real(fd, bytes, static_cast<std::size_t>(wanted));
}

ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset) {
  return write_at("pwrite", fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void* bytes, std::size_t count, off64_t offset) {
  return write_at("pwrite64", fd, bytes, count, offset);
}

ssize_t writev(int fd, const iovec* parts, int count) {
  static const auto real = hidden<ssize_t(int, const iovec*, int)>("writev");
  std::size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  const auto wanted = allowed(fd, bytes);
  if (wanted < 0) return -1;
  if (static_cast<std::size_t>(wanted) == bytes) return real(fd, parts, count);
  for (int i = 0; i < count; ++i) {  // a short one: a piece of the first part that has any
    const auto piece = std::min(parts[i].iov_len, static_cast<std::size_t>(wanted));
    if (piece == 0) continue;
    const iovec first{parts[i].iov_base, piece};
    return real(fd, &first, 1);
  }
  return 0;
}

int fsync(int fd) { return flush("fsync", fd); }

int fdatasync(int fd) { return flush("fdatasync", fd); }

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  static const auto real = hidden<int(clockid_t, timespec*)>("clock_gettime");
  const int status = real(clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += clock_error();
  return status;
}

int gettimeofday(timeval* now, void* zone) noexcept {
  static const auto real = hidden<int(timeval*, void*)>("gettimeofday");
  const int status = real(now, zone);
  if (status == 0) now->tv_sec += clock_error();
  return status;
}

std::time_t time(std::time_t* now) noexcept {
  static const auto real = hidden<std::time_t(std::time_t*)>("time");
  const std::time_t moved = real(nullptr) + clock_error();
  if (now != nullptr) *now = moved;
  return moved;
}

}  // extern "C"
