#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/data/sampler.h"
#include "mmkd/dist/world.h"
#include "mmkd/distill/teacher_outputs.h"
#include "mmkd/image/image.h"
#include "mmkd/models/model_output.h"

// From records of packed data to the tensors of one step.
// B rows of this rank, S tokens of its longest text, H/W size of a stored picture
namespace mmkd {

/// Which samples one rank processes in one step.
struct BatchPlan {
  std::vector<std::int64_t> rows;            ///< sample numbers; empty: this rank has no share of the step
  BatchShares shares;                        ///< division of the global batch over the ranks
  std::vector<std::int64_t> views = {};      ///< view of each row's picture; empty: pictures as they are
  std::vector<std::int64_t> text_rows = {};  ///< sample whose text each row gets; empty: its own
};

/// An epoch on one rank.
struct EpochSpec {
  std::int64_t world = 1;  ///< the sampler's
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t start_step = 0;  ///< of the epoch
  std::int64_t views = 0;       ///< augmented views of a picture: the epoch shows number `epoch % views`; 0: none
};
/// The steps of a training epoch, from `start_step` to its end.
std::vector<BatchPlan> epoch_plans(const Sampler& sampler, const EpochSpec& epoch);

/// A plain pass over `samples` samples, for evaluation and caches: blocks of `block_size` samples in their order, of
/// which each rank takes a contiguous run (sizes differing by at most one block; some may get none). Blocks stay whole,
/// so what a model gives for a sample does not depend on the number of ranks; each is a batch of its own ranks' world
/// of one.
std::vector<BatchPlan> block_plans(std::int64_t samples, std::int64_t block_size, std::int64_t world,
                                   std::int64_t rank);

struct Batch {
  ModelInput teacher,
      student;  ///< tensors of a stream that was not asked for are undefined; equal streams share tensors
  std::vector<at::Tensor> labels;  ///< [B] int64 each, in the order of the tasks
  at::Tensor sample_keys;          ///< [B] int64, always on the CPU: the bits of Record::sample_key
  at::Tensor device_keys;          ///< the same on the batch's device; undefined on the CPU
  std::vector<std::int64_t> rows;  ///< sample numbers; empty when the one row is a filler, which must weigh nothing
  BatchShares shares;
  std::optional<TeacherOutputs> teacher_outputs;
};

/// The batch with its tensors on `device`. Copies from pinned memory are asynchronous on the current stream.
Batch to_device(Batch batch, at::Device device);

/// Those of its tensors that to_device() puts there, in a fixed order; the same tensor may be there twice.
std::vector<at::Tensor*> device_tensors(Batch& batch);
/// Puts others in their place; what is the same tensor is changed once, and the same afterwards.
void change_device_tensors(Batch& batch, const std::function<at::Tensor(const at::Tensor&)>& changed);

/// Where records come from. Must be safe for several threads at once.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual std::int64_t size() const = 0;
  virtual Record get(std::int64_t i) const = 0;
};

/// A split of packed data, which must outlive the source.
class PackedSource final : public SampleSource {
 public:
  explicit PackedSource(const PackedSplit& split) : split_(split) {}
  std::int64_t size() const override { return split_.size(); }
  Record get(std::int64_t i) const override { return split_.get(i); }

 private:
  const PackedSplit& split_;
};

/// Stored teacher outputs by sample number. Must be safe for several threads at once.
class TeacherOutputSource {
 public:
  virtual ~TeacherOutputSource() = default;
  /// One row for each of `rows`, in that order, on the CPU. `views`: the view of each row's picture; empty: as it is.
  virtual TeacherOutputs rows(std::span<const std::int64_t> rows, std::span<const std::int64_t> views) const = 0;
};

/// How one model reads records.
struct InputSpec {
  int image_stream = 0;
  std::int64_t height = 0, width = 0;
  ImagePolicy policy;  ///< rescaling, normalisation and channel order; resize and crop are done
  int token_stream = 0;
  std::int32_t pad_id = 0;
  std::int64_t min_padding = 0;        ///< columns of padding that every batch has at least
  std::int64_t padding_step = 1;       ///< texts are padded to a multiple of it, or to longest_text
  std::int64_t longest_text = 0;       ///< tokens that a text can have
  Modality modality = Modality::both;  ///< what the model reads; tensors of the other modality are left undefined
};

/// [teacher, student]
std::array<InputSpec, 2> input_specs(const PackedInfo& info);

/// For each channel and byte the value that the network gets, as float or c10::BFloat16.
template <class T>
using PixelValues = std::array<std::array<T, 256>, 3>;

/// Stored picture to network input: [height, width, 3] RGB bytes -> [3, height, width] values in the network's channel
/// order (values and `bgr` as in image/image.h). `out` has 3 · pixels of them.
template <class T>
void convert_pixels(std::span<const std::uint8_t> rgb, const PixelValues<T>& values, bool bgr, T* out);

struct AssemblerOptions {
  std::optional<InputSpec> teacher, student;             ///< unset: that model's input is left out of the batches
  const TeacherOutputSource* teacher_outputs = nullptr;  ///< borrowed; null: none
  /// Of pictures: float32, or bfloat16 for models that begin by rounding to it, which spares half of the memory.
  at::ScalarType pixel_type = at::kFloat;
  bool pin_memory = false;  ///< page-locked tensors for copies to a CUDA device
  AugmentConfig augment;    ///< how the plans' views look
  std::uint64_t seed = 0;   ///< of the views
};

/// Makes batches: texts padded on the right to the longest of this rank's rows, pictures normalised. A rank without
/// rows gets the first sample of the source as a filler row. Safe for several threads at once.
class BatchAssembler {
 public:
  /// `source` is borrowed.
  BatchAssembler(const SampleSource& source, AssemblerOptions options);
  /// Throws Error for a record that does not fit the spec, and what the sources throw.
  Batch assemble(const BatchPlan& plan) const;

 private:
  struct Tower {
    InputSpec spec;
    PixelTable table;
    PixelValues<c10::BFloat16> rounded;  ///< the table
  };
  template <class T>
  at::Tensor pixels(const Tower& tower, const PixelValues<T>& values, std::span<const Record> records,
                    std::span<const std::int64_t> views) const;
  at::Tensor pixels(const Tower& tower, std::span<const Record> records, std::span<const std::int64_t> views) const;
  void add_tokens(const Tower& tower, std::span<const Record> records, ModelInput& input) const;
  void add_inputs(Batch& batch, std::span<const Record> records, std::span<const Record> texts,
                  std::span<const std::int64_t> views) const;
  std::vector<at::Tensor> labels(std::span<const Record> records) const;
  at::Tensor empty(at::IntArrayRef shape, at::ScalarType type) const;

  const SampleSource& source_;
  AssemblerOptions options_;
  std::optional<Tower> teacher_, student_;
  bool share_pixels_ = false, share_tokens_ = false;
};

}  // namespace mmkd
