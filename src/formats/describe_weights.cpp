#include "mmkd/formats/describe_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

#include "mmkd/base/error.h"
#include "mmkd/formats/safetensors.h"
#include "mmkd/formats/torch_file.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;

struct Described {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t elements() const {
    std::uint64_t product = 1;
    for (const auto size : shape) product *= static_cast<std::uint64_t>(size);
    return product;
  }
};

bool is_safetensors(const fs::path& file) { return file.extension() == ".safetensors"; }
bool is_weights(const fs::path& file) {
  const auto extension = file.extension();
  return is_safetensors(file) || extension == ".bin" || extension == ".pth" || extension == ".pt" ||
         extension == ".ckpt";
}

std::string metadata_text(const std::map<std::string, std::string>& metadata) {
  std::string text;
  constexpr std::size_t kLongest = 100;
  for (const auto& [key, value] : metadata) {
    if (key == "mmkd_model") {
      const auto json = nlohmann::json::parse(value, nullptr, false);
      if (json.is_object()) {
        std::string parts = json.value("modality", "?");
        for (const char* tower : {"vision", "text"}) {
          if (json.contains(tower) && json[tower].is_object())
            parts += fmt::format(", {} {}", tower, json[tower].value("name", "?"));
        }
        if (json.contains("fusion") && json["fusion"].is_object())
          parts += fmt::format(", fusion {}", json["fusion"].value("type", "?"));
        text += fmt::format("  {}: {}\n", key, parts);
        continue;
      }
    }
    text += fmt::format("  {}: {}{}\n", key, value.substr(0, kLongest), value.size() > kLongest ? "…" : "");
  }
  return text;
}

std::string table(const std::map<std::string, Described>& tensors) {
  std::size_t width = 0;
  std::uint64_t elements = 0, bytes = 0;
  for (const auto& [name, tensor] : tensors) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, tensor] : tensors) {
    text +=
        fmt::format("  {:<{}}  {:<4}  [{}]\n", name, width, mmkd::name(tensor.dtype), fmt::join(tensor.shape, ", "));
    elements += tensor.elements();
    bytes += tensor.elements() * size_of(tensor.dtype);
  }
  return text + fmt::format("  {} tensors, {} values, {:.1f} MB\n", tensors.size(), elements,
                            static_cast<double>(bytes) / 1e6);
}

std::string describe_file(const fs::path& file) {
  std::map<std::string, Described> tensors;
  std::string metadata;
  if (is_safetensors(file)) {
    const SafetensorsFile opened(file);
    for (const auto& [name, entry] : opened.header().tensors) tensors[name] = {entry.dtype, entry.shape};
    metadata = metadata_text(opened.header().metadata);
  } else {
    const TorchFile opened(file);
    for (const auto& [name, tensor] : opened.tensors()) tensors[name] = {tensor.dtype, tensor.shape};
  }
  return file.string() + "\n" + metadata + table(tensors);
}

}  // namespace

std::string describe_weights(const fs::path& place) {
  if (fs::is_regular_file(place)) {
    if (!is_weights(place))
      throw UsageError("{}: expected a file that ends in .safetensors, .bin, .pth, .pt or .ckpt", place.string());
    return describe_file(place);
  }
  if (!fs::is_directory(place)) throw UsageError("{}: not found", place.string());
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(place)) {
    if (entry.is_regular_file() && is_weights(entry.path())) files.push_back(entry.path());
  }
  if (files.empty()) throw UsageError("{}: holds no weights (.safetensors, .bin, .pth, .pt)", place.string());
  std::sort(files.begin(), files.end());
  std::string text;
  for (const auto& file : files) text += (text.empty() ? "" : "\n") + describe_file(file);
  return text;
}

}  // namespace mmkd
