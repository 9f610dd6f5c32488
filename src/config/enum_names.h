#pragma once
#include <array>
#include <string_view>

#include "mmkd/config/config.h"

// Names of the enum values, in the order of their declarations.
namespace mmkd::config_detail {

template <class Enum>
struct EnumNames;  // names: std::array<std::string_view, number of values>

template <>
struct EnumNames<DatasetType> {
  static constexpr std::array<std::string_view, 3> names{"medpix", "wound", "table"};
};
template <>
struct EnumNames<OnBadSample> {
  static constexpr std::array<std::string_view, 2> names{"error", "quarantine"};
};
template <>
struct EnumNames<OnBadRecord> {
  static constexpr std::array<std::string_view, 2> names{"error", "quarantine"};
};
template <>
struct EnumNames<FusionType> {
  static constexpr std::array<std::string_view, 10> names{
      "simple",           "concat_mlp",         "cross_attention",       "gated", "film",
      "modality_dropout", "transformer_concat", "energy_aware_adaptive", "shomr", "gated_mlp"};
};
template <>
struct EnumNames<LossType> {
  static constexpr std::array<std::string_view, 6> names{"vanilla", "combined", "crd", "rkd", "mmd", "ce_only"};
};
template <>
struct EnumNames<Precision> {
  static constexpr std::array<std::string_view, 2> names{"fp32", "bf16"};
};
template <>
struct EnumNames<Schedule> {
  static constexpr std::array<std::string_view, 3> names{"constant", "linear", "cosine"};
};
template <>
struct EnumNames<TeacherSelect> {
  static constexpr std::array<std::string_view, 2> names{"last", "best"};
};
template <>
struct EnumNames<TeacherOutputsFrom> {
  static constexpr std::array<std::string_view, 2> names{"cached", "live"};
};
template <>
struct EnumNames<CacheFeatures> {
  static constexpr std::array<std::string_view, 2> names{"fp32", "fp16"};
};
template <>
struct EnumNames<TextPooling> {
  static constexpr std::array<std::string_view, 2> names{"cls", "mean"};
};
template <>
struct EnumNames<VisionFamily> {
  static constexpr std::array<std::string_view, 4> names{"vit", "deit", "mobilevit", "mobilenet_v2"};
};
template <>
struct EnumNames<TextFamily> {
  static constexpr std::array<std::string_view, 5> names{"bert", "distilbert", "mobilebert", "roberta", "custom_text"};
};
template <>
struct EnumNames<StudentArch> {
  static constexpr std::array<std::string_view, 2> names{"zoo", "custom_tiny"};
};
template <>
struct EnumNames<BatchNormMode> {
  static constexpr std::array<std::string_view, 2> names{"sync", "frozen"};
};
template <>
struct EnumNames<Modality> {
  static constexpr std::array<std::string_view, 3> names{"both", "image", "text"};
};
template <>
struct EnumNames<TrainingMode> {
  static constexpr std::array<std::string_view, 2> names{"two_stage", "joint"};
};
template <>
struct EnumNames<Routing> {
  static constexpr std::array<std::string_view, 2> names{"straight_through", "sampled"};
};
template <>
struct EnumNames<ProjectionMode> {
  static constexpr std::array<std::string_view, 2> names{"trained", "frozen"};
};
template <>
struct EnumNames<MmdBandwidth> {
  static constexpr std::array<std::string_view, 2> names{"median", "fixed"};
};
template <>
struct EnumNames<LossTermType> {
  static constexpr std::array<std::string_view, 9> names{"ce",        "kl",  "mse", "crd", "rkd_distance",
                                                         "rkd_angle", "mmd", "dkd", "dist"};
};
template <>
struct EnumNames<Device> {
  static constexpr std::array<std::string_view, 3> names{"auto", "cpu", "cuda"};
};

}  // namespace mmkd::config_detail
