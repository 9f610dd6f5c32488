#include "mmkd/formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/base/hash.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Length, header, data: a safetensors file whatever the header says.
std::string container(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
  return bytes + header + data;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(as_bytes(file), file.size(), "f.safetensors");
}

/// The message of the Error that parsing must end in; "" when it ends in none.
std::string error_of(const std::string& header, const std::string& data) {
  try {
    parse(container(header, data));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

#define EXPECT_ERROR_ABOUT(text, header, data)                                  \
  do {                                                                          \
    const std::string message = error_of(header, data);                         \
    EXPECT_NE(message.find(text), std::string::npos) << "message: " << message; \
    EXPECT_EQ(message.rfind("f.safetensors: ", 0), 0u) << message;              \
  } while (false)

const std::string kEightBytes(8, 'x');

TEST(SafetensorsHeader, GivesShapesTypesAndOffsetsInTheFile) {
  const std::string header = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]},)"
                             R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}  )";
  const auto parsed = parse(container(header, std::string(16, '\0')));
  ASSERT_EQ(parsed.tensors.size(), 2u);
  const auto& a = parsed.tensors.at("a");
  EXPECT_EQ(a.dtype, DType::f32);
  EXPECT_EQ(a.shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(a.begin, 8 + header.size());
  EXPECT_EQ(a.end, 16 + header.size());
  const auto& b = parsed.tensors.at("b");
  EXPECT_EQ(b.dtype, DType::i64);
  EXPECT_TRUE(b.shape.empty());
  EXPECT_EQ(b.end, 24 + header.size());
  EXPECT_EQ(parsed.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST(SafetensorsHeader, AcceptsAFileWithoutTensors) { EXPECT_TRUE(parse(container("{}", "")).tensors.empty()); }

TEST(SafetensorsHeader, AcceptsEmptyTensorsBetweenOthers) {
  const auto parsed =
      parse(container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("none":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[4,4]},)"
                      R"("z":{"dtype":"I8","shape":[4],"data_offsets":[4,8]}})",
                      kEightBytes));
  EXPECT_EQ(parsed.tensors.size(), 3u);
}

