#include "shard.h"

#include <unistd.h>

#include <algorithm>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/hdf5.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kVersion = 1;
const std::string kFormat = "mmkd shard";

std::string images_name(std::size_t stream) { return fmt::format("images_{}", stream); }
std::string tokens_name(std::size_t stream) { return fmt::format("tokens_{}", stream); }
std::string offsets_name(std::size_t stream) { return fmt::format("token_offsets_{}", stream); }

template <class T>
struct StoredType;
template <>
struct StoredType<std::uint8_t> {
  static hid_t get() { return H5T_STD_U8LE; }
};
template <>
struct StoredType<std::int32_t> {
  static hid_t get() { return H5T_STD_I32LE; }
};
template <>
struct StoredType<std::int64_t> {
  static hid_t get() { return H5T_STD_I64LE; }
};
template <>
struct StoredType<std::uint64_t> {
  static hid_t get() { return H5T_STD_U64LE; }
};

template <class T>
void write(const h5::File& file, const std::string& name, std::span<const hsize_t> shape,
           const std::vector<T>& values) {
  const auto dataset = h5::create_dataset(file, name, StoredType<T>::get(), shape);
  if (!values.empty()) h5::write_all(dataset, StoredType<T>::get(), values.data(), name);
}

template <class T>
void write_vector(const h5::File& file, const std::string& name, const std::vector<T>& values) {
  const std::array<hsize_t, 1> shape{values.size()};
  write(file, name, shape, values);
}

struct Ragged {
  std::vector<std::int32_t> values;
  std::vector<std::int64_t> offsets{0};
};

Ragged flatten(const std::vector<std::vector<std::int32_t>>& rows) {
  Ragged ragged;
  for (const auto& row : rows) {
    ragged.values.insert(ragged.values.end(), row.begin(), row.end());
    ragged.offsets.push_back(static_cast<std::int64_t>(ragged.values.size()));
  }
  return ragged;
}

/// What is stored for each record: XXH3 over the checksums of its parts.
std::uint64_t combined(const RecordParts& parts, std::size_t image_streams, std::size_t token_streams) {
  std::vector<std::uint64_t> values{parts.id, parts.labels};
  values.insert(values.end(), parts.pixels.begin(), parts.pixels.begin() + static_cast<std::ptrdiff_t>(image_streams));
  values.insert(values.end(), parts.tokens.begin(), parts.tokens.begin() + static_cast<std::ptrdiff_t>(token_streams));
  return checksum64(std::as_bytes(std::span(values)));
}

std::size_t picture_bytes(const ImageStream& stream) {
  return static_cast<std::size_t>(stream.height * stream.width * 3);
}

/// Datasets of an open shard as pointers into its mapping, with every bound checked.
class Datasets {
 public:
  Datasets(const h5::File& h5, const MappedFile& file, const std::string& name) : h5_(h5), file_(file), name_(name) {}

  template <class T>
  const T* get(const std::string& dataset, const std::vector<hsize_t>& expected) const {
    const auto set = h5::open_dataset(h5_, dataset, StoredType<T>::get(), static_cast<int>(expected.size()), name_);
    const auto found = h5::shape(set);
    if (found != expected)
      throw Error("{}: dataset '{}' has shape [{}], expected [{}]", name_, dataset, fmt::join(found, ", "),
                  fmt::join(expected, ", "));
    return located<T>(set, dataset, found);
  }

  /// Values and offsets of a ragged dataset; the offsets are checked to be ascending and to cover the values.
  template <class T>
  std::pair<const T*, const std::int64_t*> ragged(const std::string& values, const std::string& offsets,
                                                  hsize_t rows) const {
    const auto* bounds = get<std::int64_t>(offsets, {rows + 1});
    const auto set = h5::open_dataset(h5_, values, StoredType<T>::get(), 1, name_);
    const auto found = h5::shape(set);
    bool ascending = bounds[0] == 0 && bounds[rows] == static_cast<std::int64_t>(found[0]);
    for (hsize_t i = 0; i < rows && ascending; ++i) ascending = bounds[i] <= bounds[i + 1];
    if (!ascending) throw Error("{}: dataset '{}' does not divide '{}'", name_, offsets, values);
    return {located<T>(set, values, found), bounds};
  }

 private:
  template <class T>
  const T* located(const h5::Dataset& set, const std::string& dataset, const std::vector<hsize_t>& shape) const {
    std::uint64_t bytes = sizeof(T);
    for (const auto extent : shape) bytes *= extent;
    if (bytes == 0) return nullptr;
    const auto offset = h5::data_offset(set, name_ + ": " + dataset);
    const auto size = file_.bytes().size();
    if (offset > size || bytes > size - offset || offset % alignof(T) != 0)
      throw Error("{}: dataset '{}' does not lie inside the file", name_, dataset);
    return reinterpret_cast<const T*>(file_.bytes().data() + offset);
  }

  const h5::File& h5_;
  const MappedFile& file_;
  const std::string& name_;
};

}  // namespace

