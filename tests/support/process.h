#pragma once
#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

// Programs started as their users start them: by the command line, alone or under mpirun.
namespace mmkd::test {

struct ProcessResult {
  int exit_code = 0;  ///< 128 + signal where a signal ended it
  bool timed_out = false;
  std::string out, err;
  double seconds = 0;
  std::string all() const { return "exit code " + std::to_string(exit_code) + "\n" + out + err; }
};

struct ProcessOptions {
  std::map<std::string, std::string> environment;  ///< added to that of the test
  std::filesystem::path folder;                    ///< working folder; empty: that of the test
  std::chrono::seconds timeout{60};
};

/// One running program. What is still alive when this object goes is killed, with all its descendants.
class Process {
 public:
  /// Throws std::runtime_error if it cannot be started. Output goes to temporary files, so that no pipe can fill up.
  Process(const std::vector<std::string>& command, const ProcessOptions& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Polls until the condition holds (true), or until the program ended or its timeout passed (false).
  bool wait_until(const std::function<bool()>& condition);
  std::string err() const;           ///< standard error so far
  void send(int signal) const;       ///< to the started process alone
  std::vector<pid_t> ranks() const;  ///< its direct children that are alive: under mpirun the ranks
  void kill_everything() const;      ///< SIGKILL to the process and all its descendants, ranks first

  /// Waits for the end; past the timeout everything is killed.
  ProcessResult wait();

 private:
  bool ended();
  pid_t pid_ = -1;
  int status_ = 0;
  bool reaped_ = false;
  std::filesystem::path out_, err_;
  std::chrono::steady_clock::time_point start_, deadline_;
};

ProcessResult run(const std::vector<std::string>& command, const ProcessOptions& options = {});

/// How the disk and the clock of a program fail (fault_injection.cpp); each process counts for itself.
struct Faults {
  std::string match;              ///< only files whose path has this text in it
  std::string write, fsync;       ///< "3": the third call fails with EIO, "3+": that one and all after it; "": none
  bool short_writes = false;      ///< each write takes half of the bytes
  int delay_ms = 0;               ///< of each write and fsync
  std::filesystem::path clock{};  ///< a file that says by how many seconds the wall clock is off, from when it is there
};

/// What makes a program fail so where it touches files below `folder`.
std::map<std::string, std::string> fault_environment(const std::filesystem::path& folder, const Faults& faults);

/// The command under mpirun with the flags of the tests (MMKD_MPIRUN, a compile definition).
std::vector<std::string> on_ranks(int ranks, std::vector<std::string> command);

/// Says the whole text where the part is not in it.
::testing::AssertionResult contains(const std::string& text, const std::string& part);

/// The lines that our programs themselves say: those that begin with the program's name and a colon.
std::vector<std::string> own_errors(const std::string& err);

}  // namespace mmkd::test
