#include "mmkd/base/signals.h"

#include <unistd.h>
#include <atomic>
#include <csignal>
#include <ctime>

namespace mmkd {
namespace {

// Lock-free atomics are the only state that a handler may touch.
std::atomic<int> stop_signal{0};
std::atomic<long> first_at_ms{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<long>::is_always_lock_free);

constexpr long kSecondSignalAfterMs = 2000;

long now_ms() {
  struct timespec now {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void on_signal(int number) {
  int expected = 0;
  if (stop_signal.compare_exchange_strong(expected, number)) {
    first_at_ms = now_ms();
  } else if (now_ms() - first_at_ms >= kSecondSignalAfterMs) {
    _exit(128 + number);
  }
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGINT, SIGUSR2}) sigaction(number, &action, nullptr);
}

std::optional<int> stop_requested() {
  const int number = stop_signal.load(std::memory_order_relaxed);
  return number == 0 ? std::nullopt : std::optional(number);
}

void request_stop(int signal_number) { on_signal(signal_number); }

void clear_stop_request() { stop_signal = 0; }

}  // namespace mmkd
