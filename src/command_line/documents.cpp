#include "mmkd/command_line/documents.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "mmkd/version.h"

namespace mmkd {
namespace {

/// Text of a man page: hyphens that stay hyphens, no line that is taken for a request.
std::string roff(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '\\') {
      result += "\\e";
    } else if (c == '-') {
      result += "\\-";
    } else if (c == '\n') {
      result += "\n.br\n";
    } else {
      if ((c == '.' || c == '\'') && (result.empty() || result.back() == '\n')) result += "\\&";
      result += c;
    }
  }
  return result;
}

bool is_shown(const CLI::Option& option) { return !option.get_group().empty(); }

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  std::vector<const CLI::App*> all;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) all.push_back(command);
  return all;
}

std::string options_text(const CLI::App& app) {
  std::string text;
  for (const auto* option : app.get_options()) {
    if (!is_shown(*option)) continue;
    const bool takes_value = option->get_items_expected_max() > 0;
    std::string names = option->get_positional() ? option->get_name(true) : option->get_name(false, true);
    std::string shown = ".TP\n.B " + roff(names);
    if (takes_value && !option->get_positional()) shown += " \\fI" + roff(option->get_type_name()) + "\\fR";
    text += shown + "\n" + roff(option->get_description());
    if (const auto standard = option->get_default_str(); !standard.empty()) text += " [" + roff(standard) + "]";
    text += "\n";
  }
  return text;
}

std::string synopsis(const CLI::App& app, const std::string& name) {
  std::string text = ".B " + roff(name) + "\n";
  bool has_options = false;
  for (const auto* option : app.get_options()) has_options |= is_shown(*option) && !option->get_positional();
  if (has_options) text += "[options]\n";
  for (const auto* option : app.get_options()) {
    if (!option->get_positional()) continue;
    const auto name_of = option->get_name(true);
    text += option->get_required() ? "\\fI" + roff(name_of) + "\\fR\n" : "[\\fI" + roff(name_of) + "\\fR]\n";
  }
  return text;
}

void add_commands(const CLI::App& app, const std::string& name, std::string& text) {
  for (const auto* command : commands_of(app)) {
    const auto full = name + " " + command->get_name();
    if (commands_of(*command).empty()) {
      text += ".SS " + roff(full) + "\n" + synopsis(*command, full) + ".PP\n" + roff(command->get_description()) +
              ".\n" + options_text(*command);
    }
    add_commands(*command, full, text);
  }
}

/// One place of a command line: the commands before it, and what may follow.
struct Place {
  std::vector<std::string> commands;
  std::vector<std::string> words;  ///< subcommands and options
};

void add_places(const CLI::App& app, const std::vector<std::string>& commands, std::vector<Place>& places) {
  Place place{commands, {}};
  for (const auto* command : commands_of(app)) place.words.push_back(command->get_name());
  for (const auto* option : app.get_options()) {
    if (!is_shown(*option)) continue;
    for (const auto& name : option->get_lnames()) place.words.push_back("--" + name);
    for (const auto& name : option->get_snames()) place.words.push_back("-" + name);
  }
  places.push_back(std::move(place));
  for (const auto* command : commands_of(app)) {
    auto deeper = commands;
    deeper.push_back(command->get_name());
    add_places(*command, deeper, places);
  }
}

std::string bash_function(const std::vector<Place>& places, const std::string& program) {
  std::string function = "_" + program;
  std::replace(function.begin(), function.end(), '-', '_');
  std::string cases;
  std::vector<std::string> names;
  for (const auto& place : places) {
    cases += fmt::format("    '{}') words='{}' ;;\n", fmt::join(place.commands, " "), fmt::join(place.words, " "));
    if (!place.commands.empty()) names.push_back(fmt::format("'{}'", fmt::join(place.commands, " ")));
  }
  // The commands so far are the words that lead to a place that is known.
  return fmt::format(
      "{0}() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} path='' words='' next known\n"
      "  local -a places=({1})\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    next=\"${{path:+$path }}${{COMP_WORDS[i]}}\"\n"
      "    for known in \"${{places[@]}}\"; do\n"
      "      if [ \"$known\" = \"$next\" ]; then path=$next; fi\n"
      "    done\n"
      "  done\n"
      "  case $path in\n{2}  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}}\n"
      "complete -o default -F {0} {3}\n",
      function, fmt::join(names, " "), cases, program);
}

