#include "scan.h"

#include <algorithm>
#include <map>
#include <set>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

constexpr std::size_t kMostListed = 20;

/// Which split first had an id or an image.
using FirstSeen = std::map<std::string, std::pair<Split, std::string>>;

std::string objection(const Sample& sample, Split split, const std::string& digest, FirstSeen& ids, FirstSeen& images) {
  if (digest.empty()) return fmt::format("image {} does not exist or cannot be read", sample.image.string());
  const auto [id, new_id] = ids.try_emplace(sample.id, split, sample.where);
  if (!new_id) {
    const auto& [first_split, where] = id->second;
    return first_split == split ? fmt::format("the id occurs twice (first in {})", where)
                                : fmt::format("the id is also in split {} ({})", name(first_split), where);
  }
  const auto [image, new_image] = images.try_emplace(digest, split, sample.id);
  if (!new_image && image->second.first != split) {
    return fmt::format("the same image bytes are in split {} (sample '{}'): test scores would be too good",
                       name(image->second.first), image->second.second);
  }
  return "";
}

}  // namespace

Scan scan_data(const DataConfig& data, DigestMemo& memo) {
  Scan scan;
  FirstSeen ids;
  FirstSeen images;
  std::array<std::vector<Sample>, 3> samples;
  std::vector<fs::path> paths;
  for (const Split split : kSplits) {
    auto& read = samples[static_cast<std::size_t>(split)] = read_split(data, split);
    for (const auto& sample : read) paths.push_back(sample.image);
  }
  const auto digests = memo.files(paths, data.num_workers);
  auto digest = digests.begin();
  for (const Split split : kSplits) {
    const auto s = static_cast<std::size_t>(split);
    for (auto& sample : samples[s]) {
      const auto reason = objection(sample, split, *digest, ids, images);
      if (reason.empty()) {
        scan.samples[s].push_back(std::move(sample));
        scan.digests[s].push_back(*digest);
      } else {
        scan.bad.push_back({split, sample.id, sample.where, reason});
      }
      ++digest;
    }
  }
  return scan;
}

std::vector<std::vector<std::string>> discover_classes(Scan& scan, std::size_t tasks) {
  std::vector<std::set<std::string>> seen(tasks);
  for (const auto& sample : scan.samples[0]) {
    for (std::size_t t = 0; t < tasks; ++t) seen[t].insert(sample.labels[t]);
  }
  std::vector<BadSample> unseen;
  for (const Split split : {Split::dev, Split::test}) {
    for (const auto& sample : scan.samples[static_cast<std::size_t>(split)]) {
      for (std::size_t t = 0; t < tasks; ++t) {
        if (seen[t].contains(sample.labels[t])) continue;
        unseen.push_back({split, sample.id, sample.where,
                          fmt::format("label '{}' never occurs in the train split (which has {})", sample.labels[t],
                                      fmt::join(seen[t], ", "))});
        break;
      }
    }
  }
  remove_bad(scan, unseen);
  std::vector<std::vector<std::string>> classes;
  classes.reserve(seen.size());
  for (const auto& set : seen) classes.emplace_back(set.begin(), set.end());
  return classes;
}

void remove_bad(Scan& scan, const std::vector<BadSample>& bad) {
  std::array<std::set<std::string>, 3> ids;
  for (const auto& one : bad) ids[static_cast<std::size_t>(one.split)].insert(one.id);
  for (std::size_t s = 0; s < 3; ++s) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < scan.samples[s].size(); ++i) {
      if (ids[s].contains(scan.samples[s][i].id)) continue;
      if (kept != i) {
        scan.samples[s][kept] = std::move(scan.samples[s][i]);
        scan.digests[s][kept] = std::move(scan.digests[s][i]);
      }
      ++kept;
    }
    scan.samples[s].resize(kept);
    scan.digests[s].resize(kept);
  }
  scan.bad.insert(scan.bad.end(), bad.begin(), bad.end());
}

void refuse_bad(const Scan& scan, OnBadSample policy) {
  if (policy == OnBadSample::quarantine || scan.bad.empty()) return;
  std::string text;
  for (std::size_t i = 0; i < std::min(kMostListed, scan.bad.size()); ++i) {
    const auto& one = scan.bad[i];
    text += fmt::format("\n  {}: sample '{}' ({}): {}", one.where, one.id, name(one.split), one.reason);
  }
  if (scan.bad.size() > kMostListed) text += fmt::format("\n  … and {} more", scan.bad.size() - kMostListed);
  throw Error(
      "{} bad sample{}:{}\nMend the data, or set data.on_bad_sample: quarantine to leave them out and have them "
      "listed.",
      scan.bad.size(), scan.bad.size() == 1 ? "" : "s", text);
}

}  // namespace mmkd
