#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

// Which files make up a checkpoint; the weights themselves are not opened.
namespace mmkd {

/// The file or index that `path` stands for: itself, or of a folder the first there is of model.safetensors, its index,
/// pytorch_model.bin, its index. Throws Error if there is none.
std::filesystem::path weight_file(const std::filesystem::path& path);

/// Is the file an index that lists shards?
bool is_weight_index(const std::filesystem::path& file);

/// Tensor name -> file. Throws Error for an index that is malformed, empty, or names files outside its folder.
std::map<std::string, std::filesystem::path> read_weight_index(const std::filesystem::path& index);

/// Every file that `path` stands for: one file, or an index and its shards.
std::vector<std::filesystem::path> weight_files(const std::filesystem::path& path);

}  // namespace mmkd
