#include "mmkd/stages/stage.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"

namespace mmkd {
namespace {

constexpr int kFormatVersion = 1;
constexpr const char* kStageFile = "stage.json";

/// Every file of a stage but stage.json, by its path inside the folder, sorted.
std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto relative = fs::relative(entry.path(), folder);
    if (entry.is_regular_file() && relative != kStageFile) files.push_back(relative);
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Digest of the content: over the paths and digests of the files.
std::string content_digest(const nlohmann::json& files) {
  Sha256 digest;
  for (const auto& [path, entry] : files.items()) {
    digest.update(path).update("\n").update(entry.at("sha256").get<std::string>()).update("\n");
  }
  return std::move(digest).hex();
}

nlohmann::json read_stage_file(const fs::path& folder) {
  auto json = nlohmann::json::parse(read_file(folder / kStageFile), nullptr, false);
  if (!json.is_object()) throw Error("{}: is no JSON object", (folder / kStageFile).string());
  return json;
}

nlohmann::json parents_json(const std::vector<StageArtifact>& parents) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& parent : parents) json[parent.key] = parent.content;
  return json;
}

/// What speaks against using the artifact; empty: nothing.
std::string objection(const fs::path& folder, const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                      bool verify_bytes) {
  const auto stage = read_stage_file(folder);
  if (stage.at("format_version") != kFormatVersion) return "stage.json has another format version";
  if (stage.at("key") != inputs.key()) return "stage.json is damaged: key";
  if (stage.at("inputs") != inputs.to_json()) return "stage.json records other inputs";
  for (const auto& [path, entry] : stage.at("files").items()) {
    const fs::path file = folder / path;
    if (!fs::is_regular_file(file)) return "file missing: " + path;
    if (fs::file_size(file) != entry.at("bytes").get<std::uint64_t>()) return "file has another size: " + path;
    if (verify_bytes && sha256_file(file) != entry.at("sha256").get<std::string>()) return "file is damaged: " + path;
  }
  if (content_digest(stage.at("files")) != stage.at("content")) return "stage.json is damaged: content digest";
  const auto& recorded = stage.at("parents");
  for (const auto& parent : parents) {
    if (recorded.value(parent.key, "") != parent.content)
      return "parent content changed: " + parent.folder.parent_path().filename().string();
  }
  return "";
}

}  // namespace

nlohmann::json StageInputs::to_json() const {
  return {{"stage", stage}, {"version", version}, {"config", config}, {"parents", parents}, {"external", external}};
}

std::string StageInputs::key() const { return sha256_hex(to_json().dump()); }

StageStore::StageStore(fs::path root) : root_(std::move(root)) {}

fs::path StageStore::folder(const StageInputs& inputs) const { return root_ / inputs.stage / inputs.key(); }

fs::path StageStore::work_folder(const StageInputs& inputs) const {
  return root_ / inputs.stage / (inputs.key() + ".work");
}

StageState StageStore::state(const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                             bool verify_bytes) const {
  const auto path = folder(inputs);
  if (!fs::exists(path / kStageFile)) return {false, "no artifact"};
  try {
    const auto why_not = objection(path, inputs, parents, verify_bytes);
    return why_not.empty() ? StageState{true, path.string()} : StageState{false, why_not};
  } catch (const std::exception& e) {
    return {false, e.what()};
  }
}

StageArtifact StageStore::open(const StageInputs& inputs) const {
  const auto path = folder(inputs);
  const auto stage = read_stage_file(path);
  const auto content = stage.find("content");
  if (content == stage.end() || !content->is_string()) {
    throw Error("{}: has no content digest: it is damaged; remove its folder and run again",
                (path / kStageFile).string());
  }
  const auto seconds = stage.find("seconds");
  return {path, inputs.key(), content->get<std::string>(),
          seconds != stage.end() && seconds->is_number() ? seconds->get<double>() : 0};
}

