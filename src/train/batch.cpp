#include "mmkd/train/batch.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "mmkd/base/error.h"
#include "mmkd/image/augment.h"

namespace mmkd {

std::vector<BatchPlan> epoch_plans(const Sampler& sampler, const EpochSpec& epoch) {
  const std::int64_t steps = sampler.steps_per_epoch();
  if (epoch.start_step < 0 || epoch.start_step > steps) {
    throw Error("cannot start at step {} of an epoch that has {} steps", epoch.start_step, steps);
  }
  const auto order = sampler.order(epoch.seed, epoch.epoch);
  std::vector<BatchPlan> plans;
  plans.reserve(static_cast<std::size_t>(steps - epoch.start_step));
  for (std::int64_t step = epoch.start_step; step < steps; ++step) {
    auto plan = sampler.plan(order, step);
    plans.push_back({std::move(plan.rows), {.global_count = plan.global_count, .world = epoch.world}});
    if (epoch.views > 0) plans.back().views.assign(plans.back().rows.size(), epoch.epoch % epoch.views);
  }
  return plans;
}

std::vector<BatchPlan> block_plans(std::int64_t samples, std::int64_t block_size, std::int64_t world,
                                   std::int64_t rank) {
  if (block_size < 1) throw Error("a block of {} samples was asked for; at least 1 is needed", block_size);
  const std::int64_t blocks = (samples + block_size - 1) / block_size;
  const BatchShares dealt{.global_count = blocks, .world = world};
  std::vector<BatchPlan> plans;
  for (std::int64_t i = 0; i < dealt.rows_of(rank); ++i) {
    const std::int64_t begin = (dealt.begin_of(rank) + i) * block_size;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(std::min(block_size, samples - begin)));
    std::iota(rows.begin(), rows.end(), begin);
    const auto count = static_cast<std::int64_t>(rows.size());
    plans.push_back({std::move(rows), {.global_count = count, .world = 1}});
  }
  return plans;
}

std::vector<at::Tensor*> device_tensors(Batch& batch) {
  std::vector<at::Tensor*> all;
  const auto add = [&](at::Tensor& tensor) {
    if (tensor.defined()) all.push_back(&tensor);
  };
  for (auto* input : {&batch.teacher, &batch.student}) {
    for (auto* tensor :
         {&input->pixels, &input->input_ids, &input->attention_mask, &input->has_image, &input->has_text})
      add(*tensor);
  }
  for (auto& labels : batch.labels) add(labels);
  add(batch.device_keys);
  if (batch.teacher_outputs) {
    for (auto* tensor : tensors_of(*batch.teacher_outputs)) add(*tensor);
  }
  return all;
}

void change_device_tensors(Batch& batch, const std::function<at::Tensor(const at::Tensor&)>& changed) {
  std::vector<std::pair<at::Tensor, at::Tensor>> done;  // holds the old ones too, so that none gets another's address
  for (auto* tensor : device_tensors(batch)) {
    auto known = std::find_if(done.begin(), done.end(), [&](const auto& pair) { return pair.first.is_same(*tensor); });
    if (known == done.end()) known = done.insert(done.end(), {*tensor, changed(*tensor)});
    *tensor = known->second;
  }
}

Batch to_device(Batch batch, at::Device device) {
  if (!device.is_cpu()) batch.device_keys = batch.sample_keys;
  change_device_tensors(batch, [&](const at::Tensor& tensor) { return tensor.to(device, /*non_blocking=*/true); });
  return batch;
}

std::array<InputSpec, 2> input_specs(const PackedInfo& info) {
  std::array<InputSpec, 2> specs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const auto& image = info.image_streams.at(static_cast<std::size_t>(info.image_stream_of[i]));
    const auto& tokens = info.token_streams.at(static_cast<std::size_t>(info.token_stream_of[i]));
    specs[i] = {.image_stream = info.image_stream_of[i],
                .height = image.height,
                .width = image.width,
                .policy = info.policies[i],
                .token_stream = info.token_stream_of[i],
                .pad_id = tokens.pad_id};
  }
  return specs;
}

template <class T>
void convert_pixels(std::span<const std::uint8_t> rgb, const PixelValues<T>& values, bool bgr, T* out) {
  const std::size_t pixels = rgb.size() / 3;
  // One pass over the source with three sequential outputs; the tables (3 KiB) stay in the first-level cache.
  const std::uint8_t* in = rgb.data();
  T* red = out + (bgr ? 2 * pixels : 0);
  T* green = out + pixels;
  T* blue = out + (bgr ? 0 : 2 * pixels);
  const T* red_values = values[bgr ? 2 : 0].data();
  const T* green_values = values[1].data();
  const T* blue_values = values[bgr ? 0 : 2].data();
  for (std::size_t i = 0; i < pixels; ++i) {
    red[i] = red_values[in[3 * i]];
    green[i] = green_values[in[3 * i + 1]];
    blue[i] = blue_values[in[3 * i + 2]];
  }
}

