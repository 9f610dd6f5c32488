#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "mmkd/base/files.h"
#include "mmkd/report/events.h"
#include "mmkd/report/metrics_files.h"
#include "mmkd/report/progress.h"
#include "mmkd/report/results.h"
#include "mmkd/report/scores.h"
#include "mmkd/report/tensorboard.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

SplitScores two_tasks() {
  SplitScores scores{.split = "dev", .tasks = {}, .infer_ms = 1.5};
  const std::vector<std::int32_t> y{0, 1, 1, 0}, p{0, 1, 0, 0};
  const std::vector<double> prob{.9, .1, .2, .8, .6, .4, .7, .3};
  scores.tasks.push_back({"modality", {"CT", "MR, \"T2\""}, score_classification(y, p, prob, 2)});
  const std::vector<std::int32_t> only{0, 0, 0, 0};
  scores.tasks.push_back({"location", {"Head", "Thorax"}, score_classification(only, only, prob, 2)});
  return scores;
}

TEST(FlatMetrics, NamesKeysBySplitTaskAndMeasure) {
  const auto row = flat_metrics(two_tasks());
  EXPECT_DOUBLE_EQ(row.at("dev_modality_acc").get<double>(), 0.75);
  EXPECT_TRUE(row.at("dev_location_auc").is_null()) << "one class only";
  EXPECT_DOUBLE_EQ(row.at("dev_infer_ms").get<double>(), 1.5);
  EXPECT_EQ(row.size(), 11U);
}

TEST(SplitScores, SurviveTheWayThroughJson) {
  const auto scores = two_tasks();
  const auto back = split_scores_from_json(nlohmann::ordered_json::parse(to_json(scores).dump()));
  EXPECT_EQ(to_json(back).dump(), to_json(scores).dump());
  EXPECT_DOUBLE_EQ(back.mean_f1(), scores.mean_f1());
}

TEST(MetricsFiles, LeaveUndefinedNumbersEmptyInCsvAndNullInJson) {
  const test::TempFolder folder;
  EpochRecord record{
      .epoch = 1, .learning_rate = 3e-4, .losses = {{"train_loss", 2.5}, {"loss_ce", 2.0}}, .dev = two_tasks()};
  write_metrics(folder.path(), "metrics", {epoch_row(record)});
  const std::string csv = read_file(folder / "metrics.csv");
  EXPECT_EQ(csv.substr(0, csv.find('\n')),
            "epoch,learning_rate,train_loss,loss_ce,dev_modality_acc,dev_modality_f1,dev_modality_prec,dev_modality_"
            "rec,dev_modality_auc,"
            "dev_location_acc,dev_location_f1,dev_location_prec,dev_location_rec,dev_location_auc,dev_infer_ms");
  EXPECT_NE(csv.find(",1.0,1.0,1.0,1.0,,1.5\n"), std::string::npos) << csv;
  const auto json = nlohmann::json::parse(read_file(folder / "metrics.json"));
  EXPECT_TRUE(json.at(0).at("dev_location_auc").is_null());
}

TEST(MetricsFiles, KeepColumnsOfRowsThatDiffer) {
  const test::TempFolder folder;
  write_metrics(folder.path(), "m", {{{"a", 1}, {"b", 2}}, {{"a", 3}, {"c", 4}}});
  EXPECT_EQ(read_file(folder / "m.csv"), "a,b,c\n1,2,\n3,,4\n");
}

TEST(ConfusionMatrices, QuoteClassNames) {
  const test::TempFolder folder;
  write_confusion_matrices(folder.path(), "", two_tasks());
  EXPECT_EQ(read_file(folder / "confusion_dev_modality.csv"),
            "true\\predicted,CT,\"MR, \"\"T2\"\"\"\nCT,2,0\n\"MR, \"\"T2\"\"\",1,1\n");
}

TEST(ScoreTable, HasALinePerModelSplitAndTask) {
  const auto table = score_table({{"student", two_tasks()}});
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3);
  EXPECT_NE(table.find("student  dev   modality"), std::string::npos) << table;
}

TEST(Crc32c, GivesTheKnownAnswers) {
  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
}

TEST(Results, HoldTheSectionsThatReadersKnow) {
  RunResults results;
  results.timestamp = "2026-01-01T00:00:00Z";
  results.student = {{"dev", two_tasks()}};
  results.student_model = ModelResults{.vision = "vit",
                                       .text = "bert",
                                       .fusion_layers = 1,
                                       .vision_params = 10,
                                       .text_params = 20,
                                       .total_params = 1500000};
  results.stages = {{"pack", "abc", true, 0.5}};
  const auto json = to_json(results);
  for (const char* section : {"timestamp", "config", "metrics", "models", "training", "data", "fusion", "loss", "keys",
                              "world", "versions", "timing"}) {
    EXPECT_TRUE(json.contains(section)) << section;
  }
  EXPECT_DOUBLE_EQ(json["models"]["student"]["params_millions"].get<double>(), 1.5);
  EXPECT_DOUBLE_EQ(json["metrics"]["dev"]["dev_modality_acc"].get<double>(), 0.75);
  EXPECT_TRUE(json["metrics"]["test"].is_null());
  EXPECT_TRUE(json["models"]["teacher"].is_null());
  EXPECT_EQ(json["keys"]["pack"], "abc");
}

