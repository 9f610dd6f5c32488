#include <gtest/gtest.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "tests/mpi/ranks.h"

namespace mmkd::test {

namespace {

const MpiSession* the_session = nullptr;

/// Names the rank in failures, and ends the job after a test that failed on any rank: the ranks are out of step then.
class FailTogether final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed() || session().rank() == 0) return;  // rank 0 has gtest's own printer
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", session().rank(), result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.message());
  }
  void OnTestEnd(const testing::TestInfo& info) override {
    if (!info.result()->Failed()) return;
    std::fprintf(stderr, "[rank %d] FAILED %s.%s\n", session().rank(), info.test_suite_name(), info.name());
    session().abort(1);
  }
};

}  // namespace

const MpiSession& session() { return *the_session; }

}  // namespace mmkd::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    const mmkd::MpiSession session(mmkd::test::kMaxMessageBytes);
    mmkd::test::the_session = &session;
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    if (session.rank() != 0) delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new mmkd::test::FailTogether);
    const int result = RUN_ALL_TESTS();
    session.barrier();
    return result;
  } catch (const std::exception& error) {
    mmkd::log::error("{}", error.what());
    return static_cast<int>(mmkd::ExitCode::failure);
  }
}