template void convert_pixels(std::span<const std::uint8_t>, const PixelValues<float>&, bool, float*);
template void convert_pixels(std::span<const std::uint8_t>, const PixelValues<c10::BFloat16>&, bool, c10::BFloat16*);

BatchAssembler::BatchAssembler(const SampleSource& source, AssemblerOptions options)
    : source_(source), options_(options) {
  if (options_.pixel_type != at::kFloat && options_.pixel_type != at::kBFloat16)
    throw Error("batches: pictures are float32 or bfloat16, {} was asked for", c10::toString(options_.pixel_type));
  const auto tower = [](const std::optional<InputSpec>& spec) -> std::optional<Tower> {
    if (!spec) return std::nullopt;
    Tower made{.spec = *spec, .table = pixel_table(spec->policy), .rounded = {}};
    for (std::size_t channel = 0; channel < made.table.size(); ++channel)
      std::copy(made.table[channel].begin(), made.table[channel].end(), made.rounded[channel].begin());
    return made;
  };
  teacher_ = tower(options_.teacher);
  student_ = tower(options_.student);
  if (teacher_ && student_) {
    const auto& [a, b] = std::pair(teacher_->spec, student_->spec);
    const auto reads = [](const InputSpec& spec, Modality modality) {
      return spec.modality == Modality::both || spec.modality == modality;
    };
    share_pixels_ = reads(a, Modality::image) && reads(b, Modality::image) && a.image_stream == b.image_stream &&
                    a.policy.bgr == b.policy.bgr && teacher_->table == student_->table;
    share_tokens_ = reads(a, Modality::text) && reads(b, Modality::text) && a.token_stream == b.token_stream &&
                    a.pad_id == b.pad_id && a.min_padding == b.min_padding && a.padding_step == b.padding_step &&
                    a.longest_text == b.longest_text;
  }
}

Batch BatchAssembler::assemble(const BatchPlan& plan) const {
  constexpr std::int64_t kFiller[] = {0};
  const std::span<const std::int64_t> rows = plan.rows.empty() ? std::span<const std::int64_t>(kFiller) : plan.rows;
  const auto records_of = [&](std::span<const std::int64_t> numbers) {
    std::vector<Record> records;
    records.reserve(numbers.size());
    for (const auto row : numbers) records.push_back(source_.get(row));
    return records;
  };
  const auto records = records_of(rows);

  Batch batch;
  batch.rows = plan.rows;
  batch.shares = plan.shares;
  batch.labels = labels(records);
  batch.sample_keys = empty({std::ssize(records)}, at::kLong);
  std::transform(records.begin(), records.end(), batch.sample_keys.mutable_data_ptr<std::int64_t>(),
                 [](const Record& record) { return std::bit_cast<std::int64_t>(record.sample_key); });
  if (plan.text_rows.empty()) {
    add_inputs(batch, records, records, plan.views);
  } else {
    add_inputs(batch, records, records_of(plan.text_rows), plan.views);
  }
  if (options_.teacher_outputs != nullptr) {
    // A filler row stands for view 0: it weighs nothing.
    const std::vector<std::int64_t> filler_view(options_.augment.views > 0 && plan.rows.empty() ? 1 : 0);
    batch.teacher_outputs = options_.teacher_outputs->rows(rows, plan.rows.empty() ? filler_view : plan.views);
    if (options_.pin_memory) {
      for (auto* tensor : tensors_of(*batch.teacher_outputs)) *tensor = tensor->pin_memory();
    }
  }
  return batch;
}

void BatchAssembler::add_inputs(Batch& batch, std::span<const Record> records, std::span<const Record> texts,
                                std::span<const std::int64_t> views) const {
  const auto add = [&](const Tower& tower, ModelInput& input, bool with_pixels, bool with_tokens) {
    if (with_pixels && tower.spec.modality != Modality::text) input.pixels = pixels(tower, records, views);
    if (with_tokens && tower.spec.modality != Modality::image) add_tokens(tower, texts, input);
  };
  if (teacher_) add(*teacher_, batch.teacher, true, true);
  if (!student_) return;
  if (share_pixels_) batch.student.pixels = batch.teacher.pixels;
  if (share_tokens_) {
    batch.student.input_ids = batch.teacher.input_ids;
    batch.student.attention_mask = batch.teacher.attention_mask;
    batch.student.text_lengths = batch.teacher.text_lengths;
  }
  add(*student_, batch.student, !share_pixels_, !share_tokens_);
}

