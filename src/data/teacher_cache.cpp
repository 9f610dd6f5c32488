#include "mmkd/data/teacher_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <functional>

#include "half.h"
#include "manifest.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/hdf5.h"
#include "mmkd/base/mapped_file.h"
#include "teacher_cache_file.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kVersion = 2;
constexpr std::uint64_t kWithoutOutside = 1;  // a version that is still read: its gaps and tables are not checked
constexpr hsize_t kOutsideDigits = 16;
const std::string kFormat = "mmkd teacher cache";

struct Column {
  std::string name;
  std::int64_t width = 0;
  std::size_t bytes = 4;  // per number
  hid_t type() const { return bytes == 2 ? H5T_STD_U16LE : H5T_IEEE_F32LE; }
};

/// The datasets of a cache in the order of a row's numbers. binary16 is stored as the 16-bit patterns that it is.
std::vector<Column> columns_of(const TeacherCacheLayout& layout) {
  const std::size_t feature = layout.features == CacheFeatures::fp16 ? 2 : 4;
  std::vector<Column> columns{{"img_raw", layout.img_raw, feature},
                              {"txt_raw", layout.txt_raw, feature},
                              {"img_proj", layout.proj, feature},
                              {"txt_proj", layout.proj, feature}};
  for (std::size_t t = 0; t < layout.classes.size(); ++t)
    columns.push_back({fmt::format("logits_{}", t), layout.classes[t], 4});
  return columns;
}

std::string classes_text(const TeacherCacheLayout& layout) { return fmt::format("{}", fmt::join(layout.classes, ",")); }

/// The row as it is stored: every column's bytes, one after the other.
std::vector<std::byte> stored_row(const std::vector<Column>& columns, std::span<const float> values) {
  std::vector<std::byte> bytes;
  auto value = values.begin();
  for (const auto& column : columns) {
    for (std::int64_t k = 0; k < column.width; ++k, ++value) {
      std::array<std::byte, 4> number{};
      if (column.bytes == 2) {
        const std::uint16_t half = to_half(*value);
        std::memcpy(number.data(), &half, 2);
      } else {
        const float full = *value;
        std::memcpy(number.data(), &full, 4);
      }
      bytes.insert(bytes.end(), number.begin(), number.begin() + static_cast<std::ptrdiff_t>(column.bytes));
    }
  }
  return bytes;
}

/// A part of the file: offset and size in bytes.
using Extent = std::array<std::uint64_t, 2>;

/// Checksum over all bytes of the file but the columns, whose rows have checksums of their own, and the place where it
/// is stored itself: HDF5's tables, the gaps between them, keys and checksums of the rows.
std::string outside_checksum(std::span<const std::byte> file, std::vector<Extent> columns, std::uint64_t stored_at,
                             const std::string& name) {
  columns.push_back({stored_at, kOutsideDigits});
  std::sort(columns.begin(), columns.end());
  return checksum_outside(file, columns, name);
}

/// Checksum of a record: its sample key and its stored bytes.
std::uint64_t record_checksum(std::uint64_t key, std::span<const std::byte> row) {
  std::vector<std::byte> bytes(sizeof key + row.size());
  std::memcpy(bytes.data(), &key, sizeof key);
  std::copy(row.begin(), row.end(), bytes.begin() + sizeof key);
  return checksum64(bytes);
}

}  // namespace

std::int64_t TeacherCacheLayout::floats_per_row() const {
  std::int64_t width = img_raw + txt_raw + 2 * proj;
  for (const auto k : classes) width += k;
  return width;
}

// ---------------------------------------------------------------- writing

/// Writes the HDF5 file from rows that come in order.
class CacheFileWriter {
 public:
  CacheFileWriter(const fs::path& path, const TeacherCacheLayout& layout)
      : name_(path.string()), layout_(layout), columns_(columns_of(layout)) {
    const auto rows = static_cast<std::size_t>(layout.rows);
    for (const auto& column : columns_)
      data_.emplace_back(rows * static_cast<std::size_t>(column.width) * column.bytes);
    keys_.resize(rows);
    checksums_.resize(rows);
  }

