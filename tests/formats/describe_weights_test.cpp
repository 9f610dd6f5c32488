#include "mmkd/formats/describe_weights.h"

#include <gtest/gtest.h>

#include <fstream>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;

const fs::path kTorchFiles = fs::path(MMKD_SOURCE_DIR) / "tests/formats/torch";

TEST(DescribeWeights, NamesTensorsOfEveryFileOfAFolder) {
  const test::TempFolder folder;
  const std::string header =
      R"({"__metadata__":{"note":"of a test"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  const std::uint64_t size = header.size();
  {
    std::ofstream file(folder / "a.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof(size));
    file << header << std::string(24, '\0');
  }
  fs::copy_file(kTorchFiles / "zip.pt", folder / "b.pt");
  const auto text = describe_weights(folder.path());
  EXPECT_NE(text.find("a.safetensors\n  note: of a test\n  w  F32   [2, 3]\n  1 tensors, 6 values"), std::string::npos)
      << text;
  EXPECT_NE(text.find("b.pt\n"), std::string::npos) << text;
  EXPECT_EQ(text.find(describe_weights(folder / "b.pt")), text.find((folder / "b.pt").string())) << text;
}

TEST(DescribeWeights, RefusesWhatHoldsNone) {
  const test::TempFolder folder;
  EXPECT_THROW(describe_weights(folder.path()), UsageError);
  EXPECT_THROW(describe_weights(folder / "none.safetensors"), UsageError);
  std::ofstream(folder / "a.txt") << "words";
  EXPECT_THROW(describe_weights(folder / "a.txt"), UsageError);
  std::ofstream(folder / "a.safetensors") << "words";
  EXPECT_THROW(describe_weights(folder / "a.safetensors"), Error);
}

}  // namespace
}  // namespace mmkd
