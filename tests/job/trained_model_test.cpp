#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/support/small_job.h"

// What is done with a trained model: mmkd eval, predict and weights, on a run's folder and on its weights alone.
namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

std::vector<Row> lines_of(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<Row> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(Row::parse(line));
  return lines;
}

/// Scores of each task but those that rounding reaches.
nlohmann::ordered_json tasks_of(const nlohmann::ordered_json& scores) {
  auto tasks = scores.at("tasks");
  EXPECT_EQ(tasks.size(), 2U);
  for (auto& task : tasks) task.erase("auc");
  return tasks;
}

/// The lines of `mmkd weights inspect` that name a tensor, in their order.
std::vector<std::string> tensor_lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with(']') && contains(line, "  [")) lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

/// A small job that ran to its end.
class TrainedJob {
 public:
  explicit TrainedJob(const std::vector<std::string>& sets = {}) {
    const auto packed = job.pack(sets);
    EXPECT_EQ(packed.exit_code, 0) << packed.all();
    const auto trained = job.ddp(2, sets);
    EXPECT_EQ(trained.exit_code, 0) << trained.all();
  }

  ProcessResult mmkd(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), MMKD_TOOL);
    return run(arguments, job.options());
  }

  /// Predictions of the rows that `table` names, one JSON object each.
  std::vector<Row> predict(const std::string& table, std::vector<std::string> arguments = {}) const {
    arguments.insert(arguments.begin(), {"predict", "logs/run", "--input", table, "--out", "out.jsonl"});
    const auto result = mmkd(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.all();
    return lines_of(job / "out.jsonl");
  }

  void expect_usage_error(const std::vector<std::string>& arguments, const std::vector<std::string>& parts) const {
    const auto result = mmkd(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.all();
    for (const auto& part : parts) EXPECT_TRUE(contains(result.err, part)) << result.all();
  }

  SmallJob job{40, 12, 20};
};

TEST(Eval, RepeatsTheScoresOfTheRun) {
  const TrainedJob trained;
  const auto results = json_of(trained.job / "logs/run/results.json");
  for (const std::string role : {"student", "teacher"}) {
    for (const std::string split : {"dev", "test"}) {
      const auto result = trained.mmkd({"eval", "logs/run", "--model", role, "--split", split, "--out", "scores.json"});
      ASSERT_EQ(result.exit_code, 0) << result.all();
      EXPECT_EQ(tasks_of(json_of(trained.job / "scores.json").at("scores").at(split)),
                tasks_of(results.at("details").at(role).at(split)))
          << role << " " << split;
    }
  }
  // The weights alone are enough, on other data than the run's and on several ranks.
  fs::copy_file(trained.job / "logs/run/student_best.safetensors", trained.job / "mine.safetensors");
  trained.expect_usage_error({"eval", "mine.safetensors"}, {"mine.safetensors", "--packed"});
  const auto result = run(on_ranks(2, {MMKD_TOOL, "eval", "mine.safetensors", "--packed",
                                       trained.job.artifact("pack").string(), "--robustness", "--out", "scores.json"}),
                          trained.job.options());
  ASSERT_EQ(result.exit_code, 0) << result.all();
  const auto scores = json_of(trained.job / "scores.json").at("scores");
  EXPECT_GE(scores.size(), 6U) << scores.dump(1);
  const auto expected = tasks_of(results.at("details").at("student").at("test"));
  EXPECT_EQ(tasks_of(scores.at("test")), expected);
}

TEST(Eval, RefusesDataThatIsNotTheModels) {
  const TrainedJob trained;
  auto rows = trained.job.rows("train");
  rows[0]["site"] = "elsewhere";
  trained.job.write_rows("train", rows);
  const auto packed = trained.job.pack({"artifacts.root=other"});
  ASSERT_EQ(packed.exit_code, 0) << packed.all();
  const auto folder = (*fs::directory_iterator(trained.job / "other/pack")).path().string();
  trained.expect_usage_error({"eval", "logs/run", "--packed", folder}, {"site", "tasks or classes"});
  trained.expect_usage_error({"eval", "logs/nowhere"}, {"logs/nowhere", "no trained model"});
  trained.expect_usage_error({"eval", "logs/run", "--split", "tset"}, {"--split"});
}

TEST(Predict, GivesWhatTheRunPredicted) {
  const TrainedJob trained;
  const auto lines = trained.predict("data/test.jsonl", {"--batch-size", "7"});
  const auto rows = trained.job.rows("test");
  ASSERT_EQ(lines.size(), rows.size());
  std::map<std::string, Row> by_id;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(lines[i].at("id"), rows[i].at("id")) << "the order of the table";
    by_id[rows[i].at("id")] = lines[i].at("predictions");
  }
  std::ifstream csv(trained.job / "logs/run/predictions_test.csv");
  std::string header, line;
  ASSERT_TRUE(std::getline(csv, header));
  std::vector<std::string> columns;
  std::istringstream names(header);
  for (std::string cell; std::getline(names, cell, ',');) columns.push_back(cell);
  std::size_t compared = 0;
  while (std::getline(csv, line)) {
    std::map<std::string, std::string> cells;
    std::istringstream values(line);
    std::string cell;
    for (const auto& column : columns) {
      ASSERT_TRUE(std::getline(values, cell, ','));
      cells[column] = cell;
    }
    const auto& predicted = by_id.at(cells.at("id"));
    for (const std::string task : {"shape", "site"}) {
      ASSERT_TRUE(cells.contains(task + "_pred")) << header;
      EXPECT_EQ(predicted.at(task).at("class"), cells.at(task + "_pred"));
      double best = 0;
      for (const auto& [name, p] : predicted.at(task).at("probabilities").items()) {
        EXPECT_NEAR(p.get<double>(), std::stod(cells.at(task + "_p_" + name)), 2e-5);
        best = std::max(best, p.get<double>());
      }
      EXPECT_EQ(best, predicted.at(task).at("probability"));
      ++compared;
    }
  }
  EXPECT_EQ(compared, 2 * rows.size());
}

