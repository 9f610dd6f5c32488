#pragma once
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/pack.h"
#include "tests/support/temp_folder.h"

// A data set of a few generated pictures, small enough to be packed in milliseconds.
namespace mmkd::test {

namespace fs = std::filesystem;

/// Without fsync, which would cost more than what is tested.
inline void write_plain(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::string read_plain(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// An RGB PNG of size x size pixels whose values depend on `seed`.
inline std::string make_png(int size, unsigned seed) {
  const auto big_endian = [](std::uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  const auto chunk = [&](const std::string& body) {  // type and data
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    return big_endian(static_cast<std::uint32_t>(body.size() - 4)) + body + big_endian(static_cast<std::uint32_t>(crc));
  };
  std::string rows;
  std::uint32_t state = seed * 2654435761U + 1;
  for (int y = 0; y < size; ++y) {
    rows += '\0';  // no filter
    for (int k = 0; k < size * 3; ++k) rows += static_cast<char>((state = state * 1664525U + 1013904223U) >> 24);
  }
  auto packed_size = ::compressBound(static_cast<uLong>(rows.size()));
  std::string packed(packed_size, '\0');
  ::compress(reinterpret_cast<Bytef*>(packed.data()), &packed_size, reinterpret_cast<const Bytef*>(rows.data()),
             static_cast<uLong>(rows.size()));
  packed.resize(packed_size);
  const auto side = big_endian(static_cast<std::uint32_t>(size));
  const std::string depth_and_kind("\x08\x02\x00\x00\x00", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR" + side + side + depth_and_kind) + chunk("IDAT" + packed) + chunk("IEND");
}

struct Row {
  std::string id, image, text, shape, site;
};

/// 12 train, 4 dev and 3 test samples; shards of 5. Teacher and student differ in picture size and in letter case.
struct SmallSet {
  TempFolder folder;
  std::vector<Row> train, dev, test;
  Config config;

  SmallSet() {
    const auto fill = [&](std::vector<Row>& rows, const std::string& split, unsigned count, unsigned first) {
      for (unsigned i = 0; i < count; ++i) {
        const std::string id = split + std::to_string(i);
        std::string text = i % 2 == 0 ? "Circle on the arm" : "cross";
        if (i % 3 == 0) text += " the the the the the the the";
        rows.push_back({id, "images/" + id + ".png", text, i % 2 == 0 ? "circle" : "cross", i % 4 < 2 ? "leg" : "arm"});
        write_plain(folder / ("data/images/" + id + ".png"), make_png(20, first + i));
      }
    };
    fill(train, "train", 12, 0);
    fill(dev, "dev", 4, 100);
    fill(test, "test", 3, 200);
    write_tables();
    write_plain(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncircle\ncross\non\narm\n##s\n");

    auto& data = config.data;
    data.type = DatasetType::table;
    data.root = folder / "data";
    data.table = {.train = "train.jsonl", .dev = "dev.jsonl", .test = "test.csv"};
    data.tasks = {{"shape", "shape"}, {"site", "site"}};
    data.max_length = 9;
    data.samples_per_shard = 5;
    data.num_workers = 2;
    config.teacher.vision.image_size = 16;
    config.student.vision.image_size = 8;
    config.teacher.tokenizer.name = config.student.tokenizer.name = (folder / "vocab.txt").string();
    config.teacher.tokenizer.do_lower_case = false;
    config.artifacts.root = folder / "artifacts";
  }

  void write_tables() const {
    const auto jsonl = [](const std::vector<Row>& rows) {
      std::string text;
      for (const auto& row : rows) {
        text += R"({"id":")" + row.id + R"(","image":")" + row.image + R"(","text":")" + row.text + R"(","shape":")" +
                row.shape + R"(","site":")" + row.site + "\"}\n";
      }
      return text;
    };
    std::string csv = "id,image,text,shape,site\n";
    for (const auto& row : test)
      csv += row.id + "," + row.image + "," + row.text + "," + row.shape + "," + row.site + "\n";
    write_plain(folder / "data/train.jsonl", jsonl(train));
    write_plain(folder / "data/dev.jsonl", jsonl(dev));
    write_plain(folder / "data/test.csv", csv);
  }

  fs::path image(const Row& row) const { return folder / ("data/" + row.image); }
};

/// A single rank; there can be one session per process.
inline const MpiSession& alone() {
  static const MpiSession session;
  return session;
}

/// pack() by a single rank.
inline PackedInfo pack_alone(const Config& config) { return pack(config, alone()); }

}  // namespace mmkd::test
