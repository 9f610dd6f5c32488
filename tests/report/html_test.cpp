#include "mmkd/report/html.h"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "mmkd/base/csv.h"
#include "mmkd/base/error.h"
#include "mmkd/report/samples.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kHostile = "</script><img src=x onerror=alert(1)>&\"'";

struct Numbers {
  int seed = 0;
  double dev = 0.5, test = 0.4;
  std::string fusion = "gated";
};

/// A results.json without studies.
Json plain_result(const Numbers& n) {
  Json history = Json::array();
  for (int epoch = 1; epoch <= 2; ++epoch)
    history.push_back({{"epoch", epoch}, {"train_loss", 3.0 / epoch}, {"dev_organ_f1", n.dev * epoch / 2}});
  return {
      {"config", {{"fusion", {{"type", n.fusion}}}, {"training", {{"seed", n.seed}}}, {"device", "auto"}}},
      {"metrics",
       {{"train", {{"history", history}}},
        {"dev", {{"dev_organ_f1", n.dev}}},
        {"test", {{"test_organ_f1", n.test}}},
        {"best_epoch", 2}}},
      {"models", {{"teacher", nullptr}, {"student", {{"vision", "vit"}, {"text", "bert"}, {"params_millions", 1.5}}}}},
      {"fusion", {{"type", n.fusion}}},
      {"loss", {{"type", "combined"}}},
      {"data", {{"tasks", {{{"key", "organ"}, {"label", "Organ"}, {"classes", {"heart", kHostile}}}}}}},
      {"seed", n.seed}};
}

Json full_result(const Numbers& n) {
  auto result = plain_result(n);
  result["models"]["teacher"] = {{"vision", "vit-large"}, {"text", "bert"}, {"params_millions", 30.0}};
  result["metrics"]["teacher"] = {{"dev", {{"dev_organ_f1", 0.8}}}, {"test", {{"test_organ_f1", 0.7}}}};
  result["details"]["student"]["test"]["tasks"] = {
      {{"task", "organ"}, {"classes", {"heart", kHostile}}, {"confusion", {{3, 1}, {2, 4}}}}};
  auto& studies = result["studies"];
  studies["size"]["student"] = {{"mb_fp32", 6.0}, {"flops_per_sample", 2e6}};
  studies["size"]["teacher"] = {{"mb_fp32", 120.0}};
  studies["calibration"]["student"]["organ"] = {
      {"temperature", 1.5}, {"before", {{"ece", 0.2}, {"nll", 0.9}}}, {"after", {{"ece", 0.1}, {"nll", 0.8}}}};
  studies["routing"]["student"]["test"] = {{"shares", {{"image", 0.25}, {"joint", 0.75}}}, {"expected_energy", 2.0}};
  studies["mcnemar"]["organ"] = {{"only_teacher_right", 4}, {"only_student_right", 1}, {"p_exact", 0.375}};
  studies["agreement"]["organ"] = 0.6;
  studies["robustness"]["student"]["no_text"] = {{"mean_f1", 0.3}};
  result["keys"] = {{"teacher", "shared"}, {"student", fmt::format("own-{}", n.seed)}};
  result["timing"] = {{"seconds", {{"teacher", n.seed == 0 ? 90.0 : 0.5}, {"student", 10.0}}},
                      {"reused", {{"teacher", n.seed != 0}, {"student", false}}},
                      {"latency", {{"student", {{"median_ms", 2.0}}}}}};
  return result;
}

FinishedRun run_of(std::vector<Json> results, const std::string& name = "run") {
  const std::vector<fs::path> folders(results.size(), "/nowhere");
  return {.name = name, .folder = "/nowhere", .folders = folders, .results = std::move(results)};
}

Json model_of(std::vector<FinishedRun> runs) {
  return report_model({.runs = std::move(runs), .left_out = {}}, {},
                      {.title = "Report", .made = "2026-01-31T08:30:00Z"});
}

