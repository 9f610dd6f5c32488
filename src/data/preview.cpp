#include "mmkd/data/preview.h"

#include <algorithm>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <sstream>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/rng.h"
#include "mmkd/data/pack.h"

namespace mmkd {
namespace {

// Pixels.
constexpr int kPicture = 224, kMargin = 12, kLineHeight = 16, kTextLines = 4;
constexpr int kCellWidth = kPicture + 2 * kMargin;
constexpr double kFontScale = 0.38;
constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
const cv::Scalar kInk(32, 32, 32), kLabelInk(140, 60, 0);  // blue, green, red

/// What the font has.
std::string printable(const std::string& text) {
  std::string ascii;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte < 127) ascii += c;
    if (byte == '\n' || byte == '\t') ascii += ' ';
    if (byte >= 0xC0) ascii += '?';  // the first byte of a character of several
  }
  return ascii;
}

int width_of(const std::string& text) { return cv::getTextSize(text, kFont, kFontScale, 1, nullptr).width; }

std::string shortened(std::string text) {
  if (width_of(text) <= kPicture) return text;
  while (!text.empty() && width_of(fmt::format("{}...", text)) > kPicture) text.pop_back();
  return text + "...";
}

/// At most `lines` lines as wide as a picture; the last one ends in "..." where there is more.
std::vector<std::string> wrapped(const std::string& text, std::size_t lines) {
  std::vector<std::string> result(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    auto& line = result.back();
    if (line.empty() || width_of(fmt::format("{} {}", line, word)) <= kPicture) {
      line += (line.empty() ? "" : " ") + word;
    } else if (result.size() < lines) {
      result.push_back(word);
    } else {
      line += " " + word;  // too long: it is shortened below
      break;
    }
  }
  for (auto& line : result) line = shortened(line);
  return result;
}

cv::Mat picture_of(const Sample& sample, const ImagePolicy& policy) {
  const auto encoded = read_file(sample.image);
  auto image = apply_policy(decode_image(std::as_bytes(std::span(encoded)), sample.image.string()), policy);
  const double scale = static_cast<double>(kPicture) / static_cast<double>(std::max(image.height, image.width));
  const auto scaled = [&](std::int64_t size) {
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(size) * scale));
  };
  image = resize(image, scaled(image.height), scaled(image.width), scale > 1 ? Resample::nearest : Resample::bilinear);
  const cv::Mat rgb(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3, image.rgb.data());
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  return bgr;
}

class Sheet {
 public:
  Sheet(int count, int columns, int label_lines)
      : columns_(columns), cell_height_(kPicture + 2 * kMargin + kLineHeight * (1 + label_lines + kTextLines)) {
    const int rows = (count + columns - 1) / columns;
    canvas_ = cv::Mat(rows * cell_height_, columns * kCellWidth, CV_8UC3, cv::Scalar::all(255));
  }

  void draw(int cell, const Sample& sample, const cv::Mat& picture, const std::vector<std::string>& labels) {
    const int x = cell % columns_ * kCellWidth + kMargin;
    const int y = cell / columns_ * cell_height_ + kMargin;
    picture.copyTo(canvas_(cv::Rect(x, y, picture.cols, picture.rows)));
    int line = y + kPicture + kLineHeight;
    const auto write = [&](const std::string& text, const cv::Scalar& ink) {
      cv::putText(canvas_, text, {x, line}, kFont, kFontScale, ink, 1, cv::LINE_AA);
      line += kLineHeight;
    };
    write(shortened(printable(sample.id)), kInk);
    for (const auto& label : labels) write(shortened(printable(label)), kLabelInk);
    for (const auto& text : wrapped(printable(sample.text), kTextLines)) write(text, kInk);
  }

  void save(const fs::path& file) const {
    std::vector<unsigned char> bytes;
    if (!cv::imencode(".png", canvas_, bytes)) throw Error("{}: cannot be encoded", file.string());
    write_file_atomic(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

 private:
  int columns_, cell_height_;
  cv::Mat canvas_;
};

}  // namespace

void write_preview(const Config& config, const PreviewOptions& options) {
  if (options.output.extension() != ".png")
    throw UsageError("{}: expected a name that ends in .png", options.output.string());
  const auto policy = resolve_pack_inputs(config).policies[1];
  const auto samples = read_split(config.data, options.split);
  if (samples.empty()) throw UsageError("the {} split is empty", name(options.split));
  KeyedRng rng(static_cast<std::uint64_t>(options.seed), RngPurpose::split);
  auto chosen = rng.permutation(static_cast<std::uint32_t>(samples.size()));
  chosen.resize(std::min(chosen.size(), static_cast<std::size_t>(options.samples)));
  std::sort(chosen.begin(), chosen.end());  // the order of the table
  const auto tasks = resolved_tasks(config.data);
  const int count = static_cast<int>(chosen.size());
  Sheet sheet(count, std::min(count, static_cast<int>(options.columns)), static_cast<int>(tasks.size()));
  for (int i = 0; i < count; ++i) {
    const auto& sample = samples[chosen[static_cast<std::size_t>(i)]];
    std::vector<std::string> labels;
    for (std::size_t t = 0; t < tasks.size(); ++t) labels.push_back(tasks[t].label + ": " + sample.labels[t]);
    sheet.draw(i, sample, picture_of(sample, policy), labels);
  }
  sheet.save(options.output);
}

}  // namespace mmkd
