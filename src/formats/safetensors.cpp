#include "mmkd/formats/safetensors.h"

#include <xxhash.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "mmkd/base/edit_distance.h"
#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "mmkd/base/mapped_file.h"

namespace mmkd {
namespace {

constexpr std::string_view kChecksumKey = "mmkd_checksum";
constexpr std::string_view kBeforeChecksum = R"({"__metadata__":{"mmkd_checksum":")";  // the beginning of our headers
constexpr std::string_view kNoChecksum = "0000000000000000";
constexpr std::size_t kChecksumAt = kSafetensorsLengthBytes + kBeforeChecksum.size();

/// XXH3-64 over pieces of a file, as if they were one.
class FileChecksum {
 public:
  FileChecksum() : state_(XXH3_createState()) {
    if (state_ == nullptr || XXH3_64bits_reset(state_.get()) != XXH_OK) throw Error("XXH3 could not be started");
  }
  FileChecksum& update(std::span<const std::byte> bytes) {
    XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
    return *this;
  }
  FileChecksum& update(std::string_view text) { return update(std::as_bytes(std::span(text))); }
  std::string hex() const { return to_hex(XXH3_64bits_digest(state_.get())); }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

bool differs_in_one_byte(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::inner_product(a.begin(), a.end(), b.begin(), 0, std::plus<>(), std::not_equal_to<>()) == 1;
}

/// A file of another program has no checksum, and none of our entries either.
void require_foreign(const SafetensorsHeader& header, const fs::path& path) {
  for (const auto& [key, value] : header.metadata) {
    if (key.starts_with("mmkd_") || differs_in_one_byte(key, kChecksumKey)) {
      throw Error(
          "{}: its metadata has '{}' but no '{}': it is damaged, was changed by another program, or is older than the "
          "checksum; without any mmkd_ entries it can be used as plain weights",
          path.string(), key, kChecksumKey);
    }
  }
}

/// Throws Error unless the checksum fits, or the file is another program's. Takes the checksum out of the metadata.
void verify(std::span<const std::byte> file, SafetensorsHeader& header, const fs::path& path) {
  const auto found = header.metadata.find(std::string(kChecksumKey));
  if (found == header.metadata.end()) return require_foreign(header, path);
  const std::string& recorded = found->second;
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const bool in_its_place = recorded.size() == kNoChecksum.size() &&
                            text.substr(kSafetensorsLengthBytes).starts_with(std::string(kBeforeChecksum) + recorded);
  const auto actual = [&] {
    const auto rest = file.subspan(kChecksumAt + kNoChecksum.size());
    return FileChecksum().update(file.first(kChecksumAt)).update(kNoChecksum).update(rest).hex();
  };
  if (!in_its_place || actual() != recorded) {
    throw Error("{}: its checksum does not fit: it is damaged, or was changed by another program that kept '{}'",
                path.string(), kChecksumKey);
  }
  header.metadata.erase(found);
}

/// The three names nearest to `wanted`, for the message about a missing one.
std::vector<std::string> close_names(const SafetensorsHeader& header, std::string_view wanted) {
  constexpr std::size_t kLongestCompared = 256;
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const auto& [tensor, entry] : header.tensors) {
    if (tensor.size() <= kLongestCompared) ranked.emplace_back(edit_distance(tensor, wanted), tensor);
  }
  const std::size_t kept = std::min<std::size_t>(3, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(kept), ranked.end());
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kept; ++i) names.push_back("'" + ranked[i].second + "'");
  return names;
}

void check_writable_tensor(const NamedBytes& tensor, const fs::path& path) {
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const auto dimension : tensor.shape) bytes *= static_cast<std::uint64_t>(dimension);
  if (bytes != tensor.data.size()) {
    throw Error("{}: tensor '{}' of type {} and shape [{}] needs {} bytes, {} were given", path.string(), tensor.name,
                name(tensor.dtype), fmt::join(tensor.shape, ", "), bytes, tensor.data.size());
  }
}

std::string dump(const nlohmann::ordered_json& json, const fs::path& path) {
  try {
    return json.dump();
  } catch (const nlohmann::json::exception& error) {
    throw Error("{}: a tensor name or metadata is not UTF-8: {}", path.string(), error.what());
  }
}

/// Length, JSON and padding: everything before the data. The checksum's digits are zeros.
std::string header_bytes(const fs::path& path, std::span<const NamedBytes> tensors,
                         const std::map<std::string, std::string>& metadata) {
  constexpr std::size_t kAlignment = 64;
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  json["__metadata__"][kChecksumKey] = kNoChecksum;
  for (const auto& [key, value] : metadata) {
    if (key != kChecksumKey) json["__metadata__"][key] = value;
  }
  std::set<std::string_view> names{"__metadata__"};
  std::uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    if (!names.insert(tensor.name).second) throw Error("{}: the tensor name '{}' is taken", path.string(), tensor.name);
    check_writable_tensor(tensor, path);
    const std::uint64_t end = offset + tensor.data.size();
    json[tensor.name] = {{"dtype", name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = dump(json, path);
  text.append((kAlignment - (8 + text.size()) % kAlignment) % kAlignment, ' ');
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return bytes + text;
}

}  // namespace

struct SafetensorsFile::Impl {
  explicit Impl(const fs::path& file)
      : path(file),
        mapping(file, MapAccess::copy_on_write),
        header(parse_safetensors_header(mapping.bytes(), mapping.bytes().size(), file.string())) {
    verify(mapping.bytes(), header, file);
  }
  fs::path path;
  MappedFile mapping;
  SafetensorsHeader header;
};

SafetensorsFile::SafetensorsFile(const fs::path& path) : impl_(std::make_unique<Impl>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

const SafetensorsHeader& SafetensorsFile::header() const { return impl_->header; }
const fs::path& SafetensorsFile::path() const { return impl_->path; }

const TensorEntry& SafetensorsFile::entry(const std::string& tensor) const {
  const auto found = impl_->header.tensors.find(tensor);
  if (found != impl_->header.tensors.end()) return found->second;
  throw Error("{}: holds no tensor '{}' (of its {}, the closest: {})", impl_->path.string(), tensor,
              impl_->header.tensors.size(), fmt::join(close_names(impl_->header, tensor), ", "));
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& tensor) const {
  const auto& found = entry(tensor);
  return impl_->mapping.bytes().subspan(found.begin, found.end - found.begin);
}

void write_safetensors(const fs::path& path, std::span<const NamedBytes> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::string header = header_bytes(path, tensors, metadata);
  FileChecksum checksum;
  checksum.update(header);
  for (const auto& tensor : tensors) checksum.update(tensor.data);
  header.replace(kChecksumAt, kNoChecksum.size(), checksum.hex());
  AtomicFile file(path);
  file.write(header);
  for (const auto& tensor : tensors) {
    file.write({reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()});
  }
  std::move(file).commit();
}

}  // namespace mmkd