TEST(ReportModel, GathersTheSeedsOfARun) {
  const auto model = model_of({run_of({full_result({.seed = 0, .test = 0.4}), full_result({.seed = 1, .test = 0.6})})});
  const auto& run = model.at("runs").at(0);
  EXPECT_EQ(run.at("seeds"), Json::parse("[0, 1]"));
  EXPECT_DOUBLE_EQ(run.at("scores").at("test").at("organ").at("mean").get<double>(), 0.5);
  EXPECT_NEAR(run.at("scores").at("test").at("mean").at("std").get<double>(), 0.1414213562, 1e-9);
  EXPECT_EQ(run.at("confusion").at(0).at("counts"), Json::parse("[[6, 2], [4, 8]]")) << "summed over the seeds";
  EXPECT_EQ(run.at("epochs").size(), 2U);
  EXPECT_EQ(run.at("epochs").at(0).at("rows"), Json::parse("[[1.0, 3.0, 0.25], [2.0, 1.5, 0.5]]"));
  EXPECT_EQ(run.at("mcnemar").size(), 2U) << "p values have no mean";
  EXPECT_DOUBLE_EQ(run.at("agreement").at(0).at("share").at("mean").get<double>(), 0.6);
  EXPECT_DOUBLE_EQ(run.at("mflops").at("mean").get<double>(), 2.0);
}

TEST(ReportModel, LeavesOutWhatTheRunsDoNotHave) {
  const auto model = model_of({run_of({plain_result({})})});
  const auto& run = model.at("runs").at(0);
  for (const char* part : {"confusion", "calibration", "mcnemar", "agreement", "routing", "robustness", "stages", "mb",
                           "latency_ms", "teacher"})
    EXPECT_FALSE(run.contains(part)) << part;
  EXPECT_FALSE(model.contains("config")) << "one run differs from none";
  EXPECT_FALSE(model.contains("samples"));
  const auto full = model_of({run_of({full_result({})})}).at("runs").at(0);
  for (const char* part : {"confusion", "calibration", "mcnemar", "agreement", "routing", "robustness", "stages", "mb",
                           "latency_ms", "teacher"})
    EXPECT_TRUE(full.contains(part)) << part;
}

TEST(ReportModel, ShowsTheKeysThatDifferAlone) {
  const auto model = model_of(
      {run_of({plain_result({.fusion = "gated"})}, "a"),
       run_of({plain_result({.seed = 0, .fusion = "film"}), plain_result({.seed = 1, .fusion = "film"})}, "b")});
  EXPECT_EQ(model.at("config"), Json::parse(R"([{"key": "fusion.type", "values": ["gated", "film"]},
                                                {"key": "training.seed", "values": ["0", "0, 1"]}])"));
}

TEST(ReportModel, TellsWhatSharingSaved) {
  const auto shared = model_of({run_of({full_result({.seed = 0}), full_result({.seed = 1})})});
  EXPECT_DOUBLE_EQ(shared.at("saved").at("seconds").get<double>(), 90) << "what the teacher took in seed 0";
  EXPECT_EQ(shared.at("saved").at("stages"), 1);
  const auto& teacher = shared.at("runs").at(0).at("stages").at(1).at("stages").at(0);
  EXPECT_EQ(teacher, Json::parse(R"({"stage": "teacher", "seconds": 0.5, "reused": true, "built": 90.0})"));
  const auto unknown = model_of({run_of({full_result({.seed = 1})})}).at("saved");
  EXPECT_EQ(unknown.at("stages"), 0);
  EXPECT_EQ(unknown.at("unknown"), 1) << "the run that built it is not among them";
}

TEST(ReportModel, KnowsWhatStagesTookThatOthersBuilt) {
  auto result = full_result({.seed = 1});  // reuses its teacher
  result["timing"]["built_seconds"] = {{"teacher", 30.0}};
  const auto saved = model_of({run_of({result, result, result})}).at("saved");
  EXPECT_DOUBLE_EQ(saved.at("seconds").get<double>(), 2 * 30.0 + 2 * 10.0) << "each time but the first";
  EXPECT_EQ(saved.at("stages"), 4);
}

TEST(ReportModel, TakesTheTeacherWhereThereIsNoStudent) {
  auto result = plain_result({});
  result["models"] = {{"student", nullptr}, {"teacher", {{"params_millions", 30.0}}}};
  const auto run = model_of({run_of({result})}).at("runs").at(0);
  EXPECT_EQ(run.at("main"), "teacher");
  EXPECT_EQ(run.at("loss"), "teacher only");
  EXPECT_DOUBLE_EQ(run.at("parameters_m").at("mean").get<double>(), 30);
  EXPECT_FALSE(run.contains("teacher"));
}

