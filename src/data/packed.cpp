#include "mmkd/data/packed.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/hash.h"
#include "shard.h"

namespace mmkd {

ShardSchema schema_of(const PackedInfo& info, Split split) {
  return {.images = info.image_streams,
          .token_streams = info.token_streams.size(),
          .tasks = info.tasks.size(),
          .split = std::string(name(split)),
          .key = info.key};
}

PackedInfo read_packed_info(const std::filesystem::path& folder) { return read_manifest(folder).info; }

struct PackedSplit::Impl {
  PackedInfo info;
  std::vector<Shard> shards;
  std::int64_t size = 0, samples_per_shard = 1;
  std::vector<std::int64_t> kept_before;  // of each sample that is left out, how many before it are not; ascending
  bool verify = true;
  std::atomic<std::size_t> bytes_read = 0;  // since pages were let go

  /// Mapped pages count as memory of the process, however large the data set: they are let go now and then.
  void count_read(const Record& record) {
    constexpr std::size_t kMost = std::size_t{8} << 20;
    std::size_t bytes = 0;
    for (const auto& pixels : record.pixels) bytes += pixels.size();
    if (bytes_read.fetch_add(bytes) + bytes < kMost) return;
    if (bytes_read.exchange(0) < kMost) return;  // another thread was faster
    for (const auto& shard : shards) shard.let_pages_go();
  }

  std::pair<const Shard&, std::int64_t> locate(std::int64_t i) const {
    if (i < 0 || i >= size) throw Error("packed data {}: sample {} of {} was asked for", info.folder.string(), i, size);
    const auto skipped = std::upper_bound(kept_before.begin(), kept_before.end(), i) - kept_before.begin();
    const auto stored = i + static_cast<std::int64_t>(skipped);
    return {shards[static_cast<std::size_t>(stored / samples_per_shard)], stored % samples_per_shard};
  }
};

PackedSplit::PackedSplit(const PackedInfo& info, Split split, bool verify_on_read) : impl_(std::make_unique<Impl>()) {
  auto manifest = read_manifest(info.folder);
  if (manifest.info.digest != info.digest)
    throw Error("packed data {}: changed since it was opened", info.folder.string());
  auto& impl = *impl_;
  impl.info = info;
  impl.verify = verify_on_read;
  impl.samples_per_shard = manifest.samples_per_shard;
  const auto stored = manifest.info.counts[static_cast<std::size_t>(split)];
  for (const auto& record : info.left_out) {
    if (record.split == split) impl.kept_before.push_back(record.sample - std::ssize(impl.kept_before));
  }
  impl.size = stored - std::ssize(impl.kept_before);
  const ShardSchema schema = schema_of(impl.info, split);
  std::int64_t index = 0;
  std::int64_t samples = 0;
  for (const auto& entry : manifest.shards[static_cast<std::size_t>(split)]) {
    impl.shards.emplace_back(info.folder, entry, schema, index++);
    samples += entry.count;
    if (entry.count != std::min(impl.samples_per_shard, stored - (index - 1) * impl.samples_per_shard)) {
      throw Error("packed data {}: {} holds {} samples, which does not fit the manifest's division",
                  info.folder.string(), entry.file, entry.count);
    }
  }
  if (samples != stored)
    throw Error("packed data {}: the {} shards hold {} samples, the manifest counts {}", info.folder.string(),
                schema.split, samples, stored);
}

PackedSplit::~PackedSplit() = default;
PackedSplit::PackedSplit(PackedSplit&&) noexcept = default;

std::int64_t PackedSplit::size() const { return impl_->size; }

Record PackedSplit::get(std::int64_t i) const {
  const auto [shard, row] = impl_->locate(i);
  if (impl_->verify) shard.verify(row);
  const Record record = shard.get(row);
  impl_->count_read(record);
  return record;
}

std::int64_t PackedSplit::length(std::int64_t i, int token_stream) const {
  const auto [shard, row] = impl_->locate(i);
  return shard.length(row, token_stream);
}

const PackedInfo& PackedSplit::info() const { return impl_->info; }

}  // namespace mmkd
