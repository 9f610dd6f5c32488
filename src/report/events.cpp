#include "mmkd/report/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "mmkd/base/log.h"

namespace mmkd {

void EventLog::write(const nlohmann::ordered_json& event) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  nlohmann::ordered_json line{{"time", std::chrono::duration<double>(now).count()}};
  line.update(event);
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const int fd = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool written = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (!written && !failed_) log::warn("{}: cannot be written: {}", file_.string(), std::strerror(errno));
  failed_ = !written;
  if (fd >= 0) ::close(fd);
}

}  // namespace mmkd