/// The text between the JSON block's tags.
std::string data_block(const std::string& page) {
  const std::string begin = "id=\"report-data\">";
  const auto from = page.find(begin) + begin.size();
  return page.substr(from, page.find("</script>", from) - from);
}

TEST(ReportPage, KeepsHostileNamesInTheirPlace) {
  auto run = run_of({full_result({.fusion = kHostile})}, kHostile);
  const auto model = model_of({run});
  const auto page = report_page(model);
  EXPECT_EQ(page.find("<img"), std::string::npos);
  EXPECT_EQ(Json::parse(data_block(page)), model) << "the same data comes out of the block";
  EXPECT_EQ(data_block(page).find('<'), std::string::npos);
  EXPECT_NE(page.find("onerror=alert(1)&gt;&amp;&quot;&#39;"), std::string::npos);
  const std::regex ends("</script", std::regex::icase);
  EXPECT_EQ(std::distance(std::sregex_iterator(page.begin(), page.end(), ends), {}), 3)
      << "the data, Chart.js and the page's own script";
}

TEST(ReportPage, LoadsNothing) {
  const auto page = report_page(model_of({run_of({full_result({})})}));
  EXPECT_NE(page.find("content=\"default-src 'none'; img-src data:;"), std::string::npos);
  for (const char* load : {"src=\"", "href=\"http", "url(", "@import", "<link", "<iframe", "sourceMappingURL"})
    EXPECT_EQ(page.find(load), std::string::npos) << load;
  EXPECT_NE(page.find("Chart.js v3"), std::string::npos);
}

TEST(ReportPage, HasTheTableOfTheRunsWithoutJavaScript) {
  const auto page =
      report_page(model_of({run_of({full_result({.test = 0.4}), full_result({.seed = 1, .test = 0.6})}, "a"),
                            run_of({full_result({.test = 0.45})}, "b")}));
  EXPECT_NE(page.find("0.500 ± 0.141"), std::string::npos);
  EXPECT_NE(page.find("<strong>0.500 ± 0.141<span class=\"hidden\"> (highest)"), std::string::npos);
  EXPECT_NE(page.find("2 runs, 3 with their seeds"), std::string::npos);
  EXPECT_NE(page.find("<time datetime=\"2026-01-31T08:30:00Z\">2026-01-31 08:30 UTC</time>"), std::string::npos);
  EXPECT_NE(page.find("<noscript>"), std::string::npos);
  for (const char* column : {"Latency (ms)", "Size (MB)", "Parameters (M)", "Towers"})
    EXPECT_NE(page.find(fmt::format(">{}</th>", column)), std::string::npos) << column;
}

TEST(ReportPage, NamesWhatIsLeftOut) {
  const auto model = report_model({.runs = {run_of({plain_result({})})}, .left_out = {"logs/<b>"}}, {}, {});
  EXPECT_NE(report_page(model).find("<code>logs/&lt;b&gt;</code>"), std::string::npos);
}

TEST(ReportPage, HoldsPicturesAsDataUris) {
  Samples samples{.split = "test", .chosen_by = 0, .wrong = 1, .rows = 2};
  samples.cards = {{.id = "a", .truths = {"heart"}, .text = "seen", .jpeg = "\xff\xd8\xff"},
                   {.id = "b", .truths = {"heart"}}};
  samples.speakers = {
      {.run = 0, .model = "student", .said = {PredictedSample{"a", {{"organ", "heart", "lung", 0.75}}}, std::nullopt}}};
  const auto model = report_model({.runs = {run_of({plain_result({})})}, .left_out = {}}, samples, {});
  const auto& shown = model.at("samples");
  EXPECT_EQ(shown.at("cards").at(0).at("picture"), "data:image/jpeg;base64,/9j/");
  EXPECT_FALSE(shown.at("cards").at(1).contains("picture"));
  EXPECT_EQ(shown.at("speakers").at(0).at("said").at(0).at(0).at("predicted"), "lung");
  EXPECT_TRUE(shown.at("speakers").at(0).at("said").at(1).is_null());
}