std::string fish_lines(const std::vector<Place>& places, const std::string& program) {
  std::string text;
  for (const auto& place : places) {
    std::string condition;
    for (const auto& command : place.commands)
      condition += fmt::format("; and __fish_seen_subcommand_from {}", command);
    condition = condition.empty() ? "__fish_use_subcommand" : condition.substr(std::string("; and ").size());
    for (const auto& word : place.words) {
      const auto kind = word.starts_with("--")  ? "-l " + word.substr(2)
                        : word.starts_with("-") ? "-s " + word.substr(1)
                                                : "-a " + word;
      text += fmt::format("complete -c {} -n '{}' {}\n", program, condition, kind);
    }
  }
  return text;
}

}  // namespace

std::string man_page(const CLI::App& app, const std::string& program) {
  std::string text = fmt::format(".TH {} 1 \"\" \"mmkd {}\" \"User Commands\"\n", program, kVersion);
  const auto description = app.get_description();
  const auto first_line = description.substr(0, description.find('\n'));
  text += ".SH NAME\n" + roff(program) + " \\- " + roff(first_line) + "\n.SH SYNOPSIS\n" + synopsis(app, program);
  if (!commands_of(app).empty()) text += "[\\fIcommand\\fR \\&...]\n";
  if (description.size() > first_line.size())
    text += ".SH DESCRIPTION\n" + roff(description.substr(first_line.size() + 1)) + "\n";
  text += ".SH OPTIONS\n" + options_text(app);
  std::string commands;
  add_commands(app, program, commands);
  if (!commands.empty()) text += ".SH COMMANDS\n" + commands;
  text +=
      ".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nthe work could not be done; the message says why\n.TP\n.B 2\n"
      "command line or configuration is wrong\n.TP\n.B 74\na rank was lost; the same command goes on\n.TP\n.B 75\n"
      "stopped by a signal after a checkpoint; the same command goes on\n";
  text +=
      ".SH ENVIRONMENT\n.TP\n.B MMKD_INTERFACE\nnetwork interface over which ranks watch over one another\n"
      ".TP\n.B HF_HOME\nthe cache in which checkpoints of Hugging Face are looked for\n"
      ".TP\n.B OMP_NUM_THREADS\nthreads of each rank; by default the cores are shared out\n"
      ".TP\n.B NO_COLOR\nif not empty: no colours\n";
  std::string others;
  for (const std::string name : {"mmkd", "mmkd-ddp", "mmkd-pack"}) {
    if (name != program) others += fmt::format("{}.BR {} (1)", others.empty() ? "" : ",\n", roff(name));
  }
  return text + ".SH SEE ALSO\n" + others + "\n";
}

std::string completion(const CLI::App& app, const std::string& program, const std::string& shell) {
  std::vector<Place> places;
  add_places(app, {}, places);
  if (shell == "fish") return fish_lines(places, program);
  const auto function = bash_function(places, program);
  return shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" + function : function;
}

void add_document_options(CLI::App& app, const std::string& program) {
  const auto print = [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    throw CLI::Success();
  };
  app.add_flag_callback("--man", [&app, program, print] { print(man_page(app, program)); })
      ->group("")
      ->trigger_on_parse();
  app.add_option_function<std::string>(
         "--completion", [&app, program, print](const std::string& shell) { print(completion(app, program, shell)); })
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->group("")
      ->trigger_on_parse();
}

}  // namespace mmkd
