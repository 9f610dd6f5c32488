#include "mmkd/formats/torch_file.h"

#include <zip.h>

#include <array>
#include <cstring>
#include <optional>

#include "mmkd/base/error.h"
#include "mmkd/base/mapped_file.h"
#include "mmkd/formats/pickle.h"

namespace mmkd {
namespace {

constexpr std::uint64_t kMaxTableBytes = std::uint64_t{256} << 20;  // of data.pkl
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

struct StorageInfo {
  DType dtype = DType::f32;
  std::int64_t elements = 0;
};

std::optional<DType> storage_type(const PickleValue& value) {
  const auto* global = value.as<PickleGlobal>();
  if (global == nullptr || global->module != "torch") return std::nullopt;
  static constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"FloatStorage", DType::f32},   {"DoubleStorage", DType::f64},    {"HalfStorage", DType::f16},
      {"LongStorage", DType::i64},    {"BFloat16Storage", DType::bf16}, {"IntStorage", DType::i32},
      {"ShortStorage", DType::i16},   {"CharStorage", DType::i8},       {"ByteStorage", DType::u8},
      {"BoolStorage", DType::boolean}};
  for (const auto& [name, dtype] : kTypes) {
    if (global->name == name) return dtype;
  }
  return std::nullopt;
}

std::optional<std::int64_t> integer(const PickleValue* value) {
  const auto* number = value->as<std::int64_t>();
  return number == nullptr ? std::nullopt : std::optional(*number);
}

std::optional<std::vector<std::int64_t>> integers(const PickleValue* value) {
  const auto* tuple = value->as<PickleTuple>();
  if (tuple == nullptr) return std::nullopt;
  std::vector<std::int64_t> result;
  for (const auto* item : *tuple) {
    const auto number = integer(item);
    if (!number || *number < 0 || *number > kMaxElements) return std::nullopt;
    result.push_back(*number);
  }
  return result;
}

bool is_call_of(const PickleValue& value, std::string_view name) {
  const auto* call = value.as<PickleCall>();
  return call != nullptr && call->callable->as<PickleGlobal>()->name == name;
}

/// Finds the tensors of a state dict in a pickle.
class StateDict {
 public:
  StateDict(const PickleValue& root, const std::string& name) : name_(name) {
    const PickleDict* dict = root.as<PickleDict>();
    if (dict == nullptr) throw Error("{}: holds no dict of tensors, but another object", name);
    for (const char* key : {"state_dict", "model"}) {
      for (const auto& [item_key, item] : dict->items) {
        const auto* text = item_key->as<std::string>();
        if (text != nullptr && *text == key && item->as<PickleDict>() != nullptr) dict = item->as<PickleDict>();
      }
    }
    for (const auto& [key, value] : dict->items) add(*key, *value);
    if (tensors.empty()) throw Error("{}: its dict holds no tensors", name);
  }

  std::map<std::string, TorchTensor> tensors;
  std::map<std::string, StorageInfo> storages;

 private:
  void add(const PickleValue& key, const PickleValue& value) {
    const auto* name = key.as<std::string>();
    if (name == nullptr) return;
    const PickleValue* tensor = &value;
    if (is_call_of(*tensor, "_rebuild_parameter")) {
      const auto& arguments = *tensor->as<PickleCall>()->arguments->as<PickleTuple>();
      if (arguments.empty()) throw bad(*name);
      tensor = arguments.front();
    }
    if (!is_call_of(*tensor, "_rebuild_tensor_v2")) return;  // a number, a nested dict, …
    if (!tensors.emplace(*name, rebuilt(*tensor->as<PickleCall>(), *name)).second)
      throw Error("{}: the tensor '{}' occurs twice", name_, *name);
  }

