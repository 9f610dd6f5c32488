#pragma once
#include <optional>

namespace mmkd {

/// Installs handlers for SIGTERM, SIGINT and SIGUSR2 that only note the request; a second signal two seconds or more
/// after the first ends the process at once (a launcher and its ranks often deliver the same one twice).
void install_stop_handlers();

/// The signal that asked this process to stop, if any. Cheap: poll it at step boundaries.
std::optional<int> stop_requested();

/// For tests and for code that turns another event into a stop.
void request_stop(int signal_number);
void clear_stop_request();

}  // namespace mmkd