TEST(Predict, TakesRowsWithoutImageOrText) {
  const TrainedJob trained;
  const auto rows = trained.job.rows("test");
  const auto image = rows[0].at("image").get<std::string>();
  const auto text = rows[0].at("text").get<std::string>();
  trained.job.write("data/some.csv", "name,picture,words\nboth," + image + ",\"" + text + "\"\nno text," + image +
                                         ",\nno image,,\"" + text + "\"\n");
  const auto lines =
      trained.predict("data/some.csv", {"--id-column", "name", "--image-column", "picture", "--text-column", "words"});
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_FALSE(lines[0].contains("missing"));
  EXPECT_EQ(lines[1].at("missing"), Row({"text"}));
  EXPECT_EQ(lines[2].at("missing"), Row({"image"}));
  for (std::size_t i : {1U, 2U}) EXPECT_NE(lines[i].at("predictions"), lines[0].at("predictions"));
  // A row does not depend on those beside it.
  trained.job.write("data/one.jsonl", Row({{"id", "both"}, {"image", image}, {"text", text}}).dump() + "\n");
  const auto alone = trained.predict("data/one.jsonl");
  ASSERT_EQ(alone.size(), 1U);
  for (const std::string task : {"shape", "site"})
    EXPECT_NEAR(alone[0].at("predictions").at(task).at("probability").get<double>(),
                lines[0].at("predictions").at(task).at("probability").get<double>(), 1e-5);
}

TEST(Predict, EndsAtARowThatCannotBeUsedOrSaysSoInItsPlace) {
  const TrainedJob trained;
  const auto good = trained.job.rows("test")[0];
  auto missing = good, empty = good;
  missing["image"] = "images/none.png";
  empty["image"] = nullptr;
  empty["text"] = "";
  trained.job.write("data/bad.jsonl",
                    good.dump() + "\n" + missing.dump() + "\n{broken\n" + empty.dump() + "\n" + good.dump() + "\n");
  const std::vector<std::string> command{"predict", "logs/run", "--input", "data/bad.jsonl", "--out", "out.jsonl"};
  const auto refused = trained.mmkd(command);
  EXPECT_EQ(refused.exit_code, 1) << refused.all();
  EXPECT_TRUE(contains(refused.err, "bad.jsonl:3")) << refused.all();
  EXPECT_FALSE(fs::exists(trained.job / "out.jsonl"));
  const auto lines = trained.predict("data/bad.jsonl", {"--skip-bad-rows"});
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_EQ(lines[0], lines[4]);
  EXPECT_TRUE(contains(lines[1].at("error").get<std::string>(), "images/none.png")) << lines[1].dump();
  EXPECT_TRUE(contains(lines[2].at("where").get<std::string>(), "bad.jsonl:3")) << lines[2].dump();
  EXPECT_TRUE(contains(lines[3].at("error").get<std::string>(), "neither")) << lines[3].dump();
  trained.job.write("data/none.csv", "id,picture\n1,images/x.png\n");
  const auto columns = trained.mmkd({"predict", "logs/run", "--input", "data/none.csv", "--out", "other.jsonl"});
  EXPECT_NE(columns.exit_code, 0);
  EXPECT_TRUE(contains(columns.err, "picture")) << columns.all();
}

