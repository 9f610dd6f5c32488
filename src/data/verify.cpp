#include <algorithm>
#include <bit>
#include <map>

#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/data/pack.h"
#include "shard.h"

namespace mmkd {
namespace {

using Problems = std::vector<std::string>;

/// Runs `check` and notes what it throws: verifying goes on after damage.
template <class Check>
void note_errors(Problems& problems, const std::string& where, const Check& check) {
  try {
    check();
  } catch (const Error& e) {
    problems.emplace_back(e.what());
  } catch (const std::exception& e) {
    problems.push_back(fmt::format("{}: {}", where, e.what()));
  }
}

void verify_shard(const fs::path& folder, const ShardEntry& entry, const ShardSchema& schema, std::int64_t index,
                  Problems& problems) {
  const std::string where = fmt::format("shard {}", (folder / entry.file).string());
  const std::size_t before = problems.size();
  bool same_bytes = false;
  note_errors(problems, where, [&] { same_bytes = sha256_file(folder / entry.file) == entry.sha256; });
  if (problems.size() > before) return;  // it cannot be read at all
  note_errors(problems, where, [&] {
    const Shard shard(folder, entry, schema, index);
    for (std::int64_t i = 0; i < shard.size(); ++i) {
      note_errors(problems, where, [&] { shard.verify(i); });
    }
  });
  if (!same_bytes && problems.size() == before) {
    problems.push_back(where +
                       ": its SHA-256 is not the manifest's, though every record is whole; pack the data again");
  }
}

/// Token counts by powers of two: bin b holds lengths in (2^(b-1), 2^b].
std::map<int, std::int64_t> length_histogram(const PackedInfo& info, int token_stream) {
  std::map<int, std::int64_t> bins;
  for (const Split split : kSplits) {
    const PackedSplit samples(info, split, false);
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      const auto length = static_cast<std::uint64_t>(std::max<std::int64_t>(1, samples.length(i, token_stream)));
      ++bins[std::bit_width(length - 1)];
    }
  }
  return bins;
}

/// Who uses stream `s`: "teacher", "student" or "teacher and student".
std::string users(const std::array<int, 2>& stream_of, std::size_t s) {
  const bool teacher = stream_of[0] == static_cast<int>(s);
  const bool student = stream_of[1] == static_cast<int>(s);
  return teacher && student ? "teacher and student" : teacher ? "teacher" : "student";
}

std::string describe_counts(const Manifest& manifest) {
  std::string text;
  for (std::size_t s = 0; s < kSplits.size(); ++s) {
    std::uint64_t bytes = 0;
    for (const auto& shard : manifest.shards[s]) bytes += shard.bytes;
    text += fmt::format("{:<6} {:>8} samples  {:>4} shards  {:>14} bytes", name(kSplits[s]), manifest.info.counts[s],
                        manifest.shards[s].size(), bytes);
    if (!manifest.quarantined[s].empty()) text += fmt::format("  {} quarantined", manifest.quarantined[s].size());
    text += "\n";
  }
  return text;
}

}  // namespace

std::vector<std::string> verify_pack(const fs::path& folder) {
  Problems problems;
  Manifest manifest;
  note_errors(problems, (folder / kManifestFile).string(), [&] { manifest = read_manifest(folder); });
  if (!problems.empty()) return problems;
  for (const Split split : kSplits) {
    const auto s = static_cast<std::size_t>(split);
    const auto schema = schema_of(manifest.info, split);
    const std::size_t before = problems.size();
    std::int64_t index = 0;
    for (const auto& entry : manifest.shards[s]) verify_shard(folder, entry, schema, index++, problems);
    if (problems.size() > before) continue;
    // The shards are whole one by one; this checks that they divide the split as the manifest says.
    note_errors(problems, folder.string(), [&] { const PackedSplit whole(manifest.info, split, false); });
  }
  return problems;
}

std::string describe_pack(const fs::path& folder) {
  const Manifest manifest = read_manifest(folder);
  const auto& info = manifest.info;
  std::string text = fmt::format("{}\nkey    {}\n{}", folder.string(), info.key, describe_counts(manifest));
  for (const auto& task : info.tasks) {
    text += fmt::format("task '{}': {} classes: {}\n", task.label, task.classes.size(), fmt::join(task.classes, ", "));
  }
  for (std::size_t s = 0; s < info.image_streams.size(); ++s) {
    const auto& stream = info.image_streams[s];
    text +=
        fmt::format("images {}: {}x{} RGB, for {}\n", s, stream.height, stream.width, users(info.image_stream_of, s));
  }
  for (std::size_t s = 0; s < info.token_streams.size(); ++s) {
    const auto& stream = info.token_streams[s];
    text += fmt::format("tokens {}: vocabulary of {}, at most {} a text, for {}\n", s, stream.vocab_size,
                        stream.max_length, users(info.token_stream_of, s));
    for (const auto& [bin, count] : length_histogram(info, static_cast<int>(s))) {
      const std::int64_t last = std::int64_t{1} << bin;
      text += fmt::format("  {:>5} to {:>5} tokens: {:>8} texts\n", last / 2 + 1, last, count);
    }
  }
  return text;
}

}  // namespace mmkd
