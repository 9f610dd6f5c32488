#include "mmkd/weights/tensors.h"

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

struct TypePair {
  DType dtype;
  at::ScalarType scalar;
};
constexpr TypePair kTypes[] = {
    {DType::f64, at::kDouble}, {DType::f32, at::kFloat},    {DType::f16, at::kHalf},  {DType::bf16, at::kBFloat16},
    {DType::i64, at::kLong},   {DType::i32, at::kInt},      {DType::i16, at::kShort}, {DType::i8, at::kChar},
    {DType::u8, at::kByte},    {DType::boolean, at::kBool},
};

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const auto& pair : kTypes) {
    if (pair.dtype == dtype) return pair.scalar;
  }
  throw Error("no tensor type for {}", name(dtype));
}

DType dtype_of(at::ScalarType type) {
  for (const auto& pair : kTypes) {
    if (pair.scalar == type) return pair.dtype;
  }
  throw Error("tensors of type {} cannot be stored in safetensors files", c10::toString(type));
}

at::Tensor tensor_of(const std::shared_ptr<const SafetensorsFile>& file, const std::string& name) {
  const TensorEntry& entry = file->entry(name);
  const auto bytes = file->bytes(name);
  const auto options = at::TensorOptions().dtype(scalar_type(entry.dtype));
  if (bytes.empty()) return at::empty(entry.shape, options);
  auto* data = const_cast<std::byte*>(bytes.data());  // the mapping is private: writing to it is allowed
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % size_of(entry.dtype) == 0;
  if (aligned)
    return at::from_blob(
        data, entry.shape, [file](void*) {}, options);
  at::Tensor copy = at::empty(entry.shape, options);
  std::memcpy(copy.data_ptr(), data, bytes.size());
  return copy;
}

std::map<std::string, at::Tensor> load_tensors(const std::filesystem::path& file) {
  const auto stored = std::make_shared<const SafetensorsFile>(file);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, entry] : stored->header().tensors) tensors.emplace(name, tensor_of(stored, name));
  return tensors;
}

void save_tensors(const std::filesystem::path& file, std::span<const NamedTensor> tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<at::Tensor> kept;  // alive until their bytes are written
  std::vector<NamedBytes> bytes;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().cpu().contiguous());
    const at::Tensor& stored = kept.back();
    const auto* data = static_cast<const std::byte*>(stored.const_data_ptr());
    bytes.push_back({name, dtype_of(stored.scalar_type()), stored.sizes().vec(), {data, stored.nbytes()}});
  }
  write_safetensors(file, bytes, metadata);
}

}  // namespace mmkd
