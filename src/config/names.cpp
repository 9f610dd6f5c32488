#include "mmkd/config/names.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "enum_names.h"
#include "mmkd/base/error.h"

namespace mmkd {
namespace {
template <class Enum>
std::string_view name(Enum value) {
  return config_detail::EnumNames<Enum>::names.at(static_cast<std::size_t>(value));
}
}  // namespace

template <class Enum>
Enum value_named(std::string_view name, std::string_view where) {
  const auto& names = config_detail::EnumNames<Enum>::names;
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) throw Error("{}: '{}' is none of {}", where, name, fmt::join(names, ", "));
  return static_cast<Enum>(found - names.begin());
}
template FusionType value_named<FusionType>(std::string_view name, std::string_view where);
template Modality value_named<Modality>(std::string_view name, std::string_view where);
template TextPooling value_named<TextPooling>(std::string_view name, std::string_view where);

std::string_view to_string(DatasetType value) { return name(value); }
std::string_view to_string(OnBadSample value) { return name(value); }
std::string_view to_string(OnBadRecord value) { return name(value); }
std::string_view to_string(FusionType value) { return name(value); }
std::string_view to_string(LossType value) { return name(value); }
std::string_view to_string(Precision value) { return name(value); }
std::string_view to_string(Schedule value) { return name(value); }
std::string_view to_string(TeacherSelect value) { return name(value); }
std::string_view to_string(TeacherOutputsFrom value) { return name(value); }
std::string_view to_string(CacheFeatures value) { return name(value); }
std::string_view to_string(TextPooling value) { return name(value); }
std::string_view to_string(VisionFamily value) { return name(value); }
std::string_view to_string(TextFamily value) { return name(value); }
std::string_view to_string(StudentArch value) { return name(value); }
std::string_view to_string(BatchNormMode value) { return name(value); }
std::string_view to_string(Modality value) { return name(value); }
std::string_view to_string(TrainingMode value) { return name(value); }
std::string_view to_string(Routing value) { return name(value); }
std::string_view to_string(ProjectionMode value) { return name(value); }
std::string_view to_string(MmdBandwidth value) { return name(value); }
std::string_view to_string(LossTermType value) { return name(value); }
std::string_view to_string(Device value) { return name(value); }

}  // namespace mmkd
