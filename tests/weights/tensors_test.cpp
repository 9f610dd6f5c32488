#include "mmkd/weights/tensors.h"

#include <gtest/gtest.h>

#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"
#include "tests/weights/support.h"

namespace mmkd {
namespace {

TEST(Tensors, OfEveryTypeComeBackEqual) {
  const test::TempFolder folder;
  const at::ScalarType types[] = {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong,
                                  at::kInt,    at::kShort, at::kChar, at::kByte,     at::kBool};
  std::vector<NamedTensor> tensors;
  for (const auto type : types) tensors.push_back({c10::toString(type), test::counting({2, 3}).to(type)});
  save_tensors(folder / "x.safetensors", tensors);
  const auto loaded = load_tensors(folder / "x.safetensors");
  ASSERT_EQ(loaded.size(), std::size(types));
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(loaded.at(name).scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(loaded.at(name).equal(tensor)) << name;
  }
}

TEST(Tensors, AreSavedAsTheyLookWhateverTheirStrides) {
  const test::TempFolder folder;
  const at::Tensor whole = test::counting({4, 6});
  const std::vector<NamedTensor> tensors{
      {"transposed", whole.t()}, {"rows", whole.narrow(0, 1, 2)}, {"expanded", whole[0].expand({3, 6})}};
  save_tensors(folder / "x.safetensors", tensors);
  const auto loaded = load_tensors(folder / "x.safetensors");
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(loaded.at(name).equal(tensor)) << name;
}

TEST(Tensors, WithoutDimensionsOrElementsKeepTheirShape) {
  const test::TempFolder folder;
  save_tensors(folder / "x.safetensors",
               std::vector<NamedTensor>{{"scalar", at::tensor(2.5f).squeeze()}, {"none", at::zeros({0, 3})}});
  const auto loaded = load_tensors(folder / "x.safetensors");
  EXPECT_EQ(loaded.at("scalar").dim(), 0);
  EXPECT_EQ(loaded.at("scalar").item<float>(), 2.5f);
  EXPECT_EQ(loaded.at("none").sizes(), (std::vector<std::int64_t>{0, 3}));
}

TEST(Tensors, OutliveTheOpenFileAndItsName) {
  const test::TempFolder folder;
  save_tensors(folder / "x.safetensors", std::vector<NamedTensor>{{"a", test::counting({5})}});
  const at::Tensor loaded = load_tensors(folder / "x.safetensors").at("a");
  fs::remove(folder / "x.safetensors");
  EXPECT_TRUE(loaded.equal(test::counting({5})));
}

TEST(Tensors, CanBeWrittenToWithoutChangingTheFile) {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  save_tensors(path, std::vector<NamedTensor>{{"a", test::counting({5})}});
  const std::string before = read_file(path);
  load_tensors(path).at("a").fill_(7);
  EXPECT_EQ(read_file(path), before);
}

TEST(Tensors, ThatTheFileDoesNotAlignAreRead) {
  const test::TempFolder folder;
  save_tensors(folder / "x.safetensors",
               std::vector<NamedTensor>{{"byte", at::ones({1}, at::kByte)}, {"floats", test::counting({3}, 0.5)}});
  EXPECT_TRUE(load_tensors(folder / "x.safetensors").at("floats").equal(test::counting({3}, 0.5)));
}

TEST(Tensors, OfTypesThatCannotBeStoredAreRefused) {
  const test::TempFolder folder;
  const std::vector<NamedTensor> complex{{"z", at::zeros({2}, at::kComplexFloat)}};
  EXPECT_TRUE(
      test::contains(test::message_of([&] { save_tensors(folder / "x.safetensors", complex); }), "ComplexFloat"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace mmkd
