#include "tests/parity/runner.h"

#include <algorithm>
#include <exception>
#include <ostream>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd::parity {
namespace {

bool holds_cases(const fs::path& folder) {
  return std::any_of(fs::directory_iterator(folder), fs::directory_iterator(),
                     [](const auto& entry) { return fs::exists(entry.path() / "case.json"); });
}

fs::path cases_folder(const fs::path& given) {
  if (!fs::is_directory(given)) throw Error("{}: no such folder of parity cases", given.string());
  return !holds_cases(given) && fs::is_directory(given / "cases") ? given / "cases" : given;
}

/// Every folder below, so that one without a case.json is noticed too.
std::vector<fs::path> case_folders(const Options& options) {
  const fs::path root = cases_folder(options.folder);
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_directory() && entry.path().filename().string().find(options.filter) != std::string::npos) {
      folders.push_back(entry.path());
    }
  }
  if (folders.empty()) throw Error("{}: no parity cases named '*{}*'", root.string(), options.filter);
  std::sort(folders.begin(), folders.end());
  return folders;
}

Verdict check(const Case& c, std::span<const Handler> handlers) {
  const auto handler =
      std::find_if(handlers.begin(), handlers.end(), [&](const Handler& h) { return h.kind == c.kind; });
  if (handler == handlers.end()) return {Verdict::Status::failed, fmt::format("unknown kind '{}'", c.kind), 0};
  if (handler->check == nullptr) return {Verdict::Status::not_built, "handler missing", 0};
  Verdict verdict = handler->check(c);
  if (verdict.status == Verdict::Status::passed && verdict.compared == 0) fail(verdict, "nothing was compared");
  return verdict;
}

Verdict check_folder(const fs::path& folder, std::span<const Handler> handlers, std::string& kind) {
  try {
    const Case c = read_case(folder);
    kind = c.kind;
    return check(c, handlers);
  } catch (const std::exception& error) {
    return {Verdict::Status::failed, error.what(), 0};
  }
}

}  // namespace

Case read_case(const fs::path& folder) {
  const fs::path file = folder / "case.json";
  try {
    const auto json = nlohmann::json::parse(read_file(file));
    const auto& tolerance = json.at("tolerance");
    return {folder, json.at("kind"), json.at("name"), json.at("config"), tolerance.at("atol"), tolerance.at("rtol")};
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: no valid parity case: {}", file.string(), error.what());
  }
}

bool run(const Options& options, std::span<const Handler> handlers, std::ostream& out) {
  int passed = 0, failed = 0, not_built = 0;
  for (const auto& folder : case_folders(options)) {
    const std::string name = folder.filename().string();
    std::string kind = "?";
    const Verdict verdict = check_folder(folder, handlers, kind);
    switch (verdict.status) {
      case Verdict::Status::passed:
        ++passed;
        break;
      case Verdict::Status::failed:
        ++failed;
        out << fmt::format("FAILED    {} ({}): {}\n", name, kind, verdict.detail);
        break;
      case Verdict::Status::not_built:
        ++not_built;
        out << fmt::format("not built {} ({}): {}\n", name, kind, verdict.detail);
        break;
    }
  }
  out << fmt::format("{} passed, {} failed, {} not built\n", passed, failed, not_built);
  return passed > 0 && failed == 0 && (not_built == 0 || !options.all);
}

}  // namespace mmkd::parity
