#pragma once
#include <CLI/CLI.hpp>

#include <string>

// What is made from a command line's own description, so that it is never behind it.
namespace mmkd {

/// A man page (section 1) of a program and all its subcommands. `program`: its name.
std::string man_page(const CLI::App& app, const std::string& program);

/// Completion of subcommands and options; `shell`: "bash", "zsh" or "fish". File names complete as usual.
std::string completion(const CLI::App& app, const std::string& program, const std::string& shell);

/// Adds `--man` and `--completion SHELL`, which print these and end, to a program's command line (not shown in its
/// help).
void add_document_options(CLI::App& app, const std::string& program);

}  // namespace mmkd