RecordParts checksum_parts(const Record& record) {
  RecordParts parts{.id = checksum64(record.id), .labels = checksum64(std::as_bytes(record.labels))};
  for (std::size_t s = 0; s < 2; ++s) {
    parts.pixels[s] = checksum64(std::as_bytes(record.pixels[s]));
    parts.tokens[s] = checksum64(std::as_bytes(record.tokens[s]));
  }
  return parts;
}

ShardWriter::ShardWriter(fs::path path, ShardSchema schema, std::int64_t index, std::int64_t count)
    : path_(std::move(path)),
      temporary_(fmt::format("{}.{}.tmp", path_.string(), ::getpid())),
      schema_(std::move(schema)),
      count_(count) {
  const auto n = static_cast<std::size_t>(count);
  ids_.resize(n);
  labels_.resize(n * schema_.tasks);
  tokens_.assign(schema_.token_streams, std::vector<std::vector<std::int32_t>>(n));
  checksums_.resize(n);
  make_folder(path_.parent_path());
  std::error_code ignored;
  fs::remove(temporary_, ignored);
  try {
    const auto lock = h5::exclusive();
    file_ = h5::create_file(temporary_);
    h5::write_attribute(file_, "format", kFormat);
    h5::write_attribute(file_, "version", kVersion);
    h5::write_attribute(file_, "key", schema_.key);
    h5::write_attribute(file_, "split", schema_.split);
    h5::write_attribute(file_, "shard", static_cast<std::uint64_t>(index));
    h5::write_attribute(file_, "count", static_cast<std::uint64_t>(count));
    for (std::size_t s = 0; s < schema_.images.size(); ++s) {
      const std::array<hsize_t, 4> shape{n, static_cast<hsize_t>(schema_.images[s].height),
                                         static_cast<hsize_t>(schema_.images[s].width), 3};
      const auto dataset = h5::create_dataset(file_, images_name(s), StoredType<std::uint8_t>::get(), shape);
      picture_offsets_.push_back(h5::data_offset(dataset, images_name(s)));
    }
    pictures_.emplace(temporary_);
  } catch (const Error& e) {
    file_.reset();
    fs::remove(temporary_, ignored);
    throw Error("shard {}: {}", path_.string(), e.what());
  }
}

ShardWriter::~ShardWriter() {
  if (temporary_.empty()) return;
  const auto lock = h5::exclusive();
  file_.reset();
  std::error_code ignored;
  fs::remove(temporary_, ignored);
}

void ShardWriter::put(std::int64_t row, const Record& record) {
  const auto r = static_cast<std::size_t>(row);
  try {
    for (std::size_t s = 0; s < schema_.images.size(); ++s) {
      const auto bytes = picture_bytes(schema_.images[s]);
      if (record.pixels[s].size() != bytes)
        throw Error("sample '{}': {} bytes of pixels, {} are expected", record.id, record.pixels[s].size(), bytes);
      pictures_->write_at(picture_offsets_[s] + r * bytes, std::as_bytes(record.pixels[s]));
    }
  } catch (const Error& e) {
    throw Error("shard {}: {}", path_.string(), e.what());
  }
  ids_[r] = record.id;
  std::copy(record.labels.begin(), record.labels.end(),
            labels_.begin() + static_cast<std::ptrdiff_t>(r * schema_.tasks));
  for (std::size_t s = 0; s < tokens_.size(); ++s)
    tokens_[s][r].assign(record.tokens[s].begin(), record.tokens[s].end());
  checksums_[r] = combined(checksum_parts(record), schema_.images.size(), tokens_.size());
}

void ShardWriter::write_tables() {
  std::vector<std::uint8_t> id_bytes;
  std::vector<std::int64_t> id_offsets{0};
  for (const auto& id : ids_) {
    id_bytes.insert(id_bytes.end(), id.begin(), id.end());
    id_offsets.push_back(static_cast<std::int64_t>(id_bytes.size()));
  }
  write_vector(file_, "ids", id_bytes);
  write_vector(file_, "id_offsets", id_offsets);
  write_vector(file_, "record_checksum", checksums_);
  const std::array<hsize_t, 2> label_shape{static_cast<hsize_t>(count_), schema_.tasks};
  write(file_, "labels", label_shape, labels_);
  for (std::size_t s = 0; s < tokens_.size(); ++s) {
    const auto ragged = flatten(tokens_[s]);
    write_vector(file_, offsets_name(s), ragged.offsets);
    write_vector(file_, tokens_name(s), ragged.values);
  }
}

void ShardWriter::commit() {
  try {
    {
      const auto lock = h5::exclusive();
      write_tables();
      file_.finish(temporary_.filename().string());
    }
    fsync_file(temporary_);
    fs::rename(temporary_, path_);
  } catch (const fs::filesystem_error& e) {
    throw Error("{}: cannot be renamed into place: {}", path_.string(), e.code().message());
  } catch (const Error& e) {
    throw Error("shard {}: {}", path_.string(), e.what());
  }
  temporary_.clear();
  fsync_folder(path_.parent_path());
}

