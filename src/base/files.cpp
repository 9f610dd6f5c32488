#include "mmkd/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr const char* kTemporarySuffix = ".tmp";

std::string reason(int error_number) { return std::strerror(error_number); }

/// A name beside `path` that no other process or thread uses.
fs::path unique_beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  return fs::path(fmt::format("{}.{}-{:x}-{}{}", path.string(), ::getpid(), static_cast<std::uint64_t>(now.tv_nsec),
                              counter++, kTemporarySuffix));
}

void write_fully(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      throw Error("{}: cannot be written: {}", path.string(), reason(errno));
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) throw Error("{}: cannot be opened: {}", path.string(), reason(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void fsync_path(const fs::path& path, int flags) {
  const Descriptor file(path, flags);
  if (::fsync(file.get()) != 0) throw Error("{}: cannot be flushed to disk: {}", path.string(), reason(errno));
}

void rename_or_throw(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw Error("{}: cannot be renamed to {}: {}", from.string(), to.string(), reason(errno));
  }
}

}  // namespace

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const Descriptor file(path, O_RDONLY);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw Error("{}: cannot be examined: {}", path.string(), reason(errno));
  if (S_ISDIR(status.st_mode)) throw Error("{}: is a folder, a file is needed", path.string());
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (limit != 0 && size > limit) throw Error("{}: has {} bytes, at most {} are accepted", path.string(), size, limit);
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0) {
      if (errno == EINTR) continue;
      throw Error("{}: cannot be read: {}", path.string(), reason(errno));
    }
    if (n == 0) throw Error("{}: became shorter while it was read ({} of {} bytes)", path.string(), done, size);
    done += static_cast<std::size_t>(n);
  }
  return bytes;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), temporary_(unique_beside(path_)) {
  if (path_.has_parent_path()) make_folder(path_.parent_path());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error("{}: cannot be created: {}", path_.string(), reason(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(std::string_view bytes) { write_fully(fd_, bytes, path_); }

void AtomicFile::commit() && {
  if (::fsync(fd_) != 0) throw Error("{}: cannot be flushed to disk: {}", path_.string(), reason(errno));
  rename_or_throw(temporary_, path_);
  ::close(fd_);
  fd_ = -1;
  fsync_folder(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  std::move(file).commit();
}

PlacedWriter::PlacedWriter(const fs::path& path) : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CLOEXEC)) {
  if (fd_ < 0) throw Error("{}: cannot be opened for writing: {}", path.string(), reason(errno));
}

PlacedWriter::~PlacedWriter() { ::close(fd_); }

void PlacedWriter::write_at(std::uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      throw Error("{}: cannot be written: {}", path_.string(), reason(errno));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
}

void fsync_file(const fs::path& path) { fsync_path(path, O_RDONLY); }

void fsync_folder(const fs::path& path) { fsync_path(path, O_RDONLY | O_DIRECTORY); }

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error("{}: the folder cannot be made: {}", path.string(), error.message());
  if (!fs::is_directory(path, error)) throw Error("{}: is a file, a folder is needed", path.string());
}

void require_writable(const fs::path& folder, std::string_view purpose) {
  try {
    make_folder(folder);
    AtomicFile probe(folder / ".write-test");
    // More than an empty file: a full disk still lets empty files be made.
    probe.write(std::string(4096, '\0'));
  } catch (const Error& error) {
    throw Error("{} cannot be written to ({}). Choose a writable folder with free space.", purpose, error.what());
  }
}

void link_or_copy(const fs::path& from, const fs::path& to) {
  if (to.has_parent_path()) make_folder(to.parent_path());
  const fs::path temporary = unique_beside(to);
  if (::link(from.c_str(), temporary.c_str()) == 0) {
    // rename() does nothing, successfully, when both names are already links to one file: the temporary must go then.
    rename_or_throw(temporary, to);
    ::unlink(temporary.c_str());
    return;
  }
  write_file_atomic(to, read_file(from));
}

AtomicFolder::AtomicFolder(fs::path final_path) : final_(std::move(final_path)), temporary_(unique_beside(final_)) {
  make_folder(temporary_);
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

bool AtomicFolder::commit(bool replace) && {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    if (entry.is_regular_file()) fsync_file(entry.path());
    if (entry.is_directory()) fsync_folder(entry.path());
  }
  fsync_folder(temporary_);
  if (replace && fs::exists(final_)) {
    const fs::path old = unique_beside(final_);
    rename_or_throw(final_, old);
    std::error_code ignored;
    fs::remove_all(old, ignored);
  }
  if (::rename(temporary_.c_str(), final_.c_str()) != 0) {
    if (errno == EEXIST || errno == ENOTEMPTY) return false;
    throw Error("{}: cannot be renamed to {}: {}", temporary_.string(), final_.string(), reason(errno));
  }
  committed_ = true;
  fsync_folder(final_.has_parent_path() ? final_.parent_path() : fs::path("."));
  return true;
}

void remove_stale_temporaries(const fs::path& folder, std::chrono::hours older_than) {
  std::error_code ignored;
  const auto limit = fs::file_time_type::clock::now() - older_than;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != kTemporarySuffix) continue;
    const auto written = entry.last_write_time(ignored);
    if (!ignored && written < limit) fs::remove_all(entry.path(), ignored);
  }
}

std::uint64_t free_bytes(const fs::path& path) {
  fs::path existing = fs::absolute(path);
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  std::error_code error;
  const auto space = fs::space(existing, error);
  if (error) throw Error("{}: free space cannot be told: {}", existing.string(), error.message());
  return space.available;
}

}  // namespace mmkd
