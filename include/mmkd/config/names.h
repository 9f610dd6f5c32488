#pragma once
#include <string_view>

#include "mmkd/config/config.h"

// The names of the enum values as they stand in configs, results and logs.
namespace mmkd {

std::string_view to_string(DatasetType value);
std::string_view to_string(OnBadSample value);
std::string_view to_string(OnBadRecord value);
std::string_view to_string(FusionType value);
std::string_view to_string(LossType value);
std::string_view to_string(Precision value);
std::string_view to_string(Schedule value);
std::string_view to_string(TeacherSelect value);
std::string_view to_string(TeacherOutputsFrom value);
std::string_view to_string(CacheFeatures value);
std::string_view to_string(TextPooling value);
std::string_view to_string(VisionFamily value);
std::string_view to_string(TextFamily value);
std::string_view to_string(StudentArch value);
std::string_view to_string(BatchNormMode value);
std::string_view to_string(Modality value);
std::string_view to_string(TrainingMode value);
std::string_view to_string(Routing value);
std::string_view to_string(ProjectionMode value);
std::string_view to_string(MmdBandwidth value);
std::string_view to_string(LossTermType value);
std::string_view to_string(Device value);

/// The value of that name: FusionType, Modality, TextPooling. Throws Error, starting with `where`, for any other.
template <class Enum>
Enum value_named(std::string_view name, std::string_view where);

}  // namespace mmkd