ShardEntry describe_shard(const fs::path& path, std::int64_t count) {
  const MappedFile mapped(path);
  ShardEntry entry{.file = path.filename().string(),
                   .count = count,
                   .bytes = mapped.bytes().size(),
                   .sha256 = std::move(Sha256().update(mapped.bytes())).hex(),
                   .outside = {},
                   .pictures = {}};
  {
    const auto lock = h5::exclusive();
    const auto file = h5::open_file(path);
    for (std::size_t s = 0; H5Lexists(file.get(), images_name(s).c_str(), H5P_DEFAULT) > 0; ++s) {
      const auto set = h5::open_dataset(file, images_name(s), H5T_STD_U8LE, 4, entry.file);
      std::uint64_t bytes = 1;
      for (const auto extent : h5::shape(set)) bytes *= extent;
      if (bytes > 0) entry.pictures.push_back({h5::data_offset(set, entry.file), bytes});
    }
  }
  std::sort(entry.pictures.begin(), entry.pictures.end());
  entry.outside = checksum_outside(mapped.bytes(), entry.pictures, entry.file);
  return entry;
}

Shard::Shard(const fs::path& folder, const ShardEntry& entry, const ShardSchema& schema, std::int64_t index)
    : name_((folder / entry.file).string()), count_(entry.count), tasks_(schema.tasks), file_(name_) {
  if (file_.bytes().size() != entry.bytes) {
    throw Error(
        "shard {}: has {} bytes, the manifest says {}: it is truncated or from another set; pack the data again", name_,
        file_.bytes().size(), entry.bytes);
  }
  if (checksum_outside(file_.bytes(), entry.pictures, name_) != entry.outside) {
    throw Error(
        "shard {}: is damaged (checksum of its tables does not fit); run mmkd-pack verify on its folder, then pack the "
        "data again",
        name_);
  }
  const auto lock = h5::exclusive();
  const auto h5 = h5::open_file(name_);
  if (h5::read_string_attribute(h5, "format", name_) != kFormat ||
      h5::read_u64_attribute(h5, "version", name_) != kVersion) {
    throw Error("shard {}: is not in the format '{}' version {}", name_, kFormat, kVersion);
  }
  if (h5::read_string_attribute(h5, "key", name_) != schema.key ||
      h5::read_string_attribute(h5, "split", name_) != schema.split ||
      h5::read_u64_attribute(h5, "shard", name_) != static_cast<std::uint64_t>(index) ||
      h5::read_u64_attribute(h5, "count", name_) != static_cast<std::uint64_t>(count_)) {
    throw Error("shard {}: belongs to another place of the set (key, split, number or count differ from the manifest)",
                name_);
  }
  const auto n = static_cast<hsize_t>(count_);
  const Datasets sets(h5, file_, name_);
  for (std::size_t s = 0; s < schema.images.size(); ++s) {
    const auto height = static_cast<hsize_t>(schema.images[s].height);
    const auto width = static_cast<hsize_t>(schema.images[s].width);
    pictures_.push_back({sets.get<std::uint8_t>(images_name(s), {n, height, width, 3}), height * width * 3});
  }
  for (std::size_t s = 0; s < schema.token_streams; ++s) {
    const auto [values, offsets] = sets.ragged<std::int32_t>(tokens_name(s), offsets_name(s), n);
    tokens_.push_back({values, offsets});
  }
  const auto [ids, id_offsets] = sets.ragged<std::uint8_t>("ids", "id_offsets", n);
  ids_ = reinterpret_cast<const char*>(ids);
  id_offsets_ = id_offsets;
  labels_ = sets.get<std::int32_t>("labels", {n, schema.tasks});
  checksums_ = sets.get<std::uint64_t>("record_checksum", {n});
}

Record Shard::get(std::int64_t i) const {
  const auto row = static_cast<std::size_t>(i);
  Record record;
  record.id = {ids_ + id_offsets_[row], static_cast<std::size_t>(id_offsets_[row + 1] - id_offsets_[row])};
  record.sample_key = checksum64(record.id);
  for (std::size_t s = 0; s < pictures_.size(); ++s)
    record.pixels[s] = {pictures_[s].data + row * pictures_[s].bytes, pictures_[s].bytes};
  for (std::size_t s = 0; s < tokens_.size(); ++s) {
    record.tokens[s] = {tokens_[s].values + tokens_[s].offsets[row],
                        static_cast<std::size_t>(length(i, static_cast<int>(s)))};
  }
  record.labels = {labels_ + row * tasks_, tasks_};
  return record;
}

bool Shard::fits(std::int64_t i, const RecordParts& parts) const {
  return combined(parts, pictures_.size(), tokens_.size()) == checksums_[i];
}

bool Shard::is_whole(std::int64_t i) const { return fits(i, checksum_parts(get(i))); }

RecordParts Shard::verify(std::int64_t i) const {
  const auto parts = checksum_parts(get(i));
  if (fits(i, parts)) return parts;
  throw Error("shard {}: record {} (sample '{}') is damaged: its checksum does not fit; pack the data again", name_, i,
              get(i).id);
}

std::int64_t Shard::length(std::int64_t i, int token_stream) const {
  const auto* offsets = tokens_.at(static_cast<std::size_t>(token_stream)).offsets;
  return offsets[i + 1] - offsets[i];
}

}  // namespace mmkd
