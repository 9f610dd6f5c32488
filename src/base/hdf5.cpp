#include "mmkd/base/hdf5.h"

namespace mmkd::h5 {
namespace {

std::string class_name(hid_t type) {
  const auto size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", size * 8);
    case H5T_FLOAT:
      return fmt::format("float{}", size * 8);
    case H5T_STRING:
      return "string";
    default:
      return "another type";
  }
}

PropertyList property_list(hid_t cls) {
  PropertyList list(H5Pcreate(cls));
  if (!list) throw Error("HDF5 could not create a property list");
  return list;
}

/// Looks for the system's reason in one entry of HDF5's error stack; keeps HDF5's own where there is none.
herr_t find_reason(unsigned /*depth*/, const H5E_error2_t* entry, void* found) {
  auto& reason = *static_cast<std::string*>(found);
  const std::string_view text = entry->desc == nullptr ? "" : entry->desc;
  constexpr std::string_view kBefore = "error message = '";
  const auto at = text.find(kBefore);
  if (at != std::string_view::npos) {
    const auto rest = text.substr(at + kBefore.size());
    reason = rest.substr(0, rest.find('\''));
    return 1;  // ends the walk
  }
  if (reason.empty()) reason = text;
  return 0;
}

void require(herr_t status, const std::string& what) {
  if (status < 0) throw Error("{}", what);
}

}  // namespace

std::unique_lock<std::mutex> exclusive() {
  static std::mutex mutex;
  return std::unique_lock(mutex);
}

std::string system_reason() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, find_reason, &reason);
  return reason.empty() ? "no reason given" : reason;
}

void quiet() {
  // HDF5's own exit handler crashes on a file that could not be closed because the disk was full; every handle here is
  // closed by its owner. It must be said before anything else to HDF5, and does nothing later.
  H5dont_atexit();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

File create_file(const std::filesystem::path& path) {
  quiet();
  const auto creation = property_list(H5P_FILE_CREATE);
  const auto access = property_list(H5P_FILE_ACCESS);
  require(H5Pset_obj_track_times(creation.get(), 0), "HDF5: object times cannot be turned off");
  require(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V110), "HDF5: format bounds cannot be set");
  require(H5Pset_alignment(access.get(), 1, 4096), "HDF5: alignment cannot be set");
  // Small writes would wait in a buffer until their dataset is closed, where nobody could be told that they failed.
  require(H5Pset_sieve_buf_size(access.get(), 0), "HDF5: buffering cannot be turned off");
  File file(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access.get()));
  if (!file) throw Error("{}: the HDF5 file cannot be created ({})", path.string(), system_reason());
  return file;
}

File open_file(const std::filesystem::path& path) {
  quiet();
  const auto access = property_list(H5P_FILE_ACCESS);
  File file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
  if (!file) throw Error("{}: cannot be opened as HDF5: missing, truncated or damaged", path.string());
  return file;
}

Dataset create_dataset(const File& file, const std::string& name, hid_t type, std::span<const hsize_t> dims) {
  const auto creation = property_list(H5P_DATASET_CREATE);
  require(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), "HDF5: contiguous layout cannot be set");
  require(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), "HDF5: early allocation cannot be set");
  require(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "HDF5: fill time cannot be set");
  require(H5Pset_obj_track_times(creation.get(), 0), "HDF5: object times cannot be turned off");
  const Space space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  if (!space) throw Error("dataset {}: HDF5 could not create its shape", name);
  Dataset dataset(H5Dcreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
  if (!dataset) throw Error("dataset {}: HDF5 could not create it ({})", name, system_reason());
  return dataset;
}

Dataset open_dataset(const File& file, const std::string& name, hid_t type, int rank, const std::string& file_name) {
  Dataset dataset(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT));
  if (!dataset) throw Error("{}: dataset '{}' is missing", file_name, name);
  const Type stored(H5Dget_type(dataset.get()));
  if (H5Tequal(stored.get(), type) <= 0) {
    throw Error("{}: dataset '{}' holds {}, expected {}", file_name, name, class_name(stored.get()), class_name(type));
  }
  const auto dims = shape(dataset);
  if (static_cast<int>(dims.size()) != rank) {
    throw Error("{}: dataset '{}' has {} dimensions, expected {}", file_name, name, dims.size(), rank);
  }
  return dataset;
}

