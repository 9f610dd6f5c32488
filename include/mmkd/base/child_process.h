#pragma once
#include <sys/types.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mmkd {

struct ChildOptions {
  std::filesystem::path log;                       ///< standard output and error are appended to it
  std::map<std::string, std::string> environment;  ///< added to this process's
};

/// A program that this process has started. It gets SIGTERM when this process dies. Not to be copied or moved; the
/// destructor does not wait.
class ChildProcess {
 public:
  /// Throws Error if the log cannot be opened; a program that cannot be started ends with 127.
  ChildProcess(const std::vector<std::string>& command, const ChildOptions& options);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// The exit code once it has ended; 128 + the signal's number where a signal ended it.
  std::optional<int> poll();
  void send(int signal_number) const;  ///< nothing once it has ended
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

/// What a program prints to standard output; throws Error if it cannot be started, or ends with another code than 0
/// (with what it said).
std::string output_of(const std::vector<std::string>& command);

/// Is there such a program in PATH?
bool is_in_path(const std::string& program);

}  // namespace mmkd
