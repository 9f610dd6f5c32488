#pragma once
#include <memory>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/stages/lock.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

/// Collective. Rank 0 takes the lock of a stage, after another process that builds it at this moment has finished or
/// died (`dead_after` seconds without a sign of life); the other ranks get null. Whoever waited has to look again
/// whether the stage is there now. Throws Interrupted on every rank when a stop is requested meanwhile; a lock that is
/// lost later requests a stop.
std::unique_ptr<StageLock> lock_stage(const MpiSession& mpi, const StageStore& store, const StageInputs& inputs,
                                      double dead_after);

}  // namespace mmkd
