#include "mmkd/report/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

namespace mmkd {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(10);

std::string duration(double seconds) {
  const auto s = std::llround(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

/// The beginning that fits: a line that wraps could not be rewritten in place.
std::string cut_to_terminal(const std::string& text, std::FILE* stream) {
  struct winsize size {};
  if (ioctl(fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || text.size() < size.ws_col) return text;
  return text.substr(0, size.ws_col - 1);
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(stream)) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

Progress::Progress(std::FILE* stream, bool terminal, std::string title, std::int64_t total, int ranks)
    : stream_(stream), terminal_(terminal), title_(std::move(title)), total_(total), ranks_(ranks) {}

Progress::~Progress() {
  if (open_line_) std::fputc('\n', stream_);
}

std::string Progress::line(const Shown& s) {
  constexpr std::int64_t kWidth = 20;
  const auto filled = static_cast<std::size_t>(s.total > 0 ? std::min(kWidth, kWidth * s.done / s.total) : kWidth);
  std::string text = fmt::format("{:<8} [{}{}] {}/{}", s.title, std::string(filled, '#'),
                                 std::string(static_cast<std::size_t>(kWidth) - filled, '.'), s.done, s.total);
  if (s.seconds > 0 && s.samples > 0) {
    const double rate = static_cast<double>(s.samples) / s.seconds;
    text += fmt::format("  {:.1f} samples/s", rate);
    if (s.ranks > 1) text += fmt::format(" ({:.1f} a rank)", rate / s.ranks);
  }
  if (s.done > s.first && s.done < s.total && s.seconds > 0) {
    text += "  " + duration(s.seconds / static_cast<double>(s.done - s.first) * static_cast<double>(s.total - s.done)) +
            " left";
  }
  if (!s.detail.empty()) text += "  " + s.detail;
  return text;
}

void Progress::update(std::int64_t done, std::int64_t samples, const std::function<std::string()>& detail) {
  if (stream_ == nullptr) return;
  const auto now = Clock::now();
  if (first_done_ < 0) first_done_ = done;
  const bool last = done >= total_;
  const auto interval = terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kPlainInterval);
  if (!last && shown_ != Clock::time_point{} && now - shown_ < interval) return;
  if (!terminal_ && !last &&
      shown_ == Clock::time_point{}) {  // the first plain line comes after an interval, not at once
    shown_ = now;
    return;
  }
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string text =
      line({title_, first_done_, done, total_, samples, ranks_, seconds, detail ? detail() : std::string()});
  if (terminal_) {
    fmt::print(stream_, "\r{}\033[K", cut_to_terminal(text, stream_));
    open_line_ = true;
  } else {
    fmt::print(stream_, "{}\n", text);
  }
  std::fflush(stream_);
}

}  // namespace mmkd
