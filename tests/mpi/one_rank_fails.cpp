#include <exception>
#include <string_view>
#include <thread>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/channel.h"

namespace {

// Rank 1 throws while the others wait for it in a collective.
void train(const mmkd::MpiSession& session) {
  mmkd::Channel channel(session);
  float value = 1.0F;
  channel.all_reduce(&value, 1, mmkd::ElementType::f32, mmkd::Reduction::sum);
  if (session.rank() == 1) throw mmkd::Error("rank 1 gives up");
  channel.all_reduce(&value, 1, mmkd::ElementType::f32, mmkd::Reduction::sum);
}

}  // namespace

int main(int, char** argv) {
  if (argv[1] == std::string_view("unwinding")) {
    try {
      const mmkd::MpiSession session;
      try {
        train(session);
      } catch (const mmkd::Error& error) {
        mmkd::log::error("{}", error.what());
        throw;
      }
    } catch (const std::exception&) {
      return 3;  // not reached: the session's destructor ends the job
    }
    return 0;
  }
  const mmkd::MpiSession session;
  try {
    train(session);
  } catch (const std::exception& error) {
    mmkd::log::error("{}", error.what());
    session.abort(7);
  }
  return 0;
}
