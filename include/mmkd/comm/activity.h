#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace mmkd {

/// What this process is doing, for whoever asks why it takes no part: written by the thread that works, read by the one
/// that watches. One per process (activity()).
class Activity {
 public:
  struct State {
    std::string phase = "starting";  ///< stage or kind of work
    std::int64_t step = 0;           ///< of the phase: optimizer steps, records, blocks
    std::string collective;          ///< the last one that was entered
    bool waiting = false;            ///< inside it now
    std::uint64_t progress = 0;      ///< grows with everything that happens
    std::string told;                ///< for people: how far it is
    double collective_seconds = 0;   ///< in which a collective was under way, beside computing or not
  };

  void enter_phase(std::string phase);
  void tick(std::int64_t step);
  void tell(std::string how_far);
  State state() const;

  /// Held while a collective waits for its peers.
  class Waiting {
   public:
    Waiting(Activity& activity, std::string collective);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Activity& activity_;
  };

 private:
  mutable std::mutex mutex_;
  State state_;
  int depth_ = 0;  // threads that wait at this moment
  std::chrono::steady_clock::time_point first_waits_since_;
};

Activity& activity();

}  // namespace mmkd
