#pragma once
#include <functional>
#include <string>

#include "mmkd/base/error.h"
#include "mmkd/comm/mpi_session.h"

// Errors that all ranks must see together: a rank that throws alone would leave its peers waiting in a collective.
namespace mmkd {

/// An error that every rank throws together: programs print it on rank 0 and all ranks leave by themselves. Any other
/// exception is one rank's own, and its peers must be ended (MpiSession::abort).
class CollectiveError : public Error {
 public:
  CollectiveError(ExitCode code, const std::string& message) : Error("{}", message), code_(code) {}
  ExitCode code() const noexcept override { return code_; }

 private:
  ExitCode code_;
};

/// Collective. Runs `work` on every rank, then votes. If it threw anywhere, every rank throws a CollectiveError with
/// the message and exit code of the lowest rank that failed; the message names the rank when ranks differ. `work` must
/// not contain collectives that a failing rank would skip.
void on_all_ranks(const MpiSession& mpi, const std::function<void()>& work);

/// Collective. Runs `work` on rank 0 only; its error becomes every rank's CollectiveError.
void on_rank_zero(const MpiSession& mpi, const std::function<void()>& work);

/// Collective. Runs `work` on rank 0 only and gives its result to every rank; its error becomes every rank's
/// CollectiveError.
std::string from_rank_zero(const MpiSession& mpi, const std::function<std::string()>& work);

}  // namespace mmkd