  /// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)
  TorchTensor rebuilt(const PickleCall& call, const std::string& name) {
    const auto& arguments = *call.arguments->as<PickleTuple>();
    if (arguments.size() < 4 || arguments[0]->as<PicklePersistent>() == nullptr) throw bad(name);
    TorchTensor tensor;
    tensor.storage = storage(*arguments[0]->as<PicklePersistent>(), name);
    const auto& info = storages.at(tensor.storage);
    tensor.dtype = info.dtype;
    const auto offset = integer(arguments[1]);
    auto shape = integers(arguments[2]);
    auto strides = integers(arguments[3]);
    if (!offset || *offset < 0 || !shape || !strides || shape->size() != strides->size() || shape->size() > 8)
      throw bad(name);
    tensor.offset = *offset;
    tensor.shape = std::move(*shape);
    tensor.strides = std::move(*strides);
    require_inside(tensor, info, name);
    return tensor;
  }

  void require_inside(const TorchTensor& tensor, const StorageInfo& info, const std::string& name) const {
    __extension__ using Wide = __int128;
    Wide last = tensor.offset, elements = 1;
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      elements *= tensor.shape[i];
      if (elements > kMaxElements) throw bad(name);
      last += static_cast<Wide>(tensor.shape[i] - 1) * tensor.strides[i];
      if (last > kMaxElements) throw bad(name);
    }
    // A tensor of more elements than its storage repeats some: torch.save() of a plain state dict has none.
    if (elements > info.elements || (elements > 0 && last >= info.elements))
      throw Error("{}: the tensor '{}' reaches beyond its storage of {} elements", name_, name, info.elements);
  }

  /// ('storage', type, key, device, elements, …)
  std::string storage(const PicklePersistent& persistent, const std::string& name) {
    const auto* id = persistent.id->as<PickleTuple>();
    if (id == nullptr || id->size() < 5) throw bad(name);
    const auto* kind = (*id)[0]->as<std::string>();
    const auto type = storage_type(*(*id)[1]);
    const auto* key = (*id)[2]->as<std::string>();
    const auto elements = integer((*id)[4]);
    const bool view = id->size() > 5 && (*id)[5]->as<PickleNone>() == nullptr;
    if (view || kind == nullptr || *kind != "storage" || !type || key == nullptr || !elements || *elements < 0 ||
        *elements > kMaxElements) {
      throw bad(name);
    }
    const auto [known, added] = storages.try_emplace(*key, StorageInfo{*type, *elements});
    if (!added && (known->second.dtype != *type || known->second.elements != *elements)) throw bad(name);
    return *key;
  }

  Error bad(const std::string& tensor) const {
    return Error("{}: the tensor '{}' is described in a way that torch.save() does not use for plain tensors", name_,
                 tensor);
  }

  const std::string& name_;
};

/// Storages by key.
class Storages {
 public:
  virtual ~Storages() = default;
  virtual std::vector<std::byte> read(const std::string& key, std::uint64_t bytes) const = 0;
};

