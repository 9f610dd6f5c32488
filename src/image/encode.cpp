#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "mmkd/base/error.h"
#include "mmkd/image/image.h"

namespace mmkd {

std::string encode_jpeg(const Image& image, int quality) {
  if (image.rgb.empty()) throw Error("an empty picture cannot be encoded");
  // OpenCV has no view of bytes that are not its own to change; it does not change these.
  const cv::Mat rgb(static_cast<int>(image.height), static_cast<int>(image.width), CV_8UC3,
                    const_cast<std::uint8_t*>(image.rgb.data()));
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<unsigned char> bytes;
  if (!cv::imencode(".jpg", bgr, bytes, {cv::IMWRITE_JPEG_QUALITY, quality}))
    throw Error("a picture of {} x {} pixels cannot be encoded as JPEG", image.width, image.height);
  return {bytes.begin(), bytes.end()};
}

}  // namespace mmkd
