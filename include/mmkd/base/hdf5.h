#pragma once
#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"

// RAII over HDF5's C API; the only public header that includes hdf5.h.
namespace mmkd::h5 {

/// HDF5 is built without thread safety on most systems: where several threads use it, each holds this around its calls.
/// Not recursive.
std::unique_lock<std::mutex> exclusive();

/// Why the call to HDF5 before this one failed, as the system says it ("Input/output error"); where it says nothing,
/// what HDF5 says.
std::string system_reason();

/// Owns one HDF5 identifier; `close` is H5Fclose, H5Dclose, …
template <herr_t (*close)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }
  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  void reset() {
    if (id_ >= 0) close(id_);
    id_ = H5I_INVALID_HID;
  }
  /// Closes now and throws Error if HDF5 could not (delayed write errors show up here).
  void finish(const std::string& what) {
    if (id_ >= 0 && close(std::exchange(id_, H5I_INVALID_HID)) < 0)
      throw Error("{}: HDF5 could not close it ({})", what, system_reason());
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Space = Handle<H5Sclose>;
using Type = Handle<H5Tclose>;
using PropertyList = Handle<H5Pclose>;
using Attribute = Handle<H5Aclose>;

/// Turns off HDF5's own error printing for this process; our messages carry what matters.
void quiet();

/// New file without object times and with fixed format bounds, so that equal content gives equal bytes; objects are
/// aligned to 4 KiB so that their data can be mapped. The file must not exist.
File create_file(const std::filesystem::path& path);
/// Read-only. Throws Error if it is missing, truncated or no HDF5 file.
File open_file(const std::filesystem::path& path);

/// Contiguous dataset, allocated early and not filled: its file offset is known at once.
Dataset create_dataset(const File& file, const std::string& name, hid_t type, std::span<const hsize_t> shape);
/// Throws Error naming file and dataset if it is missing or has not exactly this element type and rank.
Dataset open_dataset(const File& file, const std::string& name, hid_t type, int rank, const std::string& file_name);
std::vector<hsize_t> shape(const Dataset& dataset);
/// Offset of the raw data in the file; throws Error for chunked, compact or unallocated storage.
std::uint64_t data_offset(const Dataset& dataset, const std::string& what);

void write_all(const Dataset& dataset, hid_t memory_type, const void* data, const std::string& what);
void read_all(const Dataset& dataset, hid_t memory_type, void* data, const std::string& what);

void write_attribute(const File& file, const std::string& name, std::uint64_t value);
void write_attribute(const File& file, const std::string& name, const std::string& value);
/// Throw Error if missing or of another type.
std::uint64_t read_u64_attribute(const File& file, const std::string& name, const std::string& file_name);
std::string read_string_attribute(const File& file, const std::string& name, const std::string& file_name);

}  // namespace mmkd::h5