StageArtifact StageStore::build(const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                                const std::function<void(const fs::path&)>& fill, double seconds,
                                const std::map<std::string, std::string>& digests) const {
  const auto path = folder(inputs);
  // A stage's folder is filled in minutes, from what lies in its work folder.
  remove_stale_temporaries(path.parent_path(), std::chrono::hours(24));
  AtomicFolder building(path);
  fill(building.path());
  nlohmann::json files = nlohmann::json::object();
  for (const auto& file : files_of(building.path())) {
    const auto known = digests.find(file.generic_string());
    files[file.generic_string()] = {
        {"bytes", fs::file_size(building.path() / file)},
        {"sha256", known != digests.end() ? known->second : sha256_file(building.path() / file)}};
  }
  nlohmann::json stage{{"format_version", kFormatVersion}, {"key", inputs.key()},
                       {"inputs", inputs.to_json()},       {"files", files},
                       {"content", content_digest(files)}, {"parents", parents_json(parents)}};
  if (seconds > 0) stage["seconds"] = seconds;
  write_file_atomic(building.path() / kStageFile, stage.dump(1) + "\n");
  // What lies there was found unusable before the stage was built; a sound one of a faster builder has the same
  // content.
  std::move(building).commit(fs::exists(path) && !state(inputs, parents, true).ready);
  return open(inputs);
}

// ---------------------------------------------------------------- digests of external files

namespace {

/// What tells that a file was not replaced: size, modification time, inode.
nlohmann::json fingerprint(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw Error("{}: cannot be examined: {}", path.string(), std::strerror(errno));
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ino};
}

std::string name_of(const fs::path& path) { return fs::absolute(path).lexically_normal().string(); }

/// Names that are no UTF-8 are kept with a mark in place of what is none, and never found again.
std::string text_of(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// The entries of a memo. Throws Error where it cannot be read or does not fit its checksum.
nlohmann::json read_memo(const fs::path& file) {
  auto memo = nlohmann::json::parse(read_file(file), nullptr, false);
  const auto entries = memo.is_object() ? memo.find("entries") : memo.end();
  if (entries == memo.end() || !entries->is_object() ||
      memo.value("checksum", nlohmann::json()) != sha256_hex(text_of(*entries)))
    throw Error("{}: is damaged, or an older version wrote it (its checksum does not fit)", file.string());
  return std::move(*entries);
}

}  // namespace

DigestMemo::DigestMemo(const fs::path& root) : memo_file_(root / "digests.json"), entries_(nlohmann::json::object()) {
  std::error_code error;
  if (!fs::exists(memo_file_, error)) return;
  try {
    entries_ = read_memo(memo_file_);
  } catch (const Error& e) {
    log::warn("{}; the digests of files are computed anew", e.what());
  }
}

DigestMemo::~DigestMemo() {
  if (!changed_) return;
  try {
    const nlohmann::json memo{{"checksum", sha256_hex(text_of(entries_))}, {"entries", entries_}};
    write_file_atomic(memo_file_, text_of(memo) + "\n");
  } catch (const Error& e) {
    log::debug("the memo of file digests is not saved: {}", e.what());
  }
}

std::string DigestMemo::known(const std::string& name, const nlohmann::json& fingerprint) const {
  const auto found = entries_.find(name);
  if (found == entries_.end() || !found->is_object() || found->value("fingerprint", nlohmann::json()) != fingerprint)
    return "";
  const auto digest = found->find("sha256");
  return digest != found->end() && digest->is_string() ? digest->get<std::string>() : "";
}

void DigestMemo::remember(const std::string& name, const nlohmann::json& fingerprint, const std::string& digest) {
  entries_[name] = {{"fingerprint", fingerprint}, {"sha256", digest}};
  changed_ = true;
}

std::string DigestMemo::file(const fs::path& path) {
  const auto name = name_of(path);
  const auto now = fingerprint(path);
  if (auto digest = known(name, now); !digest.empty()) return digest;
  auto digest = sha256_file(path);
  remember(name, now, digest);
  return digest;
}

std::vector<std::string> DigestMemo::files(const std::vector<fs::path>& paths, std::int64_t threads) {
  struct Unknown {
    std::size_t index;
    nlohmann::json fingerprint;
  };
  std::vector<std::string> digests(paths.size());
  std::vector<Unknown> unknown;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    std::error_code error;
    if (!fs::is_regular_file(paths[i], error)) continue;
    auto now = fingerprint(paths[i]);
    digests[i] = known(name_of(paths[i]), now);
    if (digests[i].empty()) unknown.push_back({i, std::move(now)});
  }
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (auto u = next++; u < unknown.size(); u = next++) {
      const auto i = unknown[u].index;
      try {
        digests[i] = sha256_file(paths[i]);
      } catch (const Error&) {  // said by whoever needs the file: ""
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    for (std::int64_t t = 1; t < std::min<std::int64_t>(threads, std::ssize(unknown)); ++t) workers.emplace_back(work);
    work();
  }
  for (const auto& [i, now] : unknown) {
    if (!digests[i].empty()) remember(name_of(paths[i]), now, digests[i]);
  }
  return digests;
}

}  // namespace mmkd
