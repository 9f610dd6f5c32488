#include "mmkd/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "mmkd/base/error.h"

namespace mmkd {

MappedFile::MappedFile(const std::filesystem::path& path, MapAccess access) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("{}: cannot be opened: {}", path.string(), std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(fd, &status) == 0;
  size_ = known ? static_cast<std::size_t>(status.st_size) : 0;
  const bool writable = access == MapAccess::copy_on_write;
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const int flags = writable ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
  if (size_ > 0) data_ = ::mmap(nullptr, size_, protection, flags, fd, 0);
  const int reason = errno;
  ::close(fd);
  if (!known || data_ == MAP_FAILED) {
    data_ = nullptr;
    throw Error("{}: cannot be mapped: {}", path.string(), std::strerror(reason));
  }
}

void MappedFile::let_pages_go() const {
  if (data_ != nullptr) ::madvise(data_, size_, MADV_DONTNEED);  // where it fails they merely stay
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace mmkd