TEST(SafetensorsHeader, RefusesDuplicateTensors) {
  EXPECT_ERROR_ABOUT("two tensors are named 'a'",
                     R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                     R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesDuplicateKeysOfATensor) {
  EXPECT_ERROR_ABOUT("'shape' twice", R"({"a":{"dtype":"U8","shape":[4],"shape":[8],"data_offsets":[0,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesUnknownTypes) {
  EXPECT_ERROR_ABOUT("unknown type 'F8_E4M3'", R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesMissingAndUnknownKeys) {
  EXPECT_ERROR_ABOUT("'a' has no dtype", R"({"a":{"shape":[8],"data_offsets":[0,8]}})", kEightBytes);
  EXPECT_ERROR_ABOUT("'a' has no shape", R"({"a":{"dtype":"U8","data_offsets":[0,8]}})", kEightBytes);
  EXPECT_ERROR_ABOUT("'a' has no data_offsets", R"({"a":{"dtype":"U8","shape":[8]}})", kEightBytes);
  EXPECT_ERROR_ABOUT("not expected", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"more":"x"}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesValuesOfTheWrongKind) {
  for (const char* value :
       {"null", "true", "1", "-1", "1.5", "\"x\"", "[]", "[[1]]", "[-8]", "[8.0]", "[\"8\"]", "{}"}) {
    const std::string shape = fmt::format(R"({{"a":{{"dtype":"U8","shape":{},"data_offsets":[0,8]}}}})", value);
    EXPECT_NE(error_of(shape, kEightBytes), "") << shape;
    const std::string offsets = fmt::format(R"({{"a":{{"dtype":"U8","shape":[8],"data_offsets":{}}}}})", value);
    EXPECT_NE(error_of(offsets, kEightBytes), "") << offsets;
  }
  for (const char* value : {"null", "1", "[]", "{}"}) {
    const std::string metadata = fmt::format(R"({{"__metadata__":{{"k":{}}}}})", value);
    EXPECT_NE(error_of(metadata, ""), "") << metadata;
  }
  EXPECT_NE(error_of(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}})", kEightBytes), "");
  EXPECT_NE(error_of(R"({"a":5})", ""), "");
}

TEST(SafetensorsHeader, RefusesSizesThatDoNotFitTheShape) {
  EXPECT_ERROR_ABOUT("does not fill the 8 bytes", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesShapesWhoseSizeOverflows) {
  // 2^32 * 2^32 * 1 byte wraps to 0, and 2^63 / 8 + 1 elements of 8 bytes wrap to 8.
  EXPECT_ERROR_ABOUT("does not fill", R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                     "");
  EXPECT_ERROR_ABOUT("does not fill", R"({"a":{"dtype":"I64","shape":[2305843009213693953],"data_offsets":[0,8]}})",
                     kEightBytes);
  EXPECT_ERROR_ABOUT("too large", R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesHoles) {
  EXPECT_ERROR_ABOUT("hole", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", kEightBytes);
  EXPECT_ERROR_ABOUT("hole",
                     R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesOverlaps) {
  EXPECT_ERROR_ABOUT("overlap",
                     R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},)"
                     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                     kEightBytes);
}

TEST(SafetensorsHeader, RefusesDataThatEndsBeforeOrAfterTheFile) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})";
  EXPECT_EQ(error_of(header, kEightBytes), "");
  EXPECT_ERROR_ABOUT("truncated", header, kEightBytes.substr(1));
  EXPECT_ERROR_ABOUT("end at data byte 8, the file holds 9", header, kEightBytes + "x");
}

TEST(SafetensorsHeader, RefusesReversedOffsets) {
  EXPECT_NE(error_of(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[8,0]}})", kEightBytes), "");
}

TEST(SafetensorsHeader, RefusesAHeaderOverOneHundredMegabytes) {
  std::string file(16, ' ');
  const std::uint64_t length = 100'000'001;
  std::memcpy(file.data(), &length, sizeof length);
  EXPECT_THROW(parse(file), Error);
  const std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
  std::memcpy(file.data(), &largest, sizeof largest);
  EXPECT_THROW(parse(file), Error);
}

TEST(SafetensorsHeader, RefusesWhatIsNoJsonObject) {
  for (const char* header : {"", " {}", "[]", "{", "{}x", "{\"a\":}", "null", "{\"\xff\":1}"}) {
    EXPECT_NE(error_of(header, ""), "") << header;
  }
  EXPECT_ERROR_ABOUT("NUL byte", std::string("{}\0junk", 7), "");
}

TEST(SafetensorsHeader, KeepsErrorsShortWhereNamesAreLong) {
  const std::string name(1'000'000, 'n');
  for (const std::string& header :
       {"{\"" + name + "\":5}", "{\"" + name, "{\"" + name + R"(":{"dtype":"U8","shape":[3],"data_offsets":[0,8]}})"}) {
    const std::string message = error_of(header, kEightBytes);
    EXPECT_NE(message, "");
    EXPECT_LT(message.size(), 1000u);
  }
}