// ---------------------------------------------------------------- samples

PredictedSample predicted(const std::string& id, bool right, double probability) {
  return {id, {{"organ", "heart", right ? "heart" : "lung", probability}}};
}

TEST(ChooseSamples, TakesTheSurestErrorsAndRightOnesFromEverywhere) {
  const std::vector<PredictedSample> rows{
      predicted("0", true, 0.9), predicted("1", false, 0.6), predicted("2", true, 0.9), predicted("3", false, 0.9),
      predicted("4", true, 0.9), predicted("5", false, 0.7), predicted("6", true, 0.9)};
  EXPECT_EQ(choose_samples(rows, 4), (std::vector<std::size_t>{0, 3, 4, 5}));
  EXPECT_EQ(choose_samples(rows, 4), choose_samples(rows, 4));
  EXPECT_EQ(choose_samples(rows, 20).size(), 7U);
}

TEST(ChooseSamples, FillsUpWithTheOtherKind) {
  const std::vector<PredictedSample> right(5, predicted("r", true, 0.9)), wrong(5, predicted("w", false, 0.9));
  EXPECT_EQ(choose_samples(right, 4).size(), 4U);
  EXPECT_EQ(choose_samples(wrong, 4).size(), 4U);
  EXPECT_TRUE(choose_samples({}, 4).empty());
}

class SampleFiles : public ::testing::Test {
 protected:
  SampleFiles() {
    run_ = run_of({plain_result({})});
    run_.folder = folder_.path();
    run_.folders = {folder_.path()};
  }
  void write(const std::string& text) { std::ofstream(folder_ / "predictions_test.csv") << text; }
  test::TempFolder folder_;
  FinishedRun run_;
};

TEST_F(SampleFiles, AreReadWithClassesOfAnyName) {
  write("id,organ_true,organ_pred,organ_p_heart," + csv_line({fmt::format("organ_p_{}", kHostile)}) + "\n1,heart," +
        csv_line({kHostile}) + ",0.25,0.75\n");
  const auto rows = read_predictions(folder_ / "predictions_test.csv", {"organ"});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].tasks[0].predicted, kHostile);
  EXPECT_DOUBLE_EQ(rows[0].tasks[0].probability, 0.75);
  EXPECT_FALSE(rows[0].right());
}

TEST_F(SampleFiles, OfAnotherKindAreRefused) {
  const auto read = [&](const std::string& text) {
    write(text);
    return read_predictions(folder_ / "predictions_test.csv", {"organ"});
  };
  EXPECT_THROW(read("id,organ_true\n1,heart\n"), Error);
  EXPECT_THROW(read("id,organ_true,organ_pred,organ_p_heart\n1,heart,heart,many\n"), Error);
  EXPECT_THROW(read("id,organ_true,organ_pred,organ_p_heart\n1,heart\n"), Error);
}

TEST_F(SampleFiles, AreShownWithoutPicturesWhereTheDataIsGone) {
  write("id,organ_true,organ_pred,organ_p_heart\na,heart,heart,0.9\n");
  const auto samples = collect_samples({run_});
  ASSERT_EQ(samples.cards.size(), 1U);
  EXPECT_FALSE(samples.cards[0].jpeg.has_value());
  ASSERT_EQ(samples.speakers.size(), 1U);
  EXPECT_FALSE(samples.notes.empty()) << "what is missing is said";
}

TEST_F(SampleFiles, AreNotMixedWithThoseOfOtherSamples) {
  write("id,organ_true,organ_pred,organ_p_heart\na,heart,heart,0.9\n");
  const test::TempFolder other;
  std::ofstream(other / "predictions_test.csv") << "id,organ_true,organ_pred,organ_p_heart\na,lung,heart,0.9\n";
  auto second = run_of({plain_result({.dev = 0.1})});
  second.folders = {other.path()};
  const auto samples = collect_samples({run_, second});
  EXPECT_EQ(samples.speakers.size(), 1U) << "sample a of the other run has another true class";
}

TEST_F(SampleFiles, ThatAreGoneLeaveNothing) { EXPECT_TRUE(collect_samples({run_}).cards.empty()); }

}  // namespace
}  // namespace mmkd
