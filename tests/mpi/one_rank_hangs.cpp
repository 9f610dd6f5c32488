// one_rank_hangs rank|all: after a moment of work one rank is alive but does nothing, or every rank waits for another.
// The watch over the ranks must end the job.
#include <cstring>
#include <thread>

#include "mmkd/comm/activity.h"
#include "mmkd/comm/liveness.h"

int main(int, char** argv) {
  using namespace mmkd;
  using namespace std::chrono_literals;
  const MpiSession mpi;
  const Liveness liveness(mpi, {.dead_after = 5s, .stalled_after = 1s, .network_interface = ""});
  activity().enter_phase("test");
  for (int step = 1; step <= 3; ++step) {
    activity().tick(step);
    mpi.barrier();
    std::this_thread::sleep_for(300ms);
  }
  if (std::strcmp(argv[1], "rank") == 0) {
    if (mpi.rank() == 1) std::this_thread::sleep_for(1h);
    mpi.barrier();
  } else {
    const Activity::Waiting waiting(activity(), "something that nobody sends");
    std::this_thread::sleep_for(1h);
  }
  return 0;
}