TEST(SummarizeSeeds, GivesMeanAndSampleDeviationOfEveryMetric) {
  const auto run = [](int seed, double student, double teacher) {
    return nlohmann::ordered_json::parse(fmt::format(
        R"({{"seed": {}, "models": {{"student": {{}}, "teacher": {{}}}},
             "metrics": {{"dev": {{"dev_site_f1": {}, "dev_infer_ms": 3.0}},
                          "test": {{"test_site_f1": 0.5}},
                          "teacher": {{"dev": {{"dev_site_f1": {}}}, "test": {{}}}}}}}})",
        seed, student, teacher));
  };
  const auto summary = summarize_seeds({run(3, 0.2, 0.9), run(5, 0.4, 0.9), run(8, 0.9, 0.9)});
  EXPECT_EQ(summary.at("seeds"), nlohmann::ordered_json::parse("[3, 5, 8]"));
  const auto& site = summary.at("student").at("dev_site_f1");
  EXPECT_NEAR(site.at("mean").get<double>(), 0.5, 1e-12);
  EXPECT_NEAR(site.at("std").get<double>(), std::sqrt((0.09 + 0.01 + 0.16) / 2), 1e-12);
  EXPECT_EQ(site.at("values").size(), 3U);
  EXPECT_NEAR(summary.at("teacher").at("dev_site_f1").at("std").get<double>(), 0, 1e-12);
  EXPECT_FALSE(summary.at("student").contains("dev_infer_ms"));
}

TEST(SummarizeSeeds, OfOneSeedHasNoDeviation) {
  const auto result = nlohmann::ordered_json::parse(
      R"({"seed": 1, "models": {"student": null}, "metrics": {"dev": {"dev_a_f1": 0.5}, "test": {}}})");
  const auto summary = summarize_seeds({result});
  EXPECT_EQ(summary.at("teacher").at("dev_a_f1").at("std"), 0.0);
  EXPECT_FALSE(summary.contains("student"));
}

TEST(Progress, EstimatesTheRestFromThisProcessAlone) {
  // 10 of 100 steps were there before; 30 more took 60 s, so 60 more take 120 s.
  const auto line = Progress::line(
      {.title = "teacher", .first = 10, .done = 40, .total = 100, .samples = 600, .seconds = 60, .detail = "loss 1.5"});
  EXPECT_EQ(line, "teacher  [########............] 40/100  10.0 samples/s  2:00 left  loss 1.5");
}

TEST(Progress, TellsTheRateOfARank) {
  const auto line = Progress::line({.title = "student",
                                    .first = 0,
                                    .done = 10,
                                    .total = 10,
                                    .samples = 600,
                                    .ranks = 4,
                                    .seconds = 3,
                                    .detail = ""});
  EXPECT_EQ(line, "student  [####################] 10/10  200.0 samples/s (50.0 a rank)");
}

TEST(Progress, AsksForDetailsOnlyWhenItShowsThem) {
  const test::TempFolder folder;
  std::FILE* stream = std::fopen((folder / "out").c_str(), "w");
  ASSERT_NE(stream, nullptr);
  int asked = 0;
  {
    Progress progress(stream, false, "teacher", 1000);
    for (int i = 1; i <= 1000; ++i) progress.update(i, i, [&] { return ++asked, std::string("detail"); });
  }
  std::fclose(stream);
  EXPECT_EQ(asked, 1);
}

TEST(EventLog, AppendsALineForEachEvent) {
  const test::TempFolder folder;
  EventLog(folder / "events.jsonl").write({{"event", "epoch"}, {"dev_mean_f1", 0.5}});
  EventLog log(folder / "events.jsonl");
  log.write({{"event", "text"}, {"text", "a\nb\xff"}});
  std::istringstream lines(read_file(folder / "events.jsonl"));
  std::string first, second, rest;
  ASSERT_TRUE(std::getline(lines, first) && std::getline(lines, second));
  EXPECT_FALSE(std::getline(lines, rest));
  const auto event = nlohmann::json::parse(first);
  EXPECT_EQ(event.at("event"), "epoch");
  EXPECT_GT(event.at("time").get<double>(), 1.6e9);
  EXPECT_EQ(nlohmann::json::parse(second).at("event"), "text");
}

TEST(EventLog, ThatCannotBeWrittenStopsNothing) {
  const test::TempFolder folder;
  EXPECT_NO_THROW(EventLog(folder / "no/such/folder/events.jsonl").write({{"event", "x"}}));
}

TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  const test::TempFolder folder;
  const auto path = folder / "out";
  std::FILE* stream = std::fopen(path.c_str(), "w");
  ASSERT_NE(stream, nullptr);
  {
    Progress progress(stream, false, "pack", 2);
    progress.update(1, 1);
    progress.update(2, 2);
  }
  std::fclose(stream);
  const std::string text = read_file(path);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

}  // namespace
}  // namespace mmkd
