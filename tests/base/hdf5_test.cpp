#include "mmkd/base/hdf5.h"

#include <gtest/gtest.h>

#include <array>

#include "mmkd/base/files.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

void write_sample(const fs::path& path) {
  auto file = h5::create_file(path);
  const std::array<hsize_t, 2> shape{2, 3};
  const auto dataset = h5::create_dataset(file, "values", H5T_STD_I32LE, shape);
  const std::array<int, 6> values{1, 2, 3, 4, 5, 6};
  h5::write_all(dataset, H5T_NATIVE_INT, values.data(), "values");
  h5::write_attribute(file, "count", std::uint64_t{42});
  h5::write_attribute(file, "name", std::string("demo"));
}

TEST(Hdf5, ReadsBackWhatWasWritten) {
  const test::TempFolder folder;
  write_sample(folder / "f.h5");
  const auto file = h5::open_file(folder / "f.h5");
  const auto dataset = h5::open_dataset(file, "values", H5T_STD_I32LE, 2, "f.h5");
  EXPECT_EQ(h5::shape(dataset), (std::vector<hsize_t>{2, 3}));
  std::array<int, 6> values{};
  h5::read_all(dataset, H5T_NATIVE_INT, values.data(), "values");
  EXPECT_EQ(values, (std::array<int, 6>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(h5::read_u64_attribute(file, "count", "f.h5"), 42U);
  EXPECT_EQ(h5::read_string_attribute(file, "name", "f.h5"), "demo");
}

TEST(Hdf5, SaysTheSystemsReasonWhereAFileCannotBeCreated) {
  const test::TempFolder folder;
  write_sample(folder / "there.h5");
  for (const auto& [file, reason] :
       {std::pair{"there.h5", "File exists"}, std::pair{"missing/f.h5", "No such file or directory"}}) {
    try {
      h5::create_file(folder / file);
      ADD_FAILURE() << file;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
    }
  }
}

TEST(Hdf5, GivesEqualBytesForEqualContent) {
  const test::TempFolder folder;
  write_sample(folder / "a.h5");
  write_sample(folder / "b.h5");
  EXPECT_EQ(read_file(folder / "a.h5"), read_file(folder / "b.h5"));
}

TEST(Hdf5, TellsWhereTheRawDataLies) {
  const test::TempFolder folder;
  write_sample(folder / "f.h5");
  const auto file = h5::open_file(folder / "f.h5");
  const auto offset = h5::data_offset(h5::open_dataset(file, "values", H5T_STD_I32LE, 2, "f.h5"), "values");
  const auto bytes = read_file(folder / "f.h5");
  ASSERT_LE(offset + 24, bytes.size());
  EXPECT_EQ(bytes.substr(offset, 8), std::string("\1\0\0\0\2\0\0\0", 8));
}

TEST(Hdf5, RefusesWrongTypesNamesAndFiles) {
  const test::TempFolder folder;
  write_sample(folder / "f.h5");
  const auto file = h5::open_file(folder / "f.h5");
  EXPECT_THROW(h5::open_dataset(file, "values", H5T_IEEE_F32LE, 2, "f.h5"), Error);
  EXPECT_THROW(h5::open_dataset(file, "values", H5T_STD_I32LE, 1, "f.h5"), Error);
  EXPECT_THROW(h5::open_dataset(file, "other", H5T_STD_I32LE, 2, "f.h5"), Error);
  EXPECT_THROW(h5::read_u64_attribute(file, "name", "f.h5"), Error);
  EXPECT_THROW(h5::read_string_attribute(file, "missing", "f.h5"), Error);
  EXPECT_THROW(h5::create_file(folder / "f.h5"), Error);
  write_file_atomic(folder / "text", "no HDF5 at all");
  EXPECT_THROW(h5::open_file(folder / "text"), Error);
}

}  // namespace
}  // namespace mmkd
