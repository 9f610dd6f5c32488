#include "tests/parity/runner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/formats/safetensors.h"
#include "tests/parity/arrays.h"
#include "tests/support/temp_folder.h"

namespace mmkd::parity {
namespace {

Verdict verdict_of(Verdict::Status status, int compared) { return {status, "why", compared}; }

const Handler kHandlers[] = {
    {"right", [](const Case&) { return verdict_of(Verdict::Status::passed, 1); }},
    {"wrong", [](const Case&) { return verdict_of(Verdict::Status::failed, 1); }},
    {"idle", [](const Case&) { return verdict_of(Verdict::Status::passed, 0); }},
    {"throws", [](const Case&) -> Verdict { throw std::runtime_error("thrown"); }},
    {"later", [](const Case&) { return verdict_of(Verdict::Status::not_built, 0); }},
    {"missing", nullptr},
};

class ParityRunner : public ::testing::Test {
 protected:
  void add(const std::string& name, const std::string& kind) {
    const nlohmann::json json{
        {"kind", kind}, {"name", name}, {"config", {{"k", 1}}}, {"tolerance", {{"atol", 1e-4}, {"rtol", 0}}}};
    write_file_atomic(folder_ / name / "case.json", json.dump());
  }
  bool run_all(bool all = false, const std::string& filter = "") {
    out_.str("");
    return run({folder_.path(), filter, all}, kHandlers, out_);
  }