  void set_row(std::size_t row, std::uint64_t key, std::span<const float> values) {
    const auto bytes = stored_row(columns_, values);
    keys_[row] = key;
    checksums_[row] = record_checksum(key, bytes);
    auto from = bytes.begin();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::size_t size = static_cast<std::size_t>(columns_[c].width) * columns_[c].bytes;
      std::copy_n(from, size, data_[c].begin() + static_cast<std::ptrdiff_t>(row * size));
      from += static_cast<std::ptrdiff_t>(size);
    }
  }

  void write(const fs::path& path) const {
    const auto places = write_datasets(path);
    const auto checksum = outside_checksum(MappedFile(path).bytes(), places.columns, places.outside, name_);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(places.outside));
    file.write(checksum.data(), static_cast<std::streamsize>(checksum.size()));
    if (!file.flush()) throw Error("{}: its checksum could not be written ({})", name_, std::strerror(errno));
  }

 private:
  struct Places {
    std::vector<Extent> columns;
    std::uint64_t outside = 0;
  };

  Places write_datasets(const fs::path& path) const {
    auto file = h5::create_file(path);
    try {
      auto places = write_datasets(file);
      file.finish("the file");
      return places;
    } catch (const Error& e) {
      throw Error("{}: {}", name_, e.what());
    }
  }

  Places write_datasets(const h5::File& file) const {
    Places places;
    h5::write_attribute(file, "format", kFormat);
    h5::write_attribute(file, "version", kVersion);
    h5::write_attribute(file, "rows", static_cast<std::uint64_t>(layout_.rows));
    h5::write_attribute(file, "views", static_cast<std::uint64_t>(layout_.views));
    h5::write_attribute(file, "classes", classes_text(layout_));
    h5::write_attribute(file, "pack_key", layout_.pack_key);
    h5::write_attribute(file, "teacher_key", layout_.teacher_key);
    const auto rows = static_cast<hsize_t>(layout_.rows);
    write_vector(file, "sample_key", keys_);
    write_vector(file, "record_checksum", checksums_);
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::array<hsize_t, 2> shape{rows, static_cast<hsize_t>(columns_[c].width)};
      const auto dataset = h5::create_dataset(file, columns_[c].name, columns_[c].type(), shape);
      h5::write_all(dataset, columns_[c].type(), data_[c].data(), columns_[c].name);
      if (!data_[c].empty()) places.columns.push_back({h5::data_offset(dataset, columns_[c].name), data_[c].size()});
    }
    const std::array<hsize_t, 1> digits{kOutsideDigits};
    const auto outside = h5::create_dataset(file, "outside", H5T_STD_U8LE, digits);
    const std::array<std::uint8_t, kOutsideDigits> none{};
    h5::write_all(outside, H5T_STD_U8LE, none.data(), "outside");
    places.outside = h5::data_offset(outside, "outside");
    return places;
  }

  void write_vector(const h5::File& file, const std::string& name, const std::vector<std::uint64_t>& values) const {
    const std::array<hsize_t, 1> shape{values.size()};
    h5::write_all(h5::create_dataset(file, name, H5T_STD_U64LE, shape), H5T_NATIVE_UINT64, values.data(), name);
  }

  std::string name_;
  TeacherCacheLayout layout_;
  std::vector<Column> columns_;
  std::vector<std::vector<std::byte>> data_;
  std::vector<std::uint64_t> keys_, checksums_;
};

void write_teacher_cache_file(const fs::path& path, const TeacherCacheLayout& layout,
                              const std::function<void(std::size_t, std::uint64_t&, std::span<float>)>& row) {
  CacheFileWriter writer(path, layout);
  std::vector<float> values(static_cast<std::size_t>(layout.floats_per_row()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(layout.rows); ++i) {
    std::uint64_t key = 0;
    row(i, key, values);
    writer.set_row(i, key, values);
  }
  writer.write(path);
}

// ---------------------------------------------------------------- reading

struct TeacherCache::Impl {
  TeacherCacheLayout layout;
  std::string name;
  MappedFile file;
  std::vector<Column> columns;
  std::vector<const std::byte*> data;  // by column
  const std::byte* keys = nullptr;
  const std::byte* checksums = nullptr;

  const std::byte* dataset(const h5::File& h5, const std::string& dataset_name, hid_t type,
                           std::vector<hsize_t> expected) const {
    const auto set = h5::open_dataset(h5, dataset_name, type, static_cast<int>(expected.size()), name);
    if (h5::shape(set) != expected) {
      throw Error("{}: dataset '{}' has shape [{}], expected [{}]", name, dataset_name, fmt::join(h5::shape(set), ", "),
                  fmt::join(expected, ", "));
    }
    std::uint64_t bytes = H5Tget_size(type);
    for (const auto extent : expected) bytes *= extent;
    if (bytes == 0) return file.bytes().data();
    const std::uint64_t offset = h5::data_offset(set, name + ": " + dataset_name);
    if (offset > file.bytes().size() || bytes > file.bytes().size() - offset) {
      throw Error("{}: dataset '{}' reaches beyond the end of the file", name, dataset_name);
    }
    return file.bytes().data() + offset;
  }

  /// The version of the file.
  std::uint64_t check_attributes(const h5::File& h5) const {
    const auto text = [&](const char* attribute, const std::string& expected) {
      const auto found = h5::read_string_attribute(h5, attribute, name);
      if (found != expected) throw Error("{}: {} is '{}', expected '{}'", name, attribute, found, expected);
    };
    const auto number = [&](const char* attribute, std::uint64_t expected) {
      const auto found = h5::read_u64_attribute(h5, attribute, name);
      if (found != expected) throw Error("{}: {} is {}, expected {}", name, attribute, found, expected);
    };
    text("format", kFormat);
    const auto version = h5::read_u64_attribute(h5, "version", name);
    if (version != kWithoutOutside) number("version", kVersion);
    number("rows", static_cast<std::uint64_t>(layout.rows));
    number("views", static_cast<std::uint64_t>(layout.views));
    text("classes", classes_text(layout));
    text("pack_key", layout.pack_key);
    text("teacher_key", layout.teacher_key);
    return version;
  }

  void check_outside(const h5::File& h5) const {
    const auto* recorded = dataset(h5, "outside", H5T_STD_U8LE, {kOutsideDigits});
    const auto offset_of = [&](const std::byte* at) { return static_cast<std::uint64_t>(at - file.bytes().data()); };
    std::vector<Extent> extents;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const auto bytes = static_cast<std::uint64_t>(layout.rows * columns[c].width) * columns[c].bytes;
      if (bytes > 0) extents.push_back({offset_of(data[c]), bytes});
    }
    const auto checksum = outside_checksum(file.bytes(), extents, offset_of(recorded), name);
    if (std::memcmp(checksum.data(), recorded, kOutsideDigits) != 0) {
      throw Error(
          "{}: is damaged (checksum of its tables does not fit). Remove its folder; the next run computes it again.",
          name);
    }
  }
};

