#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>

#include "mmkd/base/error.h"
#include "tests/parity/runner.h"

int main(int argc, char** argv) {
  mmkd::parity::Options options;
  options.folder = MMKD_SOURCE_DIR "/tests/parity/cases";
  CLI::App app{"Checks this build against the outputs of the reference (tests/parity/README.md)."};
  app.add_option("--cases", options.folder, "Folder of the cases, or its parent with a sub-folder `cases`")
      ->envname("MMKD_PARITY_DIR")
      ->capture_default_str();
  app.add_option("--filter", options.filter, "Only cases whose name contains this");
  app.add_flag("--all", options.all, "Fail if a case is not built yet");
  CLI11_PARSE(app, argc, argv);
  try {
    return mmkd::parity::run(options, mmkd::parity::known_handlers(), std::cout) ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "parity_test: " << error.what() << '\n';
    return 1;
  }
}
