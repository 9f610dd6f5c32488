#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/data/teacher_cache.h"
#include "teacher_cache_file.h"

// The journal: a header, then blocks in the order of their arrival. All numbers little-endian.
//   header: magic "MMKDJRN1", u64 checksum of the layout
//   block:  u64 block number, u64 rows, keys u64 [rows], values f32 [rows, floats_per_row], u64 XXH3 of all before
namespace mmkd {
namespace {

constexpr float kHalfLimit = 65520;  // from here on binary16 rounds to infinity

constexpr std::string_view kMagic = "MMKDJRN1";

std::uint64_t layout_checksum(const TeacherCacheLayout& layout, std::int64_t block_rows) {
  return checksum64(fmt::format("{} {} {} {} {} [{}] {} {} {} {}", layout.rows, layout.views, layout.img_raw,
                                layout.txt_raw, layout.proj, fmt::join(layout.classes, ","),
                                static_cast<int>(layout.features), layout.pack_key, layout.teacher_key, block_rows));
}

void append_u64(std::string& bytes, std::uint64_t value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint64_t u64_at(const std::string& bytes, std::size_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

}  // namespace

struct TeacherCacheJournal::Impl {
  fs::path path;
  TeacherCacheLayout layout;
  std::int64_t block_rows = 0;
  int fd = -1;
  std::uint64_t end = 0;                 // where the next block goes
  std::vector<std::uint64_t> offset_of;  // of each block; 0: not there

  ~Impl() {
    if (fd >= 0) ::close(fd);
  }

  std::int64_t rows_of(std::int64_t block) const { return std::min(block_rows, layout.rows - block * block_rows); }

  std::size_t bytes_of(std::int64_t block) const {
    const auto rows = static_cast<std::size_t>(rows_of(block));
    return 24 + rows * (8 + 4 * static_cast<std::size_t>(layout.floats_per_row()));
  }

  std::string read(std::uint64_t offset, std::size_t size) const {
    std::string bytes(size, '\0');
    std::size_t done = 0;
    while (done < size) {
      const auto n = ::pread(fd, bytes.data() + done, size - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        bytes.resize(done);
        break;
      }
      done += static_cast<std::size_t>(n);
    }
    return bytes;
  }

  void write(std::uint64_t offset, std::string_view bytes) const {
    while (!bytes.empty()) {
      const auto n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw Error("{}: cannot be written: {}", path.string(), std::strerror(errno));
      bytes.remove_prefix(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    if (::fdatasync(fd) != 0) throw Error("{}: cannot be flushed to disk: {}", path.string(), std::strerror(errno));
  }

  std::string header() const {
    std::string bytes(kMagic);
    append_u64(bytes, layout_checksum(layout, block_rows));
    return bytes;
  }

  void cut(std::uint64_t size) {
    if (::ftruncate(fd, static_cast<off_t>(size)) != 0)
      throw Error("{}: cannot be shortened: {}", path.string(), std::strerror(errno));
    end = size;
  }

  /// Finds the blocks that are whole; everything from the first torn one on is cut off.
  void scan() {
    const std::string expected = header();
    const auto found = static_cast<std::uint64_t>(::lseek(fd, 0, SEEK_END));
    if (read(0, expected.size()) != expected) {
      if (found > 0) log::info("{}: belongs to another cache or is damaged; it is begun anew", path.string());
      cut(0);
      write(0, expected);
      end = expected.size();
      return;
    }
    end = expected.size();
    for (;;) {
      const std::string head = read(end, 16);
      if (head.size() < 16) break;
      const std::uint64_t block = u64_at(head, 0);
      if (block >= offset_of.size() ||
          u64_at(head, 8) != static_cast<std::uint64_t>(rows_of(static_cast<std::int64_t>(block))))
        break;
      const std::size_t size = bytes_of(static_cast<std::int64_t>(block));
      const std::string bytes = read(end, size);
      if (bytes.size() < size || checksum64(std::string_view(bytes).substr(0, size - 8)) != u64_at(bytes, size - 8))
        break;
      offset_of[block] = end;
      end += size;
    }
    if (end < found)
      log::info("{}: its last {} bytes are torn or damaged; they are cut off", path.string(), found - end);
    cut(end);
  }
};

TeacherCacheJournal::TeacherCacheJournal(fs::path file, const TeacherCacheLayout& layout, std::int64_t block_rows)
    : impl_(std::make_unique<Impl>()) {
  if (block_rows < 1) throw Error("{}: blocks of {} rows are not possible", file.string(), block_rows);
  impl_->path = std::move(file);
  impl_->layout = layout;
  impl_->block_rows = block_rows;
  impl_->offset_of.assign(static_cast<std::size_t>((layout.rows + block_rows - 1) / block_rows), 0);
  if (impl_->path.has_parent_path()) make_folder(impl_->path.parent_path());
  impl_->fd = ::open(impl_->path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (impl_->fd < 0) throw Error("{}: cannot be opened: {}", impl_->path.string(), std::strerror(errno));
  impl_->scan();
}

TeacherCacheJournal::~TeacherCacheJournal() = default;

std::int64_t TeacherCacheJournal::blocks() const { return static_cast<std::int64_t>(impl_->offset_of.size()); }
std::int64_t TeacherCacheJournal::rows_of(std::int64_t block) const { return impl_->rows_of(block); }
bool TeacherCacheJournal::has(std::int64_t block) const {
  return impl_->offset_of.at(static_cast<std::size_t>(block)) != 0;
}

void TeacherCacheJournal::add(std::int64_t block, std::span<const std::uint64_t> keys, std::span<const float> values) {
  auto& impl = *impl_;
  const auto rows = static_cast<std::size_t>(impl.rows_of(block));
  const auto width = static_cast<std::size_t>(impl.layout.floats_per_row());
  if (has(block)) throw Error("teacher cache: block {} arrived twice", block);
  if (keys.size() != rows || values.size() != rows * width) {
    throw Error("teacher cache: block {} has {} keys and {} numbers, expected {} and {}", block, keys.size(),
                values.size(), rows, rows * width);
  }
  for (std::size_t k = 0; k < values.size(); ++k) {
    const bool fits = impl.layout.features == CacheFeatures::fp32 || std::abs(values[k]) < kHalfLimit;
    if (!std::isfinite(values[k])) {
      throw Error(
          "teacher cache: the teacher's output for training sample {} holds {}: it diverged; lower training.teacher_lr",
          static_cast<std::size_t>(block * impl.block_rows) + k / width, values[k]);
    }
    if (!fits) {
      throw Error(
          "teacher cache: the teacher's output for training sample {} holds {}, too large for cache.features: fp16; "
          "set "
          "fp32",
          static_cast<std::size_t>(block * impl.block_rows) + k / width, values[k]);
    }
  }
  std::string bytes;
  bytes.reserve(impl.bytes_of(block));
  append_u64(bytes, static_cast<std::uint64_t>(block));
  append_u64(bytes, rows);
  bytes.append(reinterpret_cast<const char*>(keys.data()), keys.size_bytes());
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  append_u64(bytes, checksum64(bytes));
  impl.write(impl.end, bytes);
  impl.offset_of[static_cast<std::size_t>(block)] = impl.end;
  impl.end += bytes.size();
}

void TeacherCacheJournal::assemble(const fs::path& cache_file) const {
  const auto& impl = *impl_;
  const auto missing = std::count(impl.offset_of.begin(), impl.offset_of.end(), std::uint64_t{0});
  if (missing > 0) throw Error("teacher cache: {} of {} blocks are missing", missing, impl.offset_of.size());
  const auto width = static_cast<std::size_t>(impl.layout.floats_per_row());
  const auto block_rows = static_cast<std::size_t>(impl.block_rows);
  std::string bytes;  // of the block that holds the current row
  std::size_t rows = 0;
  write_teacher_cache_file(cache_file, impl.layout, [&](std::size_t i, std::uint64_t& key, std::span<float> values) {
    if (i % block_rows == 0) {
      const auto block = static_cast<std::int64_t>(i / block_rows);
      rows = static_cast<std::size_t>(impl.rows_of(block));
      bytes = impl.read(impl.offset_of[i / block_rows], impl.bytes_of(block));
      if (bytes.size() < impl.bytes_of(block) ||
          checksum64(std::string_view(bytes).substr(0, bytes.size() - 8)) != u64_at(bytes, bytes.size() - 8)) {
        throw Error("{}: block {} changed after it was written: remove the file and run again", impl.path.string(),
                    block);
      }
    }
    const std::size_t row = i % block_rows;
    key = u64_at(bytes, 16 + row * 8);
    std::memcpy(values.data(), bytes.data() + 16 + rows * 8 + row * width * 4, width * 4);
  });
}

}  // namespace mmkd