/// A zip file in memory, read by libzip, which checks the CRC of an entry when it is read to its end.
class ZipStorages final : public Storages {
 public:
  ZipStorages(std::span<const std::byte> bytes, const std::string& name) : name_(name) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    zip_t* archive = source == nullptr ? nullptr : zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    const std::string reason = zip_error_strerror(&error);
    if (archive == nullptr && source != nullptr) zip_source_free(source);
    zip_error_fini(&error);
    if (archive == nullptr) throw Error("{}: is damaged or no zip file: {}", name_, reason);
    archive_.reset(archive);
    find_folder();
  }

  std::vector<std::byte> table() const { return entry("data.pkl", std::nullopt); }
  std::vector<std::byte> read(const std::string& key, std::uint64_t bytes) const override {
    return entry("data/" + key, bytes);
  }

 private:
  struct Discard {
    void operator()(zip_t* archive) const { zip_discard(archive); }
  };
  struct Close {
    void operator()(zip_file_t* file) const { zip_fclose(file); }
  };

  /// Everything lies in one folder, whose name is the archive's when it was written.
  void find_folder() {
    const auto count = zip_get_num_entries(archive_.get(), 0);
    for (zip_int64_t i = 0; i < count; ++i) {
      const char* entry_name = zip_get_name(archive_.get(), static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
      const std::string_view found = entry_name == nullptr ? "" : entry_name;
      if (found == "data.pkl" || found.ends_with("/data.pkl")) {
        folder_ = found.substr(0, found.size() - std::string_view("data.pkl").size());
        return;
      }
    }
    throw Error("{}: has no data.pkl, so torch.save() did not write it", name_);
  }

  std::vector<std::byte> entry(const std::string& inner, std::optional<std::uint64_t> expected) const {
    const std::string path = folder_ + inner;
    zip_stat_t stat;
    if (zip_stat(archive_.get(), path.c_str(), ZIP_FL_ENC_RAW, &stat) != 0 || (stat.valid & ZIP_STAT_SIZE) == 0)
      throw Error("{}: has no entry {}", name_, path);
    // torch.save() never compresses, and so no entry is larger than the file.
    if (stat.comp_method != ZIP_CM_STORE) throw Error("{}: the entry {} is compressed", name_, path);
    if (expected ? stat.size != *expected : stat.size > kMaxTableBytes) {
      throw Error("{}: the entry {} has {} bytes{}", name_, path, stat.size,
                  expected ? fmt::format(", its tensors need {}", *expected) : ", more than a table of tensors needs");
    }
    const std::unique_ptr<zip_file_t, Close> file(zip_fopen(archive_.get(), path.c_str(), ZIP_FL_ENC_RAW));
    std::vector<std::byte> bytes(stat.size);
    // One byte more is asked for: the CRC is compared when the end is met.
    std::byte beyond{};
    const bool whole = file && zip_fread(file.get(), bytes.data(), bytes.size()) == std::ssize(bytes) &&
                       zip_fread(file.get(), &beyond, 1) == 0;
    if (!whole) {
      throw Error("{}: the entry {} is damaged: {}", name_, path,
                  file ? zip_file_strerror(file.get()) : zip_strerror(archive_.get()));
    }
    return bytes;
  }

  const std::string& name_;
  std::unique_ptr<zip_t, Discard> archive_;
  std::string folder_;
};

/// The format before PyTorch 1.6: pickles one after the other (magic number, version, system, the object, the keys of
/// its storages), then each storage as its element count and its bytes.
class LegacyStorages final : public Storages {
 public:
  LegacyStorages(std::span<const std::byte> bytes, std::size_t begin, const Pickle& keys,
                 const std::map<std::string, StorageInfo>& storages, const std::string& name)
      : bytes_(bytes), name_(name) {
    const auto* list = keys.root().as<PickleList>();
    if (list == nullptr) throw Error("{}: its list of storages is missing", name);
    std::size_t at = begin;
    for (const auto* item : list->items) {
      const auto* key = item->as<std::string>();
      const auto info = key == nullptr ? storages.end() : storages.find(*key);
      // Every storage of the dict is there, tensors or not; one without a tensor has an unknown type.
      if (info == storages.end())
        throw Error("{}: has a storage that no tensor describes; save it again with a newer PyTorch", name);
      std::int64_t elements = 0;
      if (bytes.size() - at < sizeof(elements)) throw Error("{}: is truncated", name);
      std::memcpy(&elements, bytes.data() + at, sizeof(elements));
      at += sizeof(elements);
      const std::uint64_t size = static_cast<std::uint64_t>(info->second.elements) * size_of(info->second.dtype);
      if (elements != info->second.elements || bytes.size() - at < size) throw Error("{}: is truncated", name);
      places_[*key] = at;
      at += static_cast<std::size_t>(size);
    }
  }

