#include "mmkd/base/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/ranges.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (const auto& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!added.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [name, value] : added) all.push_back(fmt::format("{}={}", name, value));
  return all;
}

int exit_code_of(int status) {
  constexpr int kSignalled = 128;
  return WIFSIGNALED(status) ? kSignalled + WTERMSIG(status) : WEXITSTATUS(status);
}

/// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* arguments, char* const* environment, int input, int output, int errors) {
  constexpr int kNotFound = 127;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  execvpe(arguments[0], arguments, environment);
  const char* why = std::strerror(errno);
  for (const char* text : {static_cast<const char*>(arguments[0]), ": ", why, "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  _exit(kNotFound);
}

pid_t start(const std::vector<std::string>& command, const std::map<std::string, std::string>& added, int output,
            int errors) {
  const int input = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const auto variables = environment_with(added);
  const auto arguments = pointers(command), environment = pointers(variables);
  const pid_t pid = ::fork();
  if (pid == 0) become(arguments.data(), environment.data(), input, output, errors);
  const int error = errno;
  ::close(input);
  if (pid < 0) throw Error("{}: cannot be started: {}", command.at(0), std::strerror(error));
  return pid;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command, const ChildOptions& options) {
  if (options.log.has_parent_path()) make_folder(options.log.parent_path());
  const int log = ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) throw Error("{}: cannot be opened: {}", options.log.string(), std::strerror(errno));
  pid_ = start(command, options.environment, log, log);
  ::close(log);
}

std::optional<int> ChildProcess::poll() {
  if (exit_code_) return exit_code_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) == pid_) exit_code_ = exit_code_of(status);
  return exit_code_;
}

void ChildProcess::send(int signal_number) const {
  if (!exit_code_) ::kill(pid_, signal_number);
}

std::string output_of(const std::vector<std::string>& command) {
  std::array<int, 2> out{};
  if (::pipe2(out.data(), O_CLOEXEC) != 0) throw Error("no pipe can be made: {}", std::strerror(errno));
  const pid_t pid = start(command, {}, out[1], out[1]);
  ::close(out[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    const auto n = ::read(out[0], buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
  ::close(out[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (exit_code_of(status) != 0)
    throw Error("`{}` ended with {}: {}", fmt::join(command, " "), exit_code_of(status), text);
  return text;
}

bool is_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    const fs::path folder(rest.substr(0, colon));
    if (::access((folder / program).c_str(), X_OK) == 0) return true;
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
  }
  return false;
}

}  // namespace mmkd
