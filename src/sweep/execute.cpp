#include "mmkd/sweep/execute.h"

#include <csignal>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {

std::vector<std::string> task_command(const NodeTask& task, const Launch& launch) {
  if (task.stage == "pack") return {(launch.programs / "mmkd-pack").string(), task.config.string()};
  std::vector<std::string> command{(launch.programs / "mmkd-run").string()};
  if (launch.ranks > 0) command.insert(command.end(), {"-n", std::to_string(launch.ranks)});
  if (launch.launcher != "mpirun") command.insert(command.end(), {"--launcher", launch.launcher});
  command.insert(command.end(), {task.config.string(), "--set", "logging.log_dir=" + task.log_dir.string()});
  if (!task.until.empty()) command.insert(command.end(), {"--until", task.until});
  return command;
}

RunningTask::RunningTask(SweepFolder folder, NodeTask task, const Launch& launch)
    : folder_(std::move(folder)), task_(std::move(task)), record_(read_record(folder_, task_.id)) {
  child_ = std::make_unique<ChildProcess>(task_command(task_, launch),
                                          ChildOptions{folder_.log(task_.id), launch.environment});
  record_.state = "running";
  record_.error.clear();
  ++record_.attempts;
  record_.process = this_process();
  write_record(folder_, task_.id, record_);
}

std::optional<NodeRecord> RunningTask::poll() {
  const auto code = child_->poll();
  if (!code) return std::nullopt;
  record_.exit_code = *code;
  record_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  record_.process.reset();
  record_.state = *code == 0 ? "done" : *code == static_cast<int>(ExitCode::interrupted) ? "interrupted" : "failed";
  if (record_.state == "failed") record_.error = error_line(folder_.log(task_.id));
  write_record(folder_, task_.id, record_);
  return record_;
}

void RunningTask::stop() { child_->send(SIGTERM); }

bool is_worth_retrying(int exit_code) {
  constexpr int kSignalled = 128;
  return exit_code == static_cast<int>(ExitCode::peer_lost) || exit_code == static_cast<int>(ExitCode::interrupted) ||
         exit_code > kSignalled;
}

}  // namespace mmkd
