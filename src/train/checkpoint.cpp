#include "mmkd/train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <string_view>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/log.h"
#include "mmkd/weights/tensors.h"

namespace mmkd {
namespace {

constexpr int kVersion = 2;
constexpr std::string_view kPrefix = "ckpt-";
constexpr const char* kFiles[] = {"state.json", "tensors.safetensors"};

/// Steps of the checkpoints in `folder`, newest first. Leftovers of killed writers (`*.tmp`) don't match.
std::vector<std::int64_t> steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  if (!fs::is_directory(folder)) return steps;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    std::int64_t step = 0;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size();
    const auto [parsed_to, error] = std::from_chars(begin, end, step);
    if (error == std::errc() && parsed_to == end && begin != end) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

fs::path folder_of(const fs::path& root, std::int64_t step) { return root / fmt::format("{}{}", kPrefix, step); }

std::string manifest_of(const fs::path& folder, std::int64_t step) {
  nlohmann::json manifest{{"format", "mmkd checkpoint"}, {"version", kVersion}, {"step", step}};
  for (const char* file : kFiles) {
    manifest["files"][file] = {{"bytes", fs::file_size(folder / file)}, {"sha256", sha256_file(folder / file)}};
  }
  manifest["checksum"] = sha256_hex(manifest.dump());
  return manifest.dump(1) + "\n";
}

void verify(const fs::path& folder, std::int64_t step) {
  const fs::path path = folder / "manifest.json";
  const std::string text = read_file(path, std::uint64_t{1} << 20);
  auto manifest = nlohmann::json::parse(text, nullptr, false);
  if (!manifest.is_object()) throw Error("{}: is no JSON object", path.string());
  if (manifest.dump(1) + "\n" != text) throw Error("{}: has changed since it was written", path.string());
  const auto checksum = manifest.value("checksum", "");
  manifest.erase("checksum");
  if (checksum != sha256_hex(manifest.dump())) throw Error("{}: its own checksum does not fit", path.string());
  if (manifest.at("version") != kVersion || manifest.at("step") != step) {
    throw Error("{}: version or step is not the expected one ({}, step {})", path.string(), kVersion, step);
  }
  for (const char* file : kFiles) {
    const auto& entry = manifest.at("files").at(file);
    if (fs::file_size(folder / file) != entry.at("bytes").get<std::uint64_t>()) {
      throw Error("{}: has another size than its manifest says", (folder / file).string());
    }
    if (sha256_file(folder / file) != entry.at("sha256").get<std::string>()) {
      throw Error("{}: its SHA-256 is not the one in its manifest", (folder / file).string());
    }
  }
}

TrainingState read(const fs::path& folder, std::int64_t step) {
  TrainingState checkpoint;
  checkpoint.step = step;
  checkpoint.state = nlohmann::ordered_json::parse(read_file(folder / "state.json"));
  for (auto& [name, tensor] : load_tensors(folder / "tensors.safetensors")) {
    checkpoint.tensors.push_back({name, std::move(tensor)});
  }
  return checkpoint;
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path folder, std::int64_t keep)
    : folder_(std::move(folder)), keep_(std::max<std::int64_t>(keep, 1)) {}

void CheckpointStore::save(const TrainingState& checkpoint) const {
  AtomicFolder building(folder_of(folder_, checkpoint.step));
  write_file_atomic(building.path() / "state.json", checkpoint.state.dump(1) + "\n");
  save_tensors(building.path() / "tensors.safetensors", checkpoint.tensors);
  write_file_atomic(building.path() / "manifest.json", manifest_of(building.path(), checkpoint.step));
  std::move(building).commit(true);
  const auto steps = steps_in(folder_);
  for (std::size_t i = static_cast<std::size_t>(keep_); i < steps.size(); ++i) {
    std::error_code ignored;  // an old checkpoint that stays costs space only
    fs::remove_all(folder_of(folder_, steps[i]), ignored);
  }
}

std::optional<TrainingState> CheckpointStore::load_newest() const {
  for (const auto step : steps_in(folder_)) {
    const fs::path folder = folder_of(folder_, step);
    try {
      verify(folder, step);
      return read(folder, step);
    } catch (const std::exception& e) {
      log::warn("checkpoint {} is not used: {}", folder.string(), e.what());
    }
  }
  return std::nullopt;
}

std::int64_t CheckpointStore::newest_step() const {
  const auto steps = steps_in(folder_);
  return steps.empty() ? -1 : steps.front();
}

CheckpointWriter::~CheckpointWriter() { finish(); }

void CheckpointWriter::write(TrainingState checkpoint) {
  finish();
  thread_ = std::thread([this, checkpoint = std::move(checkpoint)] {
    failure_.clear();
    try {
      const auto start = std::chrono::steady_clock::now();
      store_.save(checkpoint);
      log::debug("the checkpoint after step {} was on disk {:.1f} ms later", checkpoint.step,
                 std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    } catch (const std::exception& e) {
      failure_ = e.what();
      const auto newest = store_.newest_step();
      log::warn("the checkpoint after step {} could not be written: {}. Training goes on; {}.", checkpoint.step,
                failure_,
                newest < 0 ? std::string("there is none to go on from yet")
                           : fmt::format("the newest one is that after step {}", newest));
    }
  });
}

std::string CheckpointWriter::finish() {
  if (thread_.joinable()) thread_.join();
  return failure_;
}

void CheckpointStore::clear() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace mmkd
