#include "mmkd/comm/activity.h"

#include <utility>

namespace mmkd {

void Activity::enter_phase(std::string phase) {
  const std::lock_guard lock(mutex_);
  state_.phase = std::move(phase);
  state_.step = 0;
  state_.told.clear();
  ++state_.progress;
}

void Activity::tick(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  state_.step = step;
  ++state_.progress;
}

void Activity::tell(std::string how_far) {
  const std::lock_guard lock(mutex_);
  state_.told = std::move(how_far);
}

Activity::State Activity::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Activity::Waiting::Waiting(Activity& activity, std::string collective) : activity_(activity) {
  const std::lock_guard lock(activity_.mutex_);
  activity_.state_.collective = std::move(collective);
  activity_.state_.waiting = true;
  if (activity_.depth_++ == 0) activity_.first_waits_since_ = std::chrono::steady_clock::now();
  ++activity_.state_.progress;
}

Activity::Waiting::~Waiting() {
  const std::lock_guard lock(activity_.mutex_);
  activity_.state_.waiting = --activity_.depth_ > 0;
  if (!activity_.state_.waiting) {
    activity_.state_.collective_seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - activity_.first_waits_since_).count();
  }
  ++activity_.state_.progress;
}

Activity& activity() {
  static Activity one;
  return one;
}

}  // namespace mmkd
