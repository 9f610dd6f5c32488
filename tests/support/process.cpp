#include "tests/support/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace mmkd::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPollInterval{2};

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path temporary_file() {
  std::string pattern = (fs::temp_directory_path() / "mmkd-output-XXXXXX").string();
  const int fd = mkstemp(pattern.data());
  if (fd < 0) throw std::runtime_error("no temporary file can be made");
  close(fd);
  return pattern;
}

struct Relative {
  pid_t pid, parent;
  bool alive;  // neither a zombie nor dead
};

std::vector<Relative> all_processes() {
  std::vector<Relative> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = content(entry.path() / "stat");
    const auto after_name = stat.rfind(") ");  // the name is in brackets and may hold anything
    if (after_name == std::string::npos) continue;
    std::istringstream fields(stat.substr(after_name + 2));
    char state = 0;
    pid_t parent = 0;
    fields >> state >> parent;
    found.push_back({static_cast<pid_t>(std::stoi(name)), parent, state != 'Z' && state != 'X'});
  }
  return found;
}

std::vector<pid_t> children_of(pid_t pid, const std::vector<Relative>& processes) {
  std::vector<pid_t> children;
  for (const auto& process : processes) {
    if (process.parent == pid && process.alive) children.push_back(process.pid);
  }
  return children;
}

/// Descendants before their ancestors: mpirun gives each rank a process group of its own, so the group is not enough.
void kill_tree(pid_t pid, const std::vector<Relative>& processes) {
  for (const pid_t child : children_of(pid, processes)) kill_tree(child, processes);
  kill(pid, SIGKILL);
}

}  // namespace

Process::Process(const std::vector<std::string>& command, const ProcessOptions& options)
    : out_(temporary_file()), err_(temporary_file()), start_(Clock::now()), deadline_(start_ + options.timeout) {
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("no process can be started");
  if (pid_ > 0) return;
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves nothing running
  const int in = open("/dev/null", O_RDONLY);
  const int out = open(out_.c_str(), O_WRONLY | O_TRUNC);
  const int err = open(err_.c_str(), O_WRONLY | O_TRUNC);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
  setenv("NO_COLOR", "1", 1);
  if (!options.folder.empty() && chdir(options.folder.c_str()) != 0) _exit(127);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

Process::~Process() {
  if (!ended()) {
    kill_everything();
    waitpid(pid_, &status_, 0);
  }
  std::error_code ignored;
  fs::remove(out_, ignored);
  fs::remove(err_, ignored);
}

bool Process::ended() {
  if (!reaped_) reaped_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return reaped_;
}

bool Process::wait_until(const std::function<bool()>& condition) {
  while (!condition()) {
    if (ended() || Clock::now() > deadline_) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

std::string Process::err() const { return content(err_); }

void Process::send(int signal) const { kill(pid_, signal); }

std::vector<pid_t> Process::ranks() const { return children_of(pid_, all_processes()); }

void Process::kill_everything() const { kill_tree(pid_, all_processes()); }

ProcessResult Process::wait() {
  ProcessResult result;
  while (!ended()) {
    if (Clock::now() > deadline_) {
      result.timed_out = true;
      kill_everything();
      waitpid(pid_, &status_, 0);
      reaped_ = true;
      break;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  result.exit_code = WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
  result.out = content(out_);
  result.err = content(err_);
  result.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  return result;
}

ProcessResult run(const std::vector<std::string>& command, const ProcessOptions& options) {
  return Process(command, options).wait();
}

std::map<std::string, std::string> fault_environment(const fs::path& folder, const Faults& faults) {
  std::map<std::string, std::string> environment{
      {"LD_PRELOAD", MMKD_FAULT_LIBRARY},         {"MMKD_FAULT_UNDER", fs::canonical(folder).string() + "/"},
      {"MMKD_FAULT_MATCH", faults.match},         {"MMKD_FAULT_FAIL_WRITE", faults.write},
      {"MMKD_FAULT_FAIL_FSYNC", faults.fsync},    {"MMKD_FAULT_DELAY_MS", std::to_string(faults.delay_ms)},
      {"MMKD_FAULT_CLOCK", faults.clock.string()}};
  if (faults.short_writes) environment["MMKD_FAULT_SHORT_WRITES"] = "1";
  return environment;
}

std::vector<std::string> on_ranks(int ranks, std::vector<std::string> command) {
  std::istringstream words(MMKD_MPIRUN);
  std::vector<std::string> all;
  for (std::string word; words >> word;) all.push_back(word);
  all.insert(all.end(), {"-n", std::to_string(ranks)});
  all.insert(all.end(), command.begin(), command.end());
  return all;
}

::testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << part << "' is not in:\n" << text;
}

std::vector<std::string> own_errors(const std::string& err) {
  std::vector<std::string> errors;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    for (const char* program : {"mmkd-pack: ", "mmkd-ddp: ", "mmkd: "}) {
      if (line.starts_with(program)) errors.push_back(line);
    }
  }
  return errors;
}

}  // namespace mmkd::test
