#include <gtest/gtest.h>

#include <cmath>

#include "mmkd/base/error.h"
#include "tests/image/pictures.h"

namespace mmkd::test {
namespace {

using HeightWidth = std::array<std::int64_t, 2>;
using Channels = std::array<double, 3>;

ImagePolicy parse(std::string_view json) { return parse_image_policy(json, "preprocessor_config.json"); }

ImagePolicy of_case(std::string_view folder) {
  return read_image_policy(std::string(MMKD_SOURCE_DIR) + "/tests/parity/cases/" + std::string(folder) +
                           "/preprocessor_config.json");
}

std::string parse_error(std::string_view json) {
  try {
    parse(json);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(ImagePolicy, ReadsViT) {
  const auto policy = of_case("image-no-normalize");
  EXPECT_EQ(policy.output_size(), (HeightWidth{32, 32}));
  EXPECT_EQ(policy.resample, Resample::bilinear);
  EXPECT_TRUE(policy.do_resize);
  EXPECT_TRUE(policy.do_rescale);
  EXPECT_FALSE(policy.do_normalize);
  EXPECT_FALSE(policy.do_center_crop);
  EXPECT_FALSE(policy.bgr);
}

TEST(ImagePolicy, ReadsDeiT) {
  const auto policy = of_case("image-jpeg-420-progressive");
  EXPECT_EQ(policy.height, 64);
  EXPECT_EQ(policy.width, 64);
  EXPECT_EQ(policy.resample, Resample::bicubic);
  EXPECT_TRUE(policy.do_center_crop);
  EXPECT_EQ(policy.output_size(), (HeightWidth{56, 56}));
}

TEST(ImagePolicy, ReadsMobileViT) {
  const auto policy = of_case("image-medpix-large-mobilevit");
  EXPECT_EQ(policy.shortest_edge, 72);
  EXPECT_EQ(policy.output_size(), (HeightWidth{64, 64}));
  EXPECT_TRUE(policy.bgr);
  EXPECT_FALSE(policy.do_normalize);
}

TEST(ImagePolicy, ReadsMobileNetV2) {
  const auto policy = of_case("image-medpix-mobilenet");
  EXPECT_EQ(policy.shortest_edge, 50);
  EXPECT_EQ(policy.output_size(), (HeightWidth{45, 45}));
  EXPECT_TRUE(policy.do_normalize);
}

TEST(ImagePolicy, ReadsTheOlderSpellings) {
  const auto vit = parse(R"({"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2})");
  EXPECT_EQ(vit.output_size(), (HeightWidth{224, 224}));
  const auto deit = parse(R"({"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224,
      "do_center_crop": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3})");
  EXPECT_EQ(deit.height, 256);
  EXPECT_EQ(deit.output_size(), (HeightWidth{224, 224}));
  EXPECT_EQ(deit.mean, (Channels{0.485, 0.456, 0.406}));
  EXPECT_EQ(deit.std, (Channels{0.229, 0.224, 0.225}));
  const auto mobilevit = parse(R"({"feature_extractor_type": "MobileViTFeatureExtractor", "size": 288, "crop_size": 256,
      "do_center_crop": true, "do_flip_channels": true, "do_resize": true, "resample": 2})");
  EXPECT_EQ(mobilevit.shortest_edge, 288);
  EXPECT_EQ(mobilevit.output_size(), (HeightWidth{256, 256}));
  EXPECT_TRUE(mobilevit.bgr);
}

TEST(ImagePolicy, TakesTheDefaultsOfTheProcessorsClass) {
  const auto vit = parse(R"({"image_processor_type": "ViTImageProcessorFast"})");
  EXPECT_EQ(vit.pixel_key(), vit_policy(224).pixel_key());
  EXPECT_EQ(vit.mean, (Channels{0.5, 0.5, 0.5}));
  EXPECT_TRUE(vit.do_normalize);
  const auto deit =
      parse(R"({"image_processor_type": "DeiTImageProcessor", "crop_size": null, "do_center_crop": null})");
  EXPECT_EQ(deit.height, 256);
  EXPECT_EQ(deit.resample, Resample::bicubic);
  EXPECT_EQ(deit.output_size(), (HeightWidth{224, 224}));
  const auto mobilenet = parse(R"({"image_processor_type": "MobileNetV2ImageProcessor"})");
  EXPECT_EQ(mobilenet.shortest_edge, 256);
  EXPECT_EQ(mobilenet.resample, Resample::bilinear);
  EXPECT_EQ(mobilenet.output_size(), (HeightWidth{224, 224}));
}

TEST(ImagePolicy, LetsMobileNetV2HaveAnExactSize) {
  const auto policy = of_case("vision-mobilenet-v2/model");
  EXPECT_EQ(policy.shortest_edge, 0);
  EXPECT_EQ(policy.height, 64);
}

TEST(ImagePolicy, NeverNormalisesForMobileViT) {
  EXPECT_FALSE(parse(R"({"image_processor_type": "MobileViTImageProcessor", "resample": 2, "do_normalize": true})")
                   .do_normalize);
}

TEST(ImagePolicy, RejectsWhatItDoesNotKnow) {
  EXPECT_TRUE(contains(parse_error(R"({"image_processor_type": "CLIPImageProcessor"})"), "CLIPImageProcessor"));
  EXPECT_TRUE(contains(parse_error(R"({"size": 224})"), "image_processor_type"));
  EXPECT_TRUE(contains(parse_error("[1]"), "JSON object"));
  EXPECT_TRUE(contains(parse_error("{\"size\": "), "not valid JSON"));
  const auto vit_error = [](const std::string& field) {
    return parse_error(R"({"image_processor_type": "ViTImageProcessor", )" + field + "}");
  };
  EXPECT_TRUE(contains(vit_error(R"("resample": 6)"), "resample is 6"));
  EXPECT_TRUE(contains(vit_error(R"("resample": -1)"), "resample is -1"));
  EXPECT_TRUE(contains(vit_error(R"("resample": "bilinear")"), "5 (hamming)"));
  EXPECT_TRUE(contains(vit_error(R"("size": {"longest_edge": 9})"), "shortest_edge"));
  EXPECT_TRUE(contains(vit_error(R"("size": 0)"), "size is 0"));
  EXPECT_TRUE(contains(vit_error(R"("size": 1e30)"), "size"));
  EXPECT_TRUE(contains(vit_error(R"("size": 1e400)"), "not valid JSON"));
  EXPECT_TRUE(contains(vit_error(R"("size": {"height": 9, "width": 16385})"), "16385"));
  EXPECT_TRUE(contains(vit_error(R"("do_resize": "yes")"), "true or false"));
  EXPECT_TRUE(contains(vit_error(R"("do_center_crop": true)"), "crop_size is missing"));
  EXPECT_TRUE(contains(vit_error(R"("do_pad": true)"), "do_pad"));
  EXPECT_TRUE(contains(vit_error(R"("do_flip_channel_order": true)"), "do_flip_channel_order"));
  EXPECT_TRUE(contains(vit_error(R"("rescale_factor": 0)"), "positive"));
  EXPECT_TRUE(contains(vit_error(R"("image_mean": [0.5, 0.5])"), "image_mean"));
  EXPECT_TRUE(contains(vit_error(R"("image_std": [0.5, 0, 0.5])"), "image_std"));
  EXPECT_TRUE(contains(parse_error(R"({"image_processor_type": "MobileViTImageProcessor"})"), "resample"));
}

TEST(ImagePolicy, AllowsUnknownStepsThatAreOff) {
  EXPECT_EQ(parse_error(R"({"image_processor_type": "ViTImageProcessor", "do_pad": false, "do_convert_rgb": true,
      "_valid_processor_keys": []})"),
            "");
}

