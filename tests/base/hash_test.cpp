#include "mmkd/base/hash.h"

#include <gtest/gtest.h>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

TEST(Sha256, GivesTheDigestsOfTheStandard) {
  // FIPS 180-2, appendix B.
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Sha256, DoesNotDependOnHowTheBytesArrive) {
  Sha256 parts;
  parts.update("a").update("").update("bc");
  EXPECT_EQ(std::move(parts).hex(), sha256_hex("abc"));
}

TEST(Sha256, OfAFileEqualsThatOfItsBytes) {
  const test::TempFolder folder;
  const std::string bytes(3'000'001, 'x');  // more than one read buffer
  write_file_atomic(folder / "f", bytes);
  EXPECT_EQ(sha256_file(folder / "f"), sha256_hex(bytes));
}

TEST(Sha256, NamesAFileThatCannotBeRead) {
  try {
    sha256_file("/nowhere/at/all");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("/nowhere/at/all"), std::string::npos);
  }
}

TEST(Checksum64, ChangesWithEveryFlippedBit) {
  std::string bytes = "a record of some length";
  const auto original = checksum64(bytes);
  for (std::size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
    EXPECT_NE(checksum64(bytes), original) << "bit " << i;
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
  }
  EXPECT_EQ(checksum64(bytes), original);
}

TEST(ToHex, HasSixteenDigits) { EXPECT_EQ(to_hex(0xABC), "0000000000000abc"); }

}  // namespace
}  // namespace mmkd
