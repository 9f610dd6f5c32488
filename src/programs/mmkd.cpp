// mmkd: what surrounds a run. Links no torch, so that it starts at once.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/config/load.h"
#include "mmkd/config/print.h"
#include "mmkd/version.h"

int main(int argc, char** argv) {
  CLI::App app("mmkd: the tools around packing and training");
  app.set_version_flag("--version", std::string("mmkd ") + mmkd::kVersion);
  app.require_subcommand(1);
  auto* config = app.add_subcommand("config", "Look at configurations");
  config->require_subcommand(1);
  std::string file;
  std::vector<std::string> overrides;
  auto* show = config->add_subcommand("show", "Every key with its value and where the value came from");
  show->add_option("config", file, "YAML configuration")->required();
  show->add_option("--set", overrides, "Override a key (repeatable)")->expected(1)->take_all();
  auto* reference = config->add_subcommand("reference", "The reference of all keys, as Markdown");
  try {
    app.parse(argc, argv);
    if (show->parsed()) std::fputs(mmkd::config_show(mmkd::load_config(file, overrides)).c_str(), stdout);
    if (reference->parsed()) std::fputs(mmkd::configuration_reference().c_str(), stdout);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : static_cast<int>(mmkd::ExitCode::usage);
  } catch (const mmkd::Error& e) {
    std::fprintf(stderr, "mmkd: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mmkd: %s\n", e.what());
    return static_cast<int>(mmkd::ExitCode::failure);
  }
  return 0;
}