at::Tensor BatchAssembler::pixels(const Tower& tower, std::span<const Record> records,
                                  std::span<const std::int64_t> views) const {
  if (options_.pixel_type == at::kBFloat16) return pixels(tower, tower.rounded, records, views);
  return pixels(tower, tower.table, records, views);
}

template <class T>
at::Tensor BatchAssembler::pixels(const Tower& tower, const PixelValues<T>& values, std::span<const Record> records,
                                  std::span<const std::int64_t> views) const {
  const auto& spec = tower.spec;
  const auto expected = static_cast<std::size_t>(3 * spec.height * spec.width);
  auto result = empty({static_cast<std::int64_t>(records.size()), 3, spec.height, spec.width}, options_.pixel_type);
  auto* out = result.mutable_data_ptr<T>();
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& rgb = records[i].pixels.at(static_cast<std::size_t>(spec.image_stream));
    if (rgb.size() != expected) {
      throw Error("sample {}: its picture has {} bytes, {} are expected for {}x{} RGB", records[i].id, rgb.size(),
                  expected, spec.height, spec.width);
    }
    if (views.empty()) {
      convert_pixels(rgb, values, spec.policy.bgr, out);
    } else {
      const Image stored{.height = spec.height, .width = spec.width, .rgb = {rgb.begin(), rgb.end()}};
      const auto view = draw_view(options_.augment, options_.seed, records[i].sample_key, views[i]);
      convert_pixels<T>(apply_view(stored, view).rgb, values, spec.policy.bgr, out);
    }
    out += expected;
  }
  return result;
}

void BatchAssembler::add_tokens(const Tower& tower, std::span<const Record> records, ModelInput& input) const {
  const auto tokens_of = [&](const Record& record) {
    return record.tokens.at(static_cast<std::size_t>(tower.spec.token_stream));
  };
  std::int64_t longest = 0;
  for (const auto& record : records) {
    if (tokens_of(record).empty())
      throw Error("sample {}: its text has no tokens, not even the special ones", record.id);
    longest = std::max(longest, std::ssize(tokens_of(record)));
  }
  const std::int64_t step = tower.spec.padding_step, stepped = (longest + step - 1) / step * step;
  longest = std::min(stepped, std::max(longest, tower.spec.longest_text)) + tower.spec.min_padding;
  const std::vector<std::int64_t> shape{std::ssize(records), longest};
  input.input_ids = empty(shape, at::kLong);
  input.attention_mask = empty(shape, at::kBool);
  auto* ids = input.input_ids.mutable_data_ptr<std::int64_t>();
  auto* mask = input.attention_mask.mutable_data_ptr<bool>();
  const at::Tensor lengths = at::empty({shape[0]}, at::kLong);
  auto* length = lengths.mutable_data_ptr<std::int64_t>();
  bool has_padding_token = false;
  for (const auto& record : records) {
    const auto tokens = tokens_of(record);
    *length++ = std::ssize(tokens);
    has_padding_token = has_padding_token || std::find(tokens.begin(), tokens.end(), tower.spec.pad_id) != tokens.end();
    std::fill(std::copy(tokens.begin(), tokens.end(), ids), ids + longest, tower.spec.pad_id);
    std::fill(std::fill_n(mask, tokens.size(), true), mask + longest, false);
    ids += longest;
    mask += longest;
  }
  if (!has_padding_token) input.text_lengths = lengths;
}

std::vector<at::Tensor> BatchAssembler::labels(std::span<const Record> records) const {
  const std::size_t tasks = records.front().labels.size();
  std::vector<at::Tensor> result;
  for (std::size_t task = 0; task < tasks; ++task) {
    auto values = empty({static_cast<std::int64_t>(records.size())}, at::kLong);
    auto* out = values.mutable_data_ptr<std::int64_t>();
    for (const auto& record : records) {
      if (record.labels.size() != tasks) {
        throw Error("sample {}: it has {} labels, the sample before it {}", record.id, record.labels.size(), tasks);
      }
      *out++ = record.labels[task];
    }
    result.push_back(std::move(values));
  }
  return result;
}

at::Tensor BatchAssembler::empty(at::IntArrayRef shape, at::ScalarType type) const {
  return at::empty(shape, at::TensorOptions(type).pinned_memory(options_.pin_memory));
}

}  // namespace mmkd