TEST(SafetensorsHeader, RefusesDeepNestingWithoutUsingMemory) {
  EXPECT_NE(error_of("{\"a\":" + std::string(1'000'000, '['), ""), "");
  std::string objects = "{";
  for (int i = 0; i < 100'000; ++i) objects += "\"a\":{";
  EXPECT_NE(error_of(objects, ""), "");
}

class SafetensorsFiles : public ::testing::Test {
 protected:
  /// Three tensors, one of a single byte so that what follows is not aligned.
  std::string small_file() {
    const std::vector<float> weight{1.0f, -2.5f, 3.25f, 0.0f, 5.0f, 6.0f};
    const std::vector<std::uint8_t> flag{7};
    const std::vector<std::int64_t> ids{-1, 1'000'000'000'000};
    const std::vector<NamedBytes> tensors{{"weight", DType::f32, {2, 3}, std::as_bytes(std::span(weight))},
                                          {"flag", DType::u8, {}, std::as_bytes(std::span(flag))},
                                          {"ids", DType::i64, {2}, std::as_bytes(std::span(ids))}};
    write_safetensors(path(), tensors, {{"format", "pt"}});
    return read_file(path());
  }
  fs::path path() const { return folder_ / "small.safetensors"; }
  void write(const std::string& bytes) { std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes; }

  test::TempFolder folder_;
};

TEST_F(SafetensorsFiles, GiveBackWhatWasWritten) {
  small_file();
  const SafetensorsFile file(path());
  EXPECT_EQ(file.header().tensors.size(), 3u);
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  EXPECT_EQ(file.entry("weight").shape, (std::vector<std::int64_t>{2, 3}));
  float weight[6];
  ASSERT_EQ(file.bytes("weight").size(), sizeof weight);
  std::memcpy(weight, file.bytes("weight").data(), sizeof weight);
  EXPECT_EQ(weight[1], -2.5f);
  EXPECT_EQ(weight[5], 6.0f);
  std::int64_t ids[2];
  ASSERT_EQ(file.bytes("ids").size(), sizeof ids);
  std::memcpy(ids, file.bytes("ids").data(), sizeof ids);
  EXPECT_EQ(ids[1], 1'000'000'000'000);
  EXPECT_EQ(file.bytes("flag")[0], std::byte{7});
}

TEST_F(SafetensorsFiles, StartTheirDataAtAMultipleOf64AndKeepTheGivenOrder) {
  small_file();
  const SafetensorsFile file(path());
  EXPECT_EQ(file.entry("weight").begin % 64, 0u);
  EXPECT_EQ(file.entry("flag").begin, file.entry("weight").end);
  EXPECT_EQ(file.entry("ids").begin, file.entry("flag").end);
}

TEST_F(SafetensorsFiles, AreEqualByteForByteForEqualInput) { EXPECT_EQ(small_file(), small_file()); }

TEST_F(SafetensorsFiles, HaveAChecksumOverTheWholeFileWithItsOwnDigitsAsZeros) {
  std::string whole = small_file();
  constexpr std::string_view kBefore = R"({"__metadata__":{"mmkd_checksum":")";
  ASSERT_EQ(whole.substr(8, kBefore.size()), kBefore);
  const auto digits = whole.substr(8 + kBefore.size(), 16);
  whole.replace(8 + kBefore.size(), 16, 16, '0');
  EXPECT_EQ(to_hex(checksum64(whole)), digits);
  EXPECT_FALSE(SafetensorsFile(path()).header().metadata.contains("mmkd_checksum")) << "it is the container's matter";
}

TEST_F(SafetensorsFiles, WithAnyChangedByteAreRefused) {
  const std::string whole = small_file();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int by : {1, 2, 4, 8, 16, 32, 64, 128, 255, 0x7C}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ by);
      write(damaged);
      EXPECT_THROW(SafetensorsFile{path()}, Error) << "byte " << at << " XOR " << by;
    }
  }
}

TEST_F(SafetensorsFiles, OfOtherProgramsNeedNoChecksum) {
  for (const char* metadata : {"", R"("__metadata__":{},)", R"("__metadata__":{"format":"pt","tasks":"[]"},)"}) {
    write(container("{" + std::string(metadata) + R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                    kEightBytes));
    EXPECT_NO_THROW(SafetensorsFile{path()}) << metadata;
  }
}

