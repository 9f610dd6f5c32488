#include "mmkd/comm/shared_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "mmkd/base/error.h"

namespace mmkd {

namespace {

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
  FileDescriptor file(memfd_create("mmkd-ranks", MFD_CLOEXEC));
  if (file.get() < 0) throw Error("{}", system_error("memfd_create"));
  if (ftruncate(file.get(), static_cast<off_t>(bytes + sizeof token)) != 0)
    throw Error("{}", system_error("sizing shared memory"));
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

/// This rank's part of the first `bytes`: in parts it is faster.
void allocate(int fd, std::size_t bytes, const MpiSession& session) {
  constexpr std::size_t kPage = 4096;
  const auto ranks = static_cast<std::size_t>(session.size()), rank = static_cast<std::size_t>(session.rank());
  const std::size_t pages = (bytes + kPage - 1) / kPage;
  const std::size_t begin = pages * rank / ranks * kPage, end = std::min(pages * (rank + 1) / ranks * kPage, bytes);
  if (begin >= end) return;
  int failed = EINTR;
  while (failed == EINTR) failed = posix_fallocate(fd, static_cast<off_t>(begin), static_cast<off_t>(end - begin));
  if (failed != 0) throw Error("allocating {} bytes of shared memory: {}", end - begin, std::strerror(failed));
}

void* map(int fd, std::size_t bytes, bool at_once) {
  const int flags = MAP_SHARED | MAP_NORESERVE | (at_once ? MAP_POPULATE : 0);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (data == MAP_FAILED) throw Error("{}", system_error("mapping shared memory"));
  return data;
}

}  // namespace

std::unique_ptr<SharedSegment> SharedSegment::create(const MpiSession& session, std::size_t bytes,
                                                     std::size_t allocated, std::string& why_not) {
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
      allocate(file.get(), std::min(allocated, bytes), session);
      data = map(file.get(), bytes, allocated >= bytes);
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

}  // namespace mmkd
