#include "mmkd/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

struct State {
  std::mutex mutex;
  std::string tag;
  std::shared_ptr<spdlog::sinks::sink> console;
  std::shared_ptr<spdlog::logger> logger;

  State() {
    // https://no-color.org: any non-empty value turns colours off.
    const char* no_color = std::getenv("NO_COLOR");
    const bool plain = no_color != nullptr && *no_color != '\0';
    console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(plain ? spdlog::color_mode::never
                                                                          : spdlog::color_mode::automatic);
    console->set_pattern("%^%L%$ %H:%M:%S %v");
    logger = std::make_shared<spdlog::logger>("mmkd", console);
    logger->set_level(spdlog::level::debug);
    console->set_level(spdlog::level::info);
    logger->flush_on(spdlog::level::warn);
  }
};

State& state() {
  static State instance;
  return instance;
}

}  // namespace

void configure(Level console_level, std::string rank_tag) {
  auto& s = state();
  const std::lock_guard lock(s.mutex);
  s.console->set_level(to_spdlog(console_level));
  s.tag = std::move(rank_tag);
}

void set_file(const std::filesystem::path& file) {
  auto& s = state();
  const std::lock_guard lock(s.mutex);
  try {
    if (file.has_parent_path()) make_folder(file.parent_path());
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string(), false);
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    s.logger->sinks().resize(1);  // the console
    s.logger->sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& e) {
    throw Error("{}: the log file cannot be opened: {}", file.string(), e.what());
  }
}

void write(Level level, std::string_view message) {
  auto& s = state();
  if (s.tag.empty()) {
    s.logger->log(to_spdlog(level), "{}", message);
  } else {
    s.logger->log(to_spdlog(level), "[{}] {}", s.tag, message);
  }
}

void flush() { state().logger->flush(); }

}  // namespace mmkd::log
