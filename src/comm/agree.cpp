#include "mmkd/comm/agree.h"

#include <set>
#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

/// What one rank tells the others: an exit code (0: fine) in the first byte, the message behind it.
std::string outcome_of(const std::function<void()>& work) {
  const auto encode = [](ExitCode code, const char* message) {
    return std::string(1, static_cast<char>(code)) + message;
  };
  try {
    work();
    return encode(ExitCode::ok, "");
  } catch (const Error& e) {
    return encode(e.code(), e.what());
  } catch (const std::exception& e) {
    return encode(ExitCode::failure, e.what());
  }
}

[[noreturn]] void rethrow(const std::string& outcome, const std::string& suffix) {
  throw CollectiveError(static_cast<ExitCode>(outcome[0]), outcome.substr(1) + suffix);
}

bool failed(const std::string& outcome) { return outcome[0] != static_cast<char>(ExitCode::ok); }

}  // namespace

void on_all_ranks(const MpiSession& mpi, const std::function<void()>& work) {
  const std::string mine = outcome_of(work);
  if (mpi.size() == 1) {
    if (failed(mine)) rethrow(mine, "");
    return;
  }
  if (!mpi.any(failed(mine))) return;
  const auto all = mpi.all_gather(mine);
  std::set<std::string> different;
  int first = -1;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!failed(all[rank])) continue;
    different.insert(all[rank]);
    if (first < 0) first = static_cast<int>(rank);
  }
  const bool everywhere = different.size() == 1 && failed(all.front()) && failed(all.back());
  rethrow(all[static_cast<std::size_t>(first)],
          everywhere
              ? ""
              : fmt::format(
                    " (rank {}{})", first,
                    different.size() > 1 ? fmt::format("; {} more ranks failed otherwise", different.size() - 1) : ""));
}

void on_rank_zero(const MpiSession& mpi, const std::function<void()>& work) {
  from_rank_zero(mpi, [&] {
    work();
    return std::string();
  });
}

std::string from_rank_zero(const MpiSession& mpi, const std::function<std::string()>& work) {
  std::string result;
  std::string outcome;
  if (mpi.rank() == 0) outcome = outcome_of([&] { result = work(); });
  if (mpi.size() > 1) mpi.broadcast(outcome, 0);
  if (failed(outcome)) rethrow(outcome, "");
  if (mpi.size() > 1) mpi.broadcast(result, 0);
  return result;
}

}  // namespace mmkd
