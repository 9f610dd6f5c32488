#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/rng.h"

namespace mmkd::test {

/// XORs one byte of a file, in place; once more gives the file back.
inline void flip(const std::filesystem::path& file, std::uint64_t at, std::uint64_t by) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(static_cast<std::streamoff>(at));
  const int byte = stream.get();
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put(static_cast<char>(static_cast<std::uint64_t>(byte) ^ by));
  if (byte < 0 || !stream.flush()) throw std::runtime_error(file.string() + " cannot be changed");
}

/// Flips per call of expect_every_flip_is_noticed(). MMKD_FLIPS=100000 in the environment makes it a long campaign.
inline std::uint64_t flip_trials() {
  const char* wanted = std::getenv("MMKD_FLIPS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 1200;
}

/// Changes one byte at a time, anywhere in any of `files`; the seed decides where. `read` uses the files in every way
/// that reads all of them; it must throw mmkd::Error while a byte is wrong, and nothing when all is whole again.
inline void expect_every_flip_is_noticed(const std::vector<std::filesystem::path>& files, std::uint64_t seed,
                                         const std::function<void()>& read) {
  constexpr int kShown = 10;
  KeyedRng rng(seed, RngPurpose::perturb);
  std::uint64_t unnoticed = 0, escaped = 0;
  for (std::uint64_t trial = 0; trial < flip_trials(); ++trial) {
    const auto& file = files[rng.below(files.size())];
    const auto at = rng.below(std::filesystem::file_size(file));
    const auto by = 1 + rng.below(255);
    std::string found;
    flip(file, at, by);
    try {
      read();
      found = "unnoticed";
      ++unnoticed;
    } catch (const Error&) {  // what it must end in
    } catch (const std::exception& e) {
      found = std::string("another exception: ") + e.what();
      ++escaped;
    }
    flip(file, at, by);
    if (!found.empty() && unnoticed + escaped <= kShown) {
      ADD_FAILURE() << file.filename() << ", byte " << at << " of " << std::filesystem::file_size(file) << " XOR " << by
                    << ": " << found;
    }
  }
  EXPECT_EQ(unnoticed, 0U) << "of " << flip_trials() << " flips";
  EXPECT_EQ(escaped, 0U) << "of " << flip_trials() << " flips";
  EXPECT_NO_THROW(read());
}

}  // namespace mmkd::test
