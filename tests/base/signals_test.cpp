#include "mmkd/base/signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace mmkd {
namespace {

TEST(StopSignals, AreNotedAndKeepTheFirst) {
  clear_stop_request();
  install_stop_handlers();
  EXPECT_FALSE(stop_requested().has_value());
  std::raise(SIGUSR2);
  std::raise(SIGTERM);  // within two seconds: the launcher and its ranks may both deliver one
  EXPECT_EQ(stop_requested(), SIGUSR2);
  clear_stop_request();
}

}  // namespace
}  // namespace mmkd
