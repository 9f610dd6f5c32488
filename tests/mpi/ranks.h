#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "mmkd/comm/mpi_session.h"

// For tests that run on every rank of an mpirun: a test is one function that all ranks execute together.
namespace mmkd::test {

/// The session of this process. Its messages are cut at kMaxMessageBytes, so that tests of large transfers stay small.
const MpiSession& session();
inline constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 20;

/// Numbers of both signs and many magnitudes, so that the order of a sum shows in its last bits. The same on every rank
/// for equal arguments.
inline std::vector<float> random_floats(std::uint32_t seed, std::size_t count) {
  std::mt19937 generator(seed);
  std::vector<float> values(count);
  for (auto& value : values) {
    const auto mantissa = static_cast<float>(static_cast<std::int32_t>(generator()));
    value = mantissa * static_cast<float>(1U << (generator() % 20U)) * 0x1p-40F;
  }
  return values;
}

}  // namespace mmkd::test
