#pragma once
#include <string_view>

/// CUDA C++ that is compiled when a program runs: the files *.cu of this folder.
namespace mmkd::assets {

extern const std::string_view keyed_dropout;

}  // namespace mmkd::assets
