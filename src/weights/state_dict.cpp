#include "mmkd/weights/state_dict.h"

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickler.h>

#include <exception>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"

namespace mmkd {
namespace {

/// Views share their storage in a pickle, and a storage is written whole: every tensor gets one of its own size.
at::Tensor with_own_storage(const at::Tensor& tensor) {
  const at::Tensor stored = tensor.detach().cpu().contiguous();
  const bool whole = stored.storage_offset() == 0 && stored.storage().nbytes() == stored.nbytes();
  return whole ? stored : stored.clone();
}

c10::IValue dictionary(const std::filesystem::path& file, std::span<const NamedTensor> tensors) {
  c10::Dict<std::string, at::Tensor> dictionary;
  for (const auto& [name, tensor] : tensors) {
    if (!dictionary.insert(name, with_own_storage(tensor)).second) {
      throw Error("{}: the tensor name '{}' is taken", file.string(), name);
    }
  }
  return dictionary;
}

}  // namespace

void save_state_dict(const std::filesystem::path& file, std::span<const NamedTensor> tensors) {
  std::string pickle;
  torch::jit::Pickler pickler([&](const char* bytes, std::size_t size) { pickle.append(bytes, size); },
                              /*tensor_table=*/nullptr, /*type_renamer=*/nullptr, /*memoized_class_types=*/nullptr,
                              /*get_tensor_id=*/nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  pickler.pushIValue(dictionary(file, tensors));
  pickler.stop();

  AtomicFile out(file);
  std::exception_ptr failure;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* bytes, std::size_t size) {
    // The writer's destructor finishes the archive and would end the process if that failed: a failure waits until the
    // archive is complete.
    try {
      if (!failure) out.write({static_cast<const char*>(bytes), size});
    } catch (...) {
      failure = std::current_exception();
    }
    return size;
  });
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  const auto& storages = pickler.tensorData();
  for (std::size_t i = 0; i < storages.size(); ++i) {
    writer.writeRecord("data/" + std::to_string(i), storages[i].const_data_ptr(), storages[i].nbytes());
  }
  writer.writeEndOfFile();
  if (failure) std::rethrow_exception(failure);
  std::move(out).commit();
}

}  // namespace mmkd
