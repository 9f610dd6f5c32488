#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/comm/agree.h"
#include "mmkd/dist/world.h"

namespace mmkd {
namespace {

std::vector<std::string> shapes_of(const std::vector<at::Tensor>& parameters) {
  std::vector<std::string> shapes;
  shapes.reserve(parameters.size());
  for (const auto& p : parameters)
    shapes.push_back(fmt::format("{} [{}]", c10::toString(p.scalar_type()), fmt::join(p.sizes(), ", ")));
  return shapes;
}

}  // namespace

// c10d has such a check as well, but throws on some ranks only, and the others wait for them.
void require_same_shapes(const World& world, const std::vector<at::Tensor>& parameters) {
  const auto mine = shapes_of(parameters);
  std::string joined = fmt::format("{}", fmt::join(mine, "\n"));
  const std::string own = joined;
  world.mpi().broadcast(joined, 0);
  on_all_ranks(world.mpi(), [&] {
    if (own == joined) return;
    std::istringstream lines(joined);
    std::vector<std::string> theirs;
    for (std::string line; std::getline(lines, line);) theirs.push_back(line);
    const auto common = std::min(mine.size(), theirs.size());
    const auto first = std::mismatch(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(common), theirs.begin());
    const auto index = static_cast<std::size_t>(first.first - mine.begin());
    if (index == common)
      throw Error("{} parameters on rank {}, {} on rank 0", mine.size(), world.rank(), theirs.size());
    throw Error("parameter {} is {} on rank {}, {} on rank 0", index, mine[index], world.rank(), theirs[index]);
  });
}

}  // namespace mmkd
