#pragma once
#include <CLI/CLI.hpp>

#include <memory>

namespace mmkd {

/// `mmkd sweep …`: many runs from one file.
class SweepCommands {
 public:
  SweepCommands();
  ~SweepCommands();
  void add_to(CLI::App& app);
  /// Runs the subcommand that the command line asked for, if it was one of these; the exit code.
  int run() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mmkd