TEST(ImagePolicy, NamesTheFileThatIsMissing) {
  try {
    read_image_policy("/nowhere/preprocessor_config.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(contains(error.what(), "/nowhere/preprocessor_config.json"));
  }
}

TEST(ImagePolicy, HasNoSizeWhereItDependsOnThePicture) {
  ImagePolicy policy;
  policy.shortest_edge = 224;
  EXPECT_THROW(policy.output_size(), Error);
  policy.shortest_edge = 0;
  policy.do_resize = false;
  EXPECT_THROW(policy.output_size(), Error);
}

TEST(ImagePolicy, KeysWhatChangesTheStoredPixelsAndNothingElse) {
  ImagePolicy policy = vit_policy(224);
  EXPECT_EQ(policy.pixel_key(), R"({"crop":null,"resample":2,"resize":[224,224]})");
  ImagePolicy other = policy;
  other.mean = {0.1, 0.2, 0.3};
  other.do_normalize = false;
  other.bgr = true;
  EXPECT_EQ(other.pixel_key(), policy.pixel_key());
  other.resample = Resample::bicubic;
  EXPECT_NE(other.pixel_key(), policy.pixel_key());

  policy.do_center_crop = true;
  policy.crop_height = 200, policy.crop_width = 210;
  EXPECT_EQ(policy.pixel_key(), R"({"crop":[200,210],"resample":2,"resize":[224,224]})");
  policy.crop_height = policy.crop_width = 224;  // changes nothing
  EXPECT_EQ(policy.pixel_key(), vit_policy(224).pixel_key());
  policy.shortest_edge = 256;
  EXPECT_EQ(policy.pixel_key(), R"({"crop":[224,224],"resample":2,"resize":256})");
  policy.do_resize = false;
  EXPECT_EQ(policy.pixel_key(), R"({"crop":[224,224],"resize":null})");
}

TEST(PixelTable, RoundsAsNumpyDoes) {
  ImagePolicy policy;
  policy.rescale_factor = 0.00392156862745098;
  policy.mean = {0.485, 0.5, 0.5};
  policy.std = {0.229, 0.5, 0.5};
  const PixelTable table = pixel_table(policy);
  // ((np.float64(b) * rescale_factor).astype(np.float32) - np.float32(mean)) / np.float32(std), numpy 2.4.6
  EXPECT_EQ(table[0][0], -2.1179039478302F);
  EXPECT_EQ(table[0][1], -2.1007792949676514F);
  EXPECT_EQ(table[0][127], 0.0569397434592247F);
  EXPECT_EQ(table[0][255], 2.248908281326294F);
  EXPECT_EQ(table[1][0], -1.0F);
  EXPECT_EQ(table[1][1], -0.9921568632125854F);
  EXPECT_EQ(table[2][128], 0.003921627998352051F);
  EXPECT_EQ(table[2][255], 1.0F);
}

TEST(PixelTable, LeavesOutTheStepsThatAreOff) {
  ImagePolicy policy;
  policy.do_normalize = false;
  EXPECT_EQ(pixel_table(policy)[1][51], 0.2F);
  policy.do_rescale = false;
  for (std::size_t b = 0; b < 256; ++b) EXPECT_EQ(pixel_table(policy)[2][b], static_cast<float>(b));
}

}  // namespace
}  // namespace mmkd::test
