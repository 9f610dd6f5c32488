#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace mmkd {

/// One line that is rewritten in place on a terminal; elsewhere a plain line now and then. A null stream shows nothing
/// (ranks other than 0).
class Progress {
 public:
  using Clock = std::chrono::steady_clock;
  /// `stream` is borrowed. `total` steps of the whole task; `terminal`: rewrite in place; `ranks` that share the work.
  Progress(std::FILE* stream, bool terminal, std::string title, std::int64_t total, int ranks = 1);
  ~Progress();  ///< ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// `done` of total; `samples` so far, of all ranks (for the rate); what `detail` says is shown behind
  /// ("epoch 2/3 loss 1.234"); it is asked for only when a line is shown.
  void update(std::int64_t done, std::int64_t samples, const std::function<std::string()>& detail = {});

  /// What update() shows: title, bar, done/total, rate, remaining time, detail.
  struct Shown {
    std::string title;
    std::int64_t first = 0, done = 0, total = 0;  ///< `first`: steps that were done before this process began
    std::int64_t samples = 0;
    int ranks = 1;
    double seconds = 0;
    std::string detail;
  };
  static std::string line(const Shown& shown);

 private:
  std::FILE* stream_;
  bool terminal_;
  std::string title_;
  std::int64_t total_;
  int ranks_;
  Clock::time_point start_ = Clock::now(), shown_{};
  std::int64_t first_done_ = -1;
  bool open_line_ = false;
};

/// Is `stream` a terminal that can rewrite a line?
bool is_terminal(std::FILE* stream);

}  // namespace mmkd