TEST(Predict, OfATextModelNeedsTexts) {
  const TrainedJob trained({"student.modality=text"});
  const auto row = trained.job.rows("test")[0];
  trained.job.write("data/text.jsonl", Row({{"id", "a"}, {"text", row.at("text")}}).dump() + "\n");
  const auto lines = trained.predict("data/text.jsonl");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_FALSE(lines[0].contains("missing"));
  trained.job.write("data/image.jsonl", Row({{"id", "a"}, {"image", row.at("image")}}).dump() + "\n");
  const auto refused = trained.mmkd({"predict", "logs/run", "--input", "data/image.jsonl", "--out", "x.jsonl"});
  EXPECT_EQ(refused.exit_code, 1) << refused.all();
  EXPECT_TRUE(contains(refused.err, "there is no text")) << refused.all();
}

TEST(Weights, AreInspectedConvertedAndExported) {
  const TrainedJob trained;
  const std::string best = "logs/run/student_best.safetensors";
  const auto inspected = trained.mmkd({"weights", "inspect", best});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.all();
  for (const std::string part : {"mmkd_model: both, vision vit-1x16, text bert-1x16, fusion simple", "F32", "tensors"})
    EXPECT_TRUE(contains(inspected.out, part)) << part << " in\n" << inspected.out;

  // There and back: the same values under the same names.
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {best, "a.pth"}, {"a.pth", "b.safetensors"}, {"b.safetensors", "c.pth"}}) {
    const auto result = trained.mmkd({"weights", "convert", from, to});
    ASSERT_EQ(result.exit_code, 0) << result.all();
  }
  const auto tensors = tensor_lines(inspected.out);
  EXPECT_GT(tensors.size(), 40U);
  for (const std::string file : {"a.pth", "b.safetensors", "c.pth"})
    EXPECT_EQ(tensor_lines(trained.mmkd({"weights", "inspect", file}).out), tensors) << file;
  EXPECT_EQ(trained.job.read("a.pth"), trained.job.read("c.pth"));
  trained.expect_usage_error({"weights", "convert", best, "a.txt"}, {"a.txt", ".safetensors or .pth"});

  for (int time = 0; time < 2; ++time) {
    const auto exported = trained.mmkd({"weights", "export", "logs/run", "--out", "exported"});
    ASSERT_EQ(exported.exit_code, 0) << exported.all();
  }
  for (const std::string file :
       {"vision/config.json", "vision/model.safetensors", "vision/preprocessor_config.json", "text/config.json",
        "text/model.safetensors", "text/vocab.txt", "model.safetensors", "model.pth"})
    EXPECT_TRUE(fs::exists(trained.job / "exported" / file)) << file;
  // The exported model is one that can be used.
  const auto scores =
      trained.mmkd({"eval", "exported/model.safetensors", "--packed", trained.job.artifact("pack").string()});
  EXPECT_EQ(scores.exit_code, 0) << scores.all();
  trained.job.write("mine/notes.txt", "kept");
  trained.expect_usage_error({"weights", "export", "logs/run", "--out", "mine"}, {"mine", "no exported model"});
  EXPECT_EQ(trained.job.read("mine/notes.txt"), "kept");
  trained.expect_usage_error({"weights", "export", "a.pth", "--out", "x"}, {"a.pth", "says nothing about its model"});
}

}  // namespace
}  // namespace mmkd::test
