#include "device_batches.h"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace mmkd {

DeviceBatches::DeviceBatches(BatchLoader loader, at::Device device, std::optional<c10::Stream> copies)
    : loader_(std::move(loader)), device_(device), copies_(copies) {}

std::optional<Batch> DeviceBatches::from_loader() {
  const auto asked = std::chrono::steady_clock::now();
  auto batch = loader_.next();
  waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count();
  return batch;
}

void DeviceBatches::fetch_next() {
  if (!copies_ || fetched_) return;
  auto batch = from_loader();
  if (!batch) return;
  const c10::StreamGuard guard(*copies_);
  fetched_ = to_device(std::move(*batch), device_);
}

std::optional<Batch> DeviceBatches::next() {
  if (!copies_) return from_loader();
  fetch_next();
  auto batch = std::exchange(fetched_, std::nullopt);
  if (!batch) return batch;
  const auto current = c10::impl::VirtualGuardImpl(device_.type()).getStream(device_);
  c10::Event copied(device_.type());
  copied.record(*copies_);
  copied.block(current);
  // Their memory belongs to the stream of copies, which must not reuse it before the step is done.
  for (const auto* tensor : device_tensors(*batch)) tensor->record_stream(current);
  return batch;
}

}  // namespace mmkd
