#include "mmkd/stages/lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/log.h"
#include "mmkd/base/process.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;

// Written in place, always with the same length: a full disk does not stop the signs of life.
constexpr std::size_t kRecordBytes = 1024;
constexpr std::size_t kProgressBytes = 300;

fs::path lock_file(const fs::path& place, std::int64_t generation) {
  return fmt::format("{}.lock.{}", place.string(), generation);
}

struct Seen {
  std::int64_t generation = 0;
  std::string bytes;  ///< empty while the owner has not written it yet
};

/// Generations of the lock that are there.
std::vector<std::int64_t> generations(const fs::path& place) {
  std::vector<std::int64_t> found;
  std::error_code error;
  const std::string prefix = place.filename().string() + ".lock.";
  for (const auto& entry : fs::directory_iterator(place.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    std::int64_t generation = 0;
    const auto [end, failed] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), generation);
    if (failed == std::errc() && end == name.data() + name.size()) found.push_back(generation);
  }
  return found;
}

std::int64_t newest(const fs::path& place) {
  std::int64_t newest = 0;
  for (const auto generation : generations(place)) newest = std::max(newest, generation);
  return newest;
}

/// The lock that counts; nothing: it is free.
std::optional<Seen> look(const fs::path& place) {
  const auto generation = newest(place);
  if (generation == 0) return std::nullopt;
  try {
    return Seen{generation, read_file(lock_file(place, generation), kRecordBytes)};
  } catch (const Error&) {
    return Seen{generation, ""};  // given back at this moment, or being written
  }
}

nlohmann::json record_of(const Seen& seen) {
  auto json = nlohmann::json::parse(seen.bytes, nullptr, false);
  return json.is_object() ? json : nlohmann::json::object();
}

LockOwner owner_of(const Seen& seen) {
  const auto record = record_of(seen);
  const auto process = process_from_json(record.contains("process") ? record["process"] : nlohmann::json());
  const auto text = [&](const char* key) {
    return record.contains(key) && record[key].is_string() ? record[key].get<std::string>() : "";
  };
  return {process.host, process.pid, text("since"), text("progress")};
}

bool owner_has_ended(const Seen& seen) {
  const auto record = record_of(seen);
  return record.contains("process") && has_ended(process_from_json(record["process"]));
}

/// The descriptor of the new file; nothing: another process has made it.
std::optional<int> create(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd >= 0) return fd;
  if (errno == EEXIST) return std::nullopt;
  throw Error("{}: cannot be created: {}", file.string(), std::strerror(errno));
}

/// Follows the lock of another process and tells when it has to be taken over.
class Watch {
 public:
  explicit Watch(std::chrono::milliseconds stale_after) : stale_after_(stale_after) {}

  bool is_stale(const Seen& now) {
    if (now.generation != seen_.generation || now.bytes != seen_.bytes) {
      seen_ = now;
      changed_ = Clock::now();
    }
    return owner_has_ended(now) || Clock::now() - changed_ >= stale_after_;
  }

 private:
  std::chrono::milliseconds stale_after_;
  Seen seen_;
  Clock::time_point changed_ = Clock::now();
};

}  // namespace

std::unique_ptr<StageLock> StageLock::acquire(const fs::path& place, LockOptions options) {
  make_folder(place.parent_path());
  Watch watch(options.stale_after);
  for (;; std::this_thread::sleep_for(options.poll)) {
    const auto current = look(place);
    if (current && !watch.is_stale(*current)) {
      if (options.waiting) options.waiting(owner_of(*current));
      continue;
    }
    const auto generation = current ? current->generation + 1 : 1;
    const auto file = lock_file(place, generation);
    const auto fd = create(file);
    if (!fd) continue;
    if (newest(place) != generation) {  // one who saw an older state was faster
      ::close(*fd);
      fs::remove(file);
      continue;
    }
    if (current) {
      const auto owner = owner_of(*current);
      log::warn("{}: taken over from process {} on {}, which gives no sign of life", place.filename().string(),
                owner.pid, owner.host.empty() ? "an unknown host" : owner.host);
    }
    return std::unique_ptr<StageLock>(new StageLock(place, generation, *fd, std::move(options)));
  }
}

StageLock::StageLock(fs::path place, std::int64_t generation, int fd, LockOptions options)
    : place_(std::move(place)),
      generation_(generation),
      fd_(fd),
      options_(std::move(options)),
      since_(utc_timestamp()) {
  write_state();
  std::error_code ignored;
  for (const auto older : generations(place_)) {
    if (older < generation_) fs::remove(lock_file(place_, older), ignored);
  }
  thread_ = std::thread([this] { beat(); });
}

StageLock::~StageLock() {
  {
    const std::lock_guard guard(mutex_);
    done_ = true;
  }
  wake_.notify_all();
  thread_.join();
  ::close(fd_);
  std::error_code ignored;
  fs::remove(lock_file(place_, generation_), ignored);
}

void StageLock::beat() {
  std::unique_lock guard(mutex_);
  while (!wake_.wait_for(guard, options_.beat, [&] { return done_; })) {
    guard.unlock();
    const bool taken_over = newest(place_) > generation_;
    if (taken_over) {
      if (options_.lost) options_.lost();
      return;
    }
    write_state();
    guard.lock();
  }
}

void StageLock::write_state() {
  std::string progress = options_.progress ? options_.progress() : "";
  progress.resize(std::min(progress.size(), kProgressBytes));
  const nlohmann::json record{
      {"process", to_json(this_process())}, {"since", since_}, {"beat", beats_++}, {"progress", progress}};
  std::string text = record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize(kRecordBytes - 1, ' ');
  text += '\n';
  // A beat that cannot be written is one that the others miss; the next one may succeed.
  if (::pwrite(fd_, text.data(), text.size(), 0) >= 0) ::fsync(fd_);
}

std::optional<LockOwner> StageLock::owner(const fs::path& place) {
  const auto seen = look(place);
  if (!seen || owner_has_ended(*seen)) return std::nullopt;
  return owner_of(*seen);
}

}  // namespace mmkd