TEST_F(SafetensorsFiles, ThatClaimToBeOursNeedTheirChecksum) {
  for (const char* metadata : {R"("mmkd_version":"1")", R"("format":"pt","mmkd_checksum":"0000000000000000")",
                               R"("mmkd_checksun":"")", R"("mmkd_checksum":"")",
                               R"("mmkd_checksum":"00000000000000000000000000000000000000000000000000000000000000")"}) {
    write(container(
        "{\"__metadata__\":{" + std::string(metadata) + R"(},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
        kEightBytes));
    EXPECT_THROW(SafetensorsFile{path()}, Error) << metadata;
  }
}

TEST_F(SafetensorsFiles, GetAChecksumOfTheirOwnWhereTheMetadataIsThatOfAnotherFile) {
  write_safetensors(path(), {}, {{"mmkd_checksum", "of another file"}, {"format", "pt"}});
  EXPECT_EQ(SafetensorsFile(path()).header().metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST_F(SafetensorsFiles, TruncatedAtAnyByteAreRefused) {
  const std::string whole = small_file();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write(whole.substr(0, length));
    EXPECT_THROW(SafetensorsFile{path()}, Error) << length << " of " << whole.size() << " bytes";
  }
}

TEST_F(SafetensorsFiles, WithAnyFlippedHeaderBitEitherOpenWithinTheirBoundsOrAreRefused) {
  const std::string whole = small_file();
  const std::size_t header_size =
      8 + static_cast<unsigned char>(whole[0]) + 256u * static_cast<unsigned char>(whole[1]);
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * header_size; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    try {
      for (const auto& [tensor, entry] : parse(damaged).tensors) {
        ASSERT_LE(entry.begin, entry.end) << tensor;
        ASSERT_LE(entry.end, damaged.size()) << tensor;
      }
    } catch (const Error&) {
      ++refused;
    }
  }
  // What still opens has another tensor name or metadata string, or another type of the same size.
  EXPECT_GT(refused, static_cast<int>(4 * header_size));
}

TEST_F(SafetensorsFiles, NameTheFileAndCloseNamesWhenATensorIsMissing) {
  small_file();
  const SafetensorsFile file(path());
  try {
    file.bytes("wieght");
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(path().string()), std::string::npos) << message;
    EXPECT_NE(message.find("the closest: 'weight'"), std::string::npos) << message;
  }
}

TEST_F(SafetensorsFiles, MissingFilesFoldersAndEmptyFilesAreErrors) {
  EXPECT_THROW(SafetensorsFile{folder_ / "none.safetensors"}, Error);
  EXPECT_THROW(SafetensorsFile{folder_.path()}, Error);
  write("");
  EXPECT_THROW(SafetensorsFile{path()}, Error);
}

TEST_F(SafetensorsFiles, AreNotWrittenWithWrongSizesOrTakenNames) {
  const std::vector<std::uint8_t> four(4);
  const auto bytes = std::as_bytes(std::span(four));
  const auto write_tensors = [&](std::vector<NamedBytes> tensors) { write_safetensors(path(), tensors, {}); };
  EXPECT_THROW(write_tensors({{"a", DType::f32, {2}, bytes}}), Error);
  EXPECT_THROW(write_tensors({{"a", DType::u8, {4}, bytes}, {"a", DType::u8, {4}, bytes}}), Error);
  EXPECT_THROW(write_tensors({{"__metadata__", DType::u8, {4}, bytes}}), Error);
  EXPECT_THROW(write_tensors({{"\xff", DType::u8, {4}, bytes}}), Error);
  EXPECT_TRUE(fs::is_empty(folder_.path())) << "a failed write must leave nothing behind";
}

TEST_F(SafetensorsFiles, StayAsTheyWereWhenAWriteFails) {
  const std::string whole = small_file();
  const std::vector<NamedBytes> wrong{{"a", DType::f32, {2}, {}}};
  EXPECT_THROW(write_safetensors(path(), wrong, {}), Error);
  EXPECT_EQ(read_file(path()), whole);
}

}  // namespace
}  // namespace mmkd
