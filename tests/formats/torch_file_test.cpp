#include "mmkd/formats/torch_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/formats/pickle.h"
#include "tests/support/temp_folder.h"

// Files of the real torch.save(): tests/formats/torch/generate.py.
namespace mmkd {
namespace {

fs::path fixture(const std::string& name) { return fs::path(MMKD_SOURCE_DIR) / "tests/formats/torch" / name; }

template <class T>
std::vector<T> values(const TorchFile& file, const std::string& name) {
  const auto bytes = file.read(name);
  std::vector<T> result(bytes.size() / sizeof(T));
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::string error_of_bytes(std::string_view text) {
  return error_of([&] { TorchFile(std::as_bytes(std::span(text)), "input"); });
}

class TorchFiles : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchFiles, HaveEveryTensorInRowMajorOrder) {
  const TorchFile file(fixture(GetParam()));
  const auto& tensors = file.tensors();
  EXPECT_EQ(tensors.size(), 12U);
  EXPECT_EQ(values<float>(file, "plain"), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(values<float>(file, "transposed"), (std::vector<float>{0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11}));
  EXPECT_EQ(tensors.at("transposed").shape, (std::vector<std::int64_t>{4, 3}));
  EXPECT_EQ(values<float>(file, "column"), (std::vector<float>{1, 5, 9}));
  EXPECT_EQ(values<float>(file, "parameter"), (std::vector<float>{1.5, -2}));
  EXPECT_EQ(values<float>(file, "first"), (std::vector<float>{0, 1}));
  EXPECT_EQ(values<float>(file, "rest"), (std::vector<float>{2, 3, 4, 5}));
  EXPECT_EQ(values<std::uint16_t>(file, "half"), (std::vector<std::uint16_t>{0x3800, 0x4000}));
  EXPECT_EQ(tensors.at("half").dtype, DType::f16);
  EXPECT_EQ(values<std::uint16_t>(file, "brain"), (std::vector<std::uint16_t>{0x3F00, 0x4040}));
  EXPECT_EQ(tensors.at("brain").dtype, DType::bf16);
  EXPECT_EQ(values<double>(file, "double"), std::vector<double>{2.5});
  EXPECT_TRUE(tensors.at("double").shape.empty());
  EXPECT_EQ(values<std::int64_t>(file, "long"), (std::vector<std::int64_t>{1, -2, 3}));
  EXPECT_EQ(values<std::uint8_t>(file, "flag"), (std::vector<std::uint8_t>{1, 0}));
  EXPECT_TRUE(file.read("empty").empty());
  EXPECT_NE(error_of([&] { (void)file.read("none"); }).find("holds no tensor 'none'"), std::string::npos);
}

TEST_P(TorchFiles, WithAnyChangedByteAreRefusedOrGiveOtherValuesNeverCrash) {
  const auto whole = read_file(fixture(GetParam()));
  int refused = 0, looked = 0;
  for (std::size_t at = 0; at < whole.size(); at += 7, ++looked) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x41);
    if (!error_of([&] {
           const TorchFile file(std::as_bytes(std::span(std::string_view(changed))), "changed");
           for (const auto& [name, tensor] : file.tensors()) (void)file.read(name);
         }).empty()) {
      ++refused;
    }
  }
  EXPECT_GT(refused, looked / 10);
}

TEST_P(TorchFiles, ThatAreCutAnywhereAreRefused) {
  const auto whole = read_file(fixture(GetParam()));
  for (std::size_t size = 0; size < whole.size(); size += 11)
    EXPECT_NE(error_of_bytes(std::string_view(whole).substr(0, size)), "") << size;
}

INSTANTIATE_TEST_SUITE_P(Formats, TorchFiles, ::testing::Values("zip.pt", "legacy.pt", "nested.pt"),
                         [](const auto& file) {
                           return std::string(file.param).substr(0, std::strlen(file.param) - 3);
                         });

TEST(TorchFile, OfTheZipFormatHasEveryDataByteUnderACrc) {
  const auto whole = read_file(fixture("zip.pt"));
  const auto at = whole.find(std::string("\x00\x00\x80\x3f\x00\x00\x00\x40", 8));  // 1.0, 2.0 of the first tensor
  ASSERT_NE(at, std::string::npos);
  for (const int bit : {0, 3, 7}) {
    std::string changed = whole;
    changed[at + 2] = static_cast<char>(changed[at + 2] ^ (1 << bit));
    const TorchFile file(std::as_bytes(std::span(std::string_view(changed))), "changed");
    EXPECT_NE(error_of([&] { (void)file.read("plain"); }).find("damaged"), std::string::npos);
  }
}

TEST(TorchFile, WithoutTensorsOrWithAnObjectIsRefused) {
  EXPECT_NE(error_of([] { TorchFile file(fixture("no_tensors.pt")); }).find("holds no tensors"), std::string::npos);
  const auto object = error_of([] { TorchFile file(fixture("object.pt")); });
  EXPECT_NE(object.find("is not that of a plain checkpoint"), std::string::npos) << object;
  EXPECT_NE(error_of_bytes("neither").find("was not written by torch.save()"), std::string::npos);
}

std::string error_of_pickle(const std::string& text) {
  return error_of([&] { Pickle(std::as_bytes(std::span(std::string_view(text))), "input"); });
}

TEST(Pickle, CallsNothing) {
  // os.system("true"), as pickle.dumps() of an object with __reduce__ would write it.
  const auto plain = error_of_pickle(std::string("cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", 26));
  EXPECT_NE(plain.find("it wants to call posix.system"), std::string::npos) << plain;
}

TEST(Pickle, RefusesWhatIsMalformed) {
  for (const char* text : {"", "(", ".", "0.", "t.", "u.", "a.", "s.", "R.", "b.", "h\x01.", "X\xff\xff\xff\x7f",
                           "\xfe.", "(((((.", "cmodule", "]]a", "N(K\x01u."})
    EXPECT_NE(error_of_pickle(text), "") << text;
}

TEST(Pickle, TakesValuesThatReferToThemselves) {
  const std::string text(
      "]q\x00h\x00"
      "a.",
      7);  // a list that holds itself
  const Pickle pickle(std::as_bytes(std::span(std::string_view(text))), "input");
  EXPECT_EQ(pickle.root().as<PickleList>()->items.front(), &pickle.root());
  EXPECT_EQ(pickle.size(), text.size());
}

}  // namespace
}  // namespace mmkd