  test::TempFolder folder_;
  std::ostringstream out_;
};

TEST_F(ParityRunner, PassesWhenEveryCasePasses) {
  add("one", "right");
  add("two", "right");
  EXPECT_TRUE(run_all());
  EXPECT_EQ(out_.str(), "2 passed, 0 failed, 0 not built\n");
}

TEST_F(ParityRunner, FailsOnAnEmptyOrMissingFolder) {
  EXPECT_THROW(run_all(), Error);
  EXPECT_THROW(run({folder_ / "none", "", false}, kHandlers, out_), Error);
}

TEST_F(ParityRunner, FailsOnAnUnknownKind) {
  add("one", "right");
  add("two", "riddle");
  EXPECT_FALSE(run_all());
  EXPECT_NE(out_.str().find("FAILED    two (riddle): unknown kind 'riddle'"), std::string::npos) << out_.str();
}

TEST_F(ParityRunner, FailsOnADifferenceAndOnAnExceptionAndShowsBoth) {
  add("a", "right");
  add("b", "wrong");
  add("c", "throws");
  EXPECT_FALSE(run_all());
  EXPECT_EQ(out_.str(), "FAILED    b (wrong): why\nFAILED    c (throws): thrown\n1 passed, 2 failed, 0 not built\n");
}

TEST_F(ParityRunner, FailsACaseThatComparedNothing) {
  add("a", "right");
  add("b", "idle");
  EXPECT_FALSE(run_all());
}

TEST_F(ParityRunner, ListsWhatIsNotBuiltAndFailsOnItOnlyUnderAll) {
  add("a", "right");
  add("b", "later");
  add("c", "missing");
  EXPECT_TRUE(run_all());
  EXPECT_EQ(out_.str(),
            "not built b (later): why\nnot built c (missing): handler missing\n1 passed, 0 failed, 2 not built\n");
  EXPECT_FALSE(run_all(/*all=*/true));
}

TEST_F(ParityRunner, FailsWhenNothingAtAllIsBuilt) {
  add("a", "missing");
  EXPECT_FALSE(run_all());
}

TEST_F(ParityRunner, FailsOnAFolderWithoutAReadableCase) {
  add("a", "right");
  make_folder(folder_ / "b");
  EXPECT_FALSE(run_all());
  write_file_atomic(folder_ / "b" / "case.json", "{\"kind\": \"right\"}");
  EXPECT_FALSE(run_all());
}

TEST_F(ParityRunner, RunsOnlyCasesThatMatchTheFilterAndFailsIfNoneDoes) {
  add("fusion-film", "right");
  add("loss-rkd", "wrong");
  EXPECT_TRUE(run_all(false, "fusion"));
  EXPECT_THROW(run_all(false, "nothing-like-it"), Error);
}

TEST_F(ParityRunner, TakesTheParentOfTheFolderOfCases) {
  add("cases/one", "right");
  make_folder(folder_ / "vocab");
  EXPECT_TRUE(run_all());
  EXPECT_EQ(out_.str(), "1 passed, 0 failed, 0 not built\n");
}

class ParityCompare : public ::testing::Test {
 protected:
  bool passes(const std::vector<double>& got, const std::vector<double>& want) {
    Verdict verdict;
    compare(case_, "x", got, want, verdict);
    EXPECT_EQ(verdict.compared, 1);
    return verdict.status == Verdict::Status::passed;
  }
  Case case_{"", "k", "n", {}, /*atol=*/0.01, /*rtol=*/0.1};
};

TEST_F(ParityCompare, AllowsAtolTimesTheLargestWantedValuePlusRtol) {
  // Largest |want| is 10: allowed 0.01 * 10 + 0.1 * 1 = 0.2 at the first value.
  EXPECT_TRUE(passes({1.19, 10}, {1, 10}));
  EXPECT_FALSE(passes({1.21, 10}, {1, 10}));
  // Largest |want| below 1 counts as 1: allowed 0.01 + 0.1 * 0.1 = 0.02.
  EXPECT_TRUE(passes({0.119}, {0.1}));
  EXPECT_FALSE(passes({0.121}, {0.1}));
}

TEST_F(ParityCompare, FailsOnNanInfinityAndAnotherNumberOfValues) {
  EXPECT_FALSE(passes({std::nan("")}, {1}));
  EXPECT_FALSE(passes({std::numeric_limits<double>::infinity()}, {1}));
  EXPECT_FALSE(passes({1, 2}, {1}));
}

TEST_F(ParityCompare, KeepsTheFirstDifference) {
  Verdict verdict;
  compare(case_, "first", {2}, {1}, verdict);
  compare(case_, "second", {2}, {1}, verdict);
  EXPECT_EQ(verdict.detail.rfind("first: got 2, want 1", 0), 0u) << verdict.detail;
}

TEST_F(ParityCompare, OfArraysLooksAtShapesAndTakesIntegersExactly) {
  Verdict verdict;
  compare(case_, "x", Array{{2, 1}, false, {1, 2}}, Array{{2}, false, {1, 2}}, verdict);
  EXPECT_EQ(verdict.detail, "x: got shape [2, 1], want [2]");
  verdict = {};
  compare(case_, "x", Array{{2, 2}, true, {100, 1, 2, 101}}, Array{{2, 2}, true, {100, 1, 2, 100}}, verdict);
  EXPECT_EQ(verdict.detail, "x[1, 1]: got 101, want 100");
}

TEST(ParityArrays, ReadEveryTypeThatCasesHold) {
  const test::TempFolder folder;
  const std::vector<float> f{0.5f, -1.0f};
  const std::vector<std::int64_t> i{-7};
  const std::vector<std::uint8_t> u{255, 0};
  const std::vector<NamedBytes> tensors{{"f", DType::f32, {1, 2}, std::as_bytes(std::span(f))},
                                        {"i", DType::i64, {}, std::as_bytes(std::span(i))},
                                        {"u", DType::u8, {2}, std::as_bytes(std::span(u))}};
  write_safetensors(folder / "x.safetensors", tensors, {});
  const auto arrays = read_arrays(folder / "x.safetensors");
  EXPECT_EQ(arrays.at("f").values, (std::vector<double>{0.5, -1.0}));
  EXPECT_FALSE(arrays.at("f").integral);
  EXPECT_EQ(arrays.at("i").values, std::vector<double>{-7});
  EXPECT_TRUE(arrays.at("i").shape.empty());
  EXPECT_EQ(arrays.at("u").values, (std::vector<double>{255, 0}));
  EXPECT_TRUE(arrays.at("u").integral);
}

}  // namespace
}  // namespace mmkd::parity