std::vector<hsize_t> shape(const Dataset& dataset) {
  const Space space(H5Dget_space(dataset.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 0) throw Error("HDF5: a dataset's shape cannot be read");
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  if (rank > 0)
    require(H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr), "HDF5: a dataset's shape cannot be read");
  return dims;
}

std::uint64_t data_offset(const Dataset& dataset, const std::string& what) {
  const haddr_t offset = H5Dget_offset(dataset.get());
  if (offset == HADDR_UNDEF) throw Error("{}: is not stored contiguously, so it cannot be mapped", what);
  return offset;
}

void write_all(const Dataset& dataset, hid_t memory_type, const void* data, const std::string& what) {
  if (H5Dwrite(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    throw Error("{}: HDF5 could not write it ({})", what, system_reason());
}

void read_all(const Dataset& dataset, hid_t memory_type, void* data, const std::string& what) {
  require(H5Dread(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data),
          what + ": HDF5 could not read it (truncated or damaged file?)");
}

void write_attribute(const File& file, const std::string& name, std::uint64_t value) {
  const Space space(H5Screate(H5S_SCALAR));
  const Attribute attribute(H5Acreate2(file.get(), name.c_str(), H5T_STD_U64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT));
  if (!attribute || H5Awrite(attribute.get(), H5T_NATIVE_UINT64, &value) < 0)
    throw Error("attribute {}: HDF5 could not write it ({})", name, system_reason());
}

void write_attribute(const File& file, const std::string& name, const std::string& value) {
  const Type type(H5Tcopy(H5T_C_S1));
  require(H5Tset_size(type.get(), std::max<std::size_t>(value.size(), 1)), "HDF5: string size cannot be set");
  require(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "HDF5: string padding cannot be set");
  const Space space(H5Screate(H5S_SCALAR));
  const Attribute attribute(H5Acreate2(file.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT));
  const char* data = value.empty() ? "\0" : value.data();
  if (!attribute || H5Awrite(attribute.get(), type.get(), data) < 0)
    throw Error("attribute {}: HDF5 could not write it ({})", name, system_reason());
}

std::uint64_t read_u64_attribute(const File& file, const std::string& name, const std::string& file_name) {
  const Attribute attribute(H5Aopen(file.get(), name.c_str(), H5P_DEFAULT));
  if (!attribute) throw Error("{}: attribute '{}' is missing", file_name, name);
  const Type type(H5Aget_type(attribute.get()));
  const Space space(H5Aget_space(attribute.get()));
  std::uint64_t value = 0;
  if (H5Tequal(type.get(), H5T_STD_U64LE) <= 0 || H5Sget_simple_extent_npoints(space.get()) != 1 ||
      H5Aread(attribute.get(), H5T_NATIVE_UINT64, &value) < 0) {
    throw Error("{}: attribute '{}' is no 64-bit number", file_name, name);
  }
  return value;
}

std::string read_string_attribute(const File& file, const std::string& name, const std::string& file_name) {
  const Attribute attribute(H5Aopen(file.get(), name.c_str(), H5P_DEFAULT));
  if (!attribute) throw Error("{}: attribute '{}' is missing", file_name, name);
  const Type type(H5Aget_type(attribute.get()));
  const Space space(H5Aget_space(attribute.get()));
  const bool text = H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0;
  if (!text || H5Sget_simple_extent_npoints(space.get()) != 1 || H5Tget_size(type.get()) > 65536) {
    throw Error("{}: attribute '{}' is no text", file_name, name);
  }
  std::string value(H5Tget_size(type.get()), '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0)
    throw Error("{}: attribute '{}' cannot be read", file_name, name);
  const auto end = value.find('\0');
  if (end != std::string::npos) value.resize(end);
  return value;
}

}  // namespace mmkd::h5
