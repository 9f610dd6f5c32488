#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

// Content-addressed stages: pack -> teacher -> cache -> student -> test (docs/architecture.md).
namespace mmkd {

/// Exactly the inputs that change a stage's result.
struct StageInputs {
  std::string stage;                            ///< "pack", "teacher", "cache", "student", "test"
  int version = 1;                              ///< raised by hand when the meaning of the result changes
  nlohmann::json config;                        ///< the resolved subset of the configuration
  std::map<std::string, std::string> parents;   ///< stage -> key
  std::map<std::string, std::string> external;  ///< name -> SHA-256 of a data, weight or tokenizer file
  nlohmann::json to_json() const;
  /// SHA-256 over the canonical JSON of the above; 64 hexadecimal digits.
  std::string key() const;
};

/// Name and reason of a stage in a plan.
struct StageState {
  bool ready = false;
  std::string reason;  ///< why it must be built ("no artifact", "parent content changed: teacher", …), or where it lies
};

/// A finished stage: its folder and what stage.json recorded.
struct StageArtifact {
  std::filesystem::path folder;
  std::string key;
  std::string content;  ///< SHA-256 over the files' digests
  double seconds = 0;   ///< that building it took; 0: not known
};

/// `<root>/<stage>/<key>/`, each with a stage.json (inputs, sizes, SHA-256 of every file, content digests of parents).
class StageStore {
 public:
  explicit StageStore(std::filesystem::path root);
  std::filesystem::path folder(const StageInputs& inputs) const;
  /// Is there an artifact that may be used? `parents`: the artifacts as they lie there now. Checks stage.json, sizes,
  /// and with `verify_bytes` every file's digest.
  StageState state(const StageInputs& inputs, const std::vector<StageArtifact>& parents, bool verify_bytes) const;
  /// Opens a ready artifact; throws Error when there is none.
  StageArtifact open(const StageInputs& inputs) const;
  /// `fill` fills the given folder, built aside; stage.json is written last and the folder renamed into place.
  /// `seconds`: what building it took until now, to be recorded; 0: nothing is.
  /// `digests`: SHA-256 by name of files that were read back already, so that they need not be read again.
  StageArtifact build(const StageInputs& inputs, const std::vector<StageArtifact>& parents,
                      const std::function<void(const std::filesystem::path&)>& fill, double seconds = 0,
                      const std::map<std::string, std::string>& digests = {}) const;
  /// Scratch that survives a crash (checkpoints, journals of the stage being built): `<root>/<stage>/<key>.work/`.
  std::filesystem::path work_folder(const StageInputs& inputs) const;

 private:
  std::filesystem::path root_;
};

/// SHA-256 of an external file, remembered in `<root>/digests.json` by (path, size, mtime, inode). The memo has a
/// checksum of its own; one that does not fit it is not used, with a warning.
class DigestMemo {
 public:
  explicit DigestMemo(const std::filesystem::path& root);
  ~DigestMemo();  ///< saves what is new; failures to save are ignored (the memo is only a shortcut)
  std::string file(const std::filesystem::path& path);
  /// The same of many files, with several threads; "" for what is no file or cannot be read.
  std::vector<std::string> files(const std::vector<std::filesystem::path>& paths, std::int64_t threads);

 private:
  /// The digest that is remembered of a file as it lies there now; "" if there is none.
  std::string known(const std::string& name, const nlohmann::json& fingerprint) const;
  void remember(const std::string& name, const nlohmann::json& fingerprint, const std::string& digest);
  std::filesystem::path memo_file_;
  nlohmann::json entries_;
  bool changed_ = false;
};

}  // namespace mmkd