TeacherCache::TeacherCache(const fs::path& file, const TeacherCacheLayout& expected) : impl_(std::make_unique<Impl>()) {
  auto& impl = *impl_;
  impl.layout = expected;
  impl.name = file.string();
  impl.columns = columns_of(expected);
  const auto h5 = h5::open_file(file);
  const auto version = impl.check_attributes(h5);
  impl.file = MappedFile(file);
  const auto rows = static_cast<hsize_t>(expected.rows);
  impl.keys = impl.dataset(h5, "sample_key", H5T_STD_U64LE, {rows});
  impl.checksums = impl.dataset(h5, "record_checksum", H5T_STD_U64LE, {rows});
  for (const auto& column : impl.columns) {
    impl.data.push_back(impl.dataset(h5, column.name, column.type(), {rows, static_cast<hsize_t>(column.width)}));
  }
  if (version != kWithoutOutside) impl.check_outside(h5);
}

TeacherCache::~TeacherCache() = default;
TeacherCache::TeacherCache(TeacherCache&&) noexcept = default;

const TeacherCacheLayout& TeacherCache::layout() const { return impl_->layout; }

void TeacherCache::read(std::int64_t i, std::uint64_t sample_key, std::span<float> values) const {
  const auto& impl = *impl_;
  if (i < 0 || i >= impl.layout.rows) throw Error("{}: row {} of {} was asked for", impl.name, i, impl.layout.rows);
  if (static_cast<std::int64_t>(values.size()) != impl.layout.floats_per_row()) {
    throw Error("{}: a row has {} numbers, {} were asked for", impl.name, impl.layout.floats_per_row(), values.size());
  }
  const auto row = static_cast<std::size_t>(i);
  std::uint64_t key = 0;
  std::uint64_t checksum = 0;
  std::memcpy(&key, impl.keys + row * 8, 8);
  std::memcpy(&checksum, impl.checksums + row * 8, 8);
  std::vector<std::byte> stored;
  for (std::size_t c = 0; c < impl.columns.size(); ++c) {
    const std::size_t size = static_cast<std::size_t>(impl.columns[c].width) * impl.columns[c].bytes;
    const std::byte* begin = impl.data[c] + row * size;
    stored.insert(stored.end(), begin, begin + size);
  }
  if (record_checksum(key, stored) != checksum) {
    throw Error(
        "{}: the checksum of row {} does not fit: the file is damaged. Remove its folder; the next run computes it "
        "again.",
        impl.name, i);
  }
  if (key != sample_key) {
    throw Error("{}: row {} belongs to sample {}, expected {}: the cache was made from other data", impl.name, i,
                to_hex(key), to_hex(sample_key));
  }
  const std::byte* from = stored.data();
  auto to = values.begin();
  for (const auto& column : impl.columns) {
    for (std::int64_t k = 0; k < column.width; ++k, ++to, from += column.bytes) {
      if (column.bytes == 2) {
        std::uint16_t half = 0;
        std::memcpy(&half, from, 2);
        *to = from_half(half);
      } else {
        std::memcpy(&*to, from, 4);
      }
    }
  }
}

}  // namespace mmkd
