#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <opencv2/imgcodecs.hpp>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/rng.h"
#include "mmkd/data/pack.h"

// The demo set: a picture shows a shape, its caption names a site among other words. Each task can be told from one of
// the two alone, so that a model must read both.
namespace mmkd {
namespace {

constexpr int kSize = 64;
constexpr std::array<const char*, 4> kShapes{"circle", "cross", "square", "triangle"};
constexpr std::array<const char*, 5> kSites{"abdomen", "ankle", "elbow", "neck", "wrist"};
constexpr std::array<const char*, 4> kOpenings{"Picture of the", "Finding at the",
                                               "Follow-up image, site:", "Patient presents with a mark on the"};
constexpr std::array<const char*, 4> kEndings{"taken in daylight.", "no prior study.", "compared with last week.",
                                              "slightly blurred."};

/// Is the point (x, y), relative to the shape's centre and in units of its size, inside the shape?
bool inside(std::size_t shape, double x, double y) {
  switch (shape) {
    case 0:
      return x * x + y * y < 1;
    case 1:
      return (std::abs(x) < 0.3 && std::abs(y) < 1) || (std::abs(y) < 0.3 && std::abs(x) < 1);
    case 2:
      return std::abs(x) < 0.85 && std::abs(y) < 0.85;
    default:
      return y < 0.8 && y > -1 + 2 * std::abs(x);
  }
}

std::string picture(std::size_t shape, KeyedRng& rng) {
  const double centre_x = 27 + 10 * rng.uniform();
  const double centre_y = 27 + 10 * rng.uniform();
  const double size = 16 + 6 * rng.uniform();
  std::array<double, 3> ground{};
  std::array<double, 3> mark{};
  for (std::size_t c = 0; c < 3; ++c) {
    ground[c] = 50 + 50 * rng.uniform();
    mark[c] = ground[c] + 90;
  }
  cv::Mat image(kSize, kSize, CV_8UC3);
  for (int y = 0; y < kSize; ++y) {
    for (int x = 0; x < kSize; ++x) {
      const bool marked = inside(shape, (x - centre_x) / size, (y - centre_y) / size);
      for (int c = 0; c < 3; ++c) {
        const double level = (marked ? mark : ground)[static_cast<std::size_t>(c)] + 8 * rng.normal();
        image.at<cv::Vec3b>(y, x)[c] = static_cast<unsigned char>(std::clamp(level, 0.0, 255.0));
      }
    }
  }
  std::vector<unsigned char> bytes;
  if (!cv::imencode(".png", image, bytes)) throw Error("demo data: a picture cannot be encoded as PNG");
  return {bytes.begin(), bytes.end()};
}

template <std::size_t n>
const char* pick(const std::array<const char*, n>& words, KeyedRng& rng) {
  return words[rng.below(n)];
}

void write_split(const fs::path& folder, Split split, std::uint64_t samples) {
  std::string table;
  make_folder(folder / "images");
  for (std::uint64_t i = 0; i < samples; ++i) {
    KeyedRng rng(1, RngPurpose::demo, {static_cast<std::uint64_t>(split), i});
    const auto shape = rng.below(kShapes.size());
    const auto site = rng.below(kSites.size());
    const std::string id = fmt::format("{}-{:04}", name(split), i);
    const std::string image = "images/" + id + ".png";
    // The folder around it is flushed and renamed as a whole.
    std::ofstream file(folder / image, std::ios::binary);
    if (!(file << picture(shape, rng)).flush()) throw Error("{}: cannot be written", (folder / image).string());
    const nlohmann::ordered_json row{
        {"id", id},
        {"image", image},
        {"text", fmt::format("{} {}, {}", pick(kOpenings, rng), kSites[site], pick(kEndings, rng))},
        {"shape", kShapes[shape]},
        {"site", kSites[site]}};
    table += row.dump() + "\n";
  }
  write_file_atomic(folder / fmt::format("{}.jsonl", name(split)), table);
}

}  // namespace

void write_demo_data(const fs::path& folder) {
  if (fs::exists(folder / "train.jsonl")) return;
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder))) {
    throw UsageError("{}: exists and is no demo data set; name a folder that is new or empty", folder.string());
  }
  AtomicFolder building(folder);
  write_split(building.path(), Split::train, 600);
  write_split(building.path(), Split::dev, 150);
  write_split(building.path(), Split::test, 150);
  std::move(building).commit();
}

}  // namespace mmkd
