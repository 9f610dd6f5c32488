#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace mmkd {

namespace fs = std::filesystem;

/// Whole file as bytes. Throws Error naming the path and the system's reason; `limit` bytes at most (0: no limit).
std::string read_file(const fs::path& path, std::uint64_t limit = 0);

/// Writes beside `path`, fsyncs, renames over it and fsyncs the folder: readers see the old or the new file, whole.
/// Throws Error (disk full, read-only folder, …); the old file is intact then and nothing is left beside it.
void write_file_atomic(const fs::path& path, std::string_view bytes);

/// A file that exists under its final name only once commit() was called.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);  ///< creates the folder; opens `<path>.<pid>-<n>.tmp`
  ~AtomicFile();                       ///< removes the temporary unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void commit() &&;

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
};

/// Writes into an existing file, anywhere and from any thread.
class PlacedWriter {
 public:
  explicit PlacedWriter(const fs::path& path);
  ~PlacedWriter();
  PlacedWriter(const PlacedWriter&) = delete;
  PlacedWriter& operator=(const PlacedWriter&) = delete;
  /// A place behind the file's end makes it longer.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes) const;

 private:
  fs::path path_;
  int fd_;
};

void fsync_file(const fs::path& path);
void fsync_folder(const fs::path& path);

/// Creates the folder and its parents; Error says which part failed and why.
void make_folder(const fs::path& path);

/// Throws Error unless a file can be created in `folder` (made if missing): read-only and full disks show up before
/// hours of work rather than after.
void require_writable(const fs::path& folder, std::string_view purpose);

/// Hard link, or an atomic copy where the file system has none. An existing target is replaced.
void link_or_copy(const fs::path& from, const fs::path& to);

/// A folder built aside, `<final>.<unique>.tmp`, and renamed into place by commit(); removed unless committed.
class AtomicFolder {
 public:
  explicit AtomicFolder(fs::path final_path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const fs::path& path() const { return temporary_; }
  /// Fsyncs every file, renames. If another builder was faster its folder stays and ours is removed: false.
  /// An existing folder is moved aside first when `replace` is set.
  bool commit(bool replace = false) &&;

 private:
  fs::path final_, temporary_;
  bool committed_ = false;
};

/// Removes temporaries of AtomicFile and AtomicFolder in `folder` that a killed process left behind: those not written
/// to for `older_than`, so that what another process is building at this moment stays.
void remove_stale_temporaries(const fs::path& folder, std::chrono::hours older_than);

/// Free bytes for this user on the file system of `path` (or of its nearest existing parent).
std::uint64_t free_bytes(const fs::path& path);

}  // namespace mmkd
