#include "mmkd/report/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>

#include "mmkd/base/log.h"

namespace mmkd {
namespace {

/// All of the text or nothing: half a line would spoil the one after it. False: errno says why.
bool append(int fd, std::string_view text) {
  const auto end = ::lseek(fd, 0, SEEK_END);
  while (!text.empty()) {
    const auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int reason = errno;
      [[maybe_unused]] const bool cut = end >= 0 && ::ftruncate(fd, end) == 0;
      errno = reason;
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

void EventLog::write(const nlohmann::ordered_json& event) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  nlohmann::ordered_json line{{"time", std::chrono::duration<double>(now).count()}};
  line.update(event);
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool written = fd >= 0 && append(fd, text);
  if (!written && !failed_) log::warn("{}: cannot be written: {}", file_.string(), std::strerror(errno));
  failed_ = !written;
  if (fd >= 0) ::close(fd);
}

}  // namespace mmkd