  std::vector<std::byte> read(const std::string& key, std::uint64_t size) const override {
    const auto found = places_.find(key);
    if (found == places_.end()) throw Error("{}: has no storage {}", name_, key);
    const auto part = bytes_.subspan(found->second, static_cast<std::size_t>(size));
    return {part.begin(), part.end()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& name_;
  std::map<std::string, std::size_t> places_;
};

bool is_zip(std::span<const std::byte> bytes) {
  constexpr std::array<unsigned char, 4> kMagic{'P', 'K', 3, 4};
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

/// The legacy format's magic number 0x1950a86a20f9469cfc6c, as a pickle of protocol 2.
bool is_legacy(std::span<const std::byte> bytes) {
  constexpr std::array<unsigned char, 14> kMagic{0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c,
                                                 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
  return bytes.size() > kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

}  // namespace

struct TorchFile::Impl {
  MappedFile file;
  std::string name;
  std::span<const std::byte> bytes;
  std::map<std::string, TorchTensor> tensors;
  std::map<std::string, StorageInfo> infos;
  std::unique_ptr<Storages> storages;

  void take(StateDict dict) {
    tensors = std::move(dict.tensors);
    infos = std::move(dict.storages);
  }

  void open() {
    if (is_zip(bytes)) {
      auto zip = std::make_unique<ZipStorages>(bytes, name);
      const auto table = zip->table();
      take(StateDict(Pickle(table, name).root(), name));
      storages = std::move(zip);
    } else if (is_legacy(bytes)) {
      open_legacy();
    } else {
      throw Error("{}: was not written by torch.save() (neither a zip file nor the format before it)", name);
    }
  }

  void open_legacy() {
    std::size_t at = 15;  // behind the magic number's pickle
    const auto next = [&] {
      Pickle pickle(bytes.subspan(at), name);
      at += pickle.size();
      return pickle;
    };
    (void)next();  // protocol version
    (void)next();  // byte order and sizes of the system
    {
      const Pickle object = next();
      take(StateDict(object.root(), name));
    }
    const Pickle keys = next();
    storages = std::make_unique<LegacyStorages>(bytes, at, keys, infos, name);
  }
};

TorchFile::TorchFile(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
  impl_->name = path.string();
  impl_->file = MappedFile(path);
  impl_->bytes = impl_->file.bytes();
  impl_->open();
}

TorchFile::TorchFile(std::span<const std::byte> bytes, const std::string& name) : impl_(std::make_unique<Impl>()) {
  impl_->name = name;
  impl_->bytes = bytes;
  impl_->open();
}

TorchFile::~TorchFile() = default;
TorchFile::TorchFile(TorchFile&&) noexcept = default;

const std::map<std::string, TorchTensor>& TorchFile::tensors() const { return impl_->tensors; }

std::vector<std::byte> TorchFile::read(const std::string& name) const {
  const auto found = impl_->tensors.find(name);
  if (found == impl_->tensors.end()) throw Error("{}: holds no tensor '{}'", impl_->name, name);
  const auto& tensor = found->second;
  const std::size_t item = size_of(tensor.dtype);
  const auto& info = impl_->infos.at(tensor.storage);
  const auto storage = impl_->storages->read(tensor.storage, static_cast<std::uint64_t>(info.elements) * item);

  std::size_t elements = 1;
  for (const auto extent : tensor.shape) elements *= static_cast<std::size_t>(extent);
  std::vector<std::byte> result(elements * item);
  // An odometer over all but the last dimension; the last is copied as a run where it is dense.
  const std::size_t dimensions = tensor.shape.size();
  const std::int64_t inner = dimensions == 0 ? 1 : tensor.shape.back();
  const std::int64_t inner_stride = dimensions == 0 ? 1 : tensor.strides.back();
  std::vector<std::int64_t> index(dimensions, 0);
  for (std::size_t done = 0; done < elements;) {
    std::int64_t at = tensor.offset;
    for (std::size_t d = 0; d + 1 < dimensions; ++d) at += index[d] * tensor.strides[d];
    for (std::int64_t i = 0; i < inner; i += inner_stride == 1 ? inner : 1) {
      const std::size_t run = (inner_stride == 1 ? static_cast<std::size_t>(inner) : 1) * item;
      std::memcpy(result.data() + done * item, storage.data() + static_cast<std::size_t>(at + i * inner_stride) * item,
                  run);
      done += run / item;
    }
    for (std::size_t d = dimensions == 0 ? 0 : dimensions - 1; d-- > 0;) {
      if (++index[d] < tensor.shape[d]) break;
      index[d] = 0;
    }
  }
  return result;
}

}  // namespace mmkd
