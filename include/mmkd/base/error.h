#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace mmkd {

/// Exit codes of every program.
enum class ExitCode : int {
  ok = 0,
  failure = 1,       ///< the work could not be done; the message says why
  usage = 2,         ///< command line or configuration is wrong
  peer_lost = 74,    ///< a rank died, was stopped or hung: run the same command again to go on
  interrupted = 75,  ///< stopped by a signal after a checkpoint: run the same command again to go on (EX_TEMPFAIL)
};

/// Anything that the input, the machine or a file does wrong. The message says what, where, what was expected and
/// found, and how to mend it; programs print it once and exit with code().
class Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}

  virtual ExitCode code() const noexcept { return ExitCode::failure; }
};

/// The command line or the configuration is wrong (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
  ExitCode code() const noexcept override { return ExitCode::usage; }
};

/// A stop signal was honoured; state is on disk (exit code 75).
class Interrupted : public Error {
 public:
  using Error::Error;
  ExitCode code() const noexcept override { return ExitCode::interrupted; }
};

}  // namespace mmkd
