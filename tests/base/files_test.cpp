#include "mmkd/base/files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include "mmkd/base/error.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(AtomicFile, AppearsOnlyWithCommit) {
  const test::TempFolder folder;
  AtomicFile file(folder / "sub/f");
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(fs::exists(folder / "sub/f"));
  std::move(file).commit();
  EXPECT_EQ(read_file(folder / "sub/f"), "one two");
  EXPECT_EQ(entries(folder / "sub"), 1U);
}

TEST(AtomicFile, LeavesTheOldFileAndNoLitterWithoutCommit) {
  const test::TempFolder folder;
  write_file_atomic(folder / "f", "old");
  {
    AtomicFile file(folder / "f");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(PlacedWriter, WritesInPlacesAndBehindTheEnd) {
  const test::TempFolder folder;
  write_file_atomic(folder / "f", "0123456789");
  {
    const PlacedWriter writer(folder / "f");
    const std::string_view text = "ab";
    writer.write_at(12, std::as_bytes(std::span(text)));
    writer.write_at(3, std::as_bytes(std::span(text)));
    writer.write_at(0, {});
  }
  EXPECT_EQ(read_file(folder / "f"), std::string("012ab56789\0\0ab", 14));
  EXPECT_THROW(PlacedWriter(folder / "missing"), Error);
}

TEST(ReadFile, NamesThePathAndTheReason) {
  const test::TempFolder folder;
  try {
    read_file(folder / "missing");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("missing: cannot be opened: No such file"), std::string::npos) << e.what();
  }
  EXPECT_THROW(read_file(folder.path()), Error);
}

TEST(ReadFile, RefusesMoreThanItsLimit) {
  const test::TempFolder folder;
  write_file_atomic(folder / "f", "12345");
  EXPECT_EQ(read_file(folder / "f", 5), "12345");
  EXPECT_THROW(read_file(folder / "f", 4), Error);
}

TEST(AtomicFolder, AppearsWholeWithCommit) {
  const test::TempFolder folder;
  AtomicFolder building(folder / "final");
  write_file_atomic(building.path() / "a/b", "x");
  EXPECT_FALSE(fs::exists(folder / "final"));
  EXPECT_TRUE(std::move(building).commit());
  EXPECT_EQ(read_file(folder / "final/a/b"), "x");
}

TEST(AtomicFolder, GivesWayToAFasterBuilder) {
  const test::TempFolder folder;
  {
    AtomicFolder slow(folder / "final");
    write_file_atomic(slow.path() / "who", "slow");
    AtomicFolder fast(folder / "final");
    write_file_atomic(fast.path() / "who", "fast");
    EXPECT_TRUE(std::move(fast).commit());
    EXPECT_FALSE(std::move(slow).commit());
  }
  EXPECT_EQ(read_file(folder / "final/who"), "fast");
  EXPECT_EQ(entries(folder.path()), 1U);
}

TEST(AtomicFolder, ReplacesWhenToldTo) {
  const test::TempFolder folder;
  write_file_atomic(folder / "final/who", "old");
  AtomicFolder building(folder / "final");
  write_file_atomic(building.path() / "who", "new");
  EXPECT_TRUE(std::move(building).commit(true));
  EXPECT_EQ(read_file(folder / "final/who"), "new");
}

TEST(LinkOrCopy, ReplacesItsTargetAndIsRepeatable) {
  const test::TempFolder folder;
  write_file_atomic(folder / "from", "new");
  write_file_atomic(folder / "to", "old");
  link_or_copy(folder / "from", folder / "to");
  link_or_copy(folder / "from", folder / "to");
  EXPECT_EQ(read_file(folder / "to"), "new");
  EXPECT_EQ(entries(folder.path()), 2U);
}

TEST(RequireWritable, SaysWhatThePlaceIsFor) {
  const test::TempFolder folder;
  require_writable(folder / "new", "logging.log_dir");
  EXPECT_EQ(entries(folder / "new"), 0U);
  write_file_atomic(folder / "file", "x");
  try {
    require_writable(folder / "file", "logging.log_dir");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).rfind("logging.log_dir cannot be written to", 0), 0U) << e.what();
  }
}

TEST(FreeBytes, WorksForPathsThatDoNotExistYet) { EXPECT_GT(free_bytes("/tmp/not/there/yet"), 0U); }

}  // namespace
}  // namespace mmkd
