#pragma once
#include <filesystem>
#include <string>

namespace mmkd {

/// A table for people: every tensor's name, type and shape, the totals, and what a safetensors file says about itself.
/// `place`: a .safetensors, .bin, .pth or .pt file, or a folder, which stands for all such files in it. Throws
/// UsageError for another place and for a folder without weights, Error for a damaged file.
std::string describe_weights(const std::filesystem::path& place);

}  // namespace mmkd
