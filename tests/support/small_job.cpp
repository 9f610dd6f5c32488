#include "tests/support/small_job.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <set>
#include <sstream>

namespace mmkd::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = R"(data:
  type: table
  root: data
  batch_size: 16
  num_workers: 1
  max_length: 24
  samples_per_shard: 32
  table: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
  tasks: [shape, site]
teacher:
  vision: {family: vit, image_size: 32, patch_size: 8, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
  text: {family: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 32}
  tokenizer: vocab.txt
  fusion_layers: 1
  fusion_dim: 32
  fusion_heads: 2
student:
  vision: {family: vit, image_size: 32, patch_size: 8, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}
  text: {family: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 32}
  tokenizer: vocab.txt
  fusion_layers: 1
  fusion_dim: 16
  fusion_heads: 2
training: {teacher_epochs: 1, student_epochs: 2, teacher_lr: 1.0e-3, student_lr: 1.0e-3}
loss: {type: combined}
logging: {log_dir: logs/run}
)";

/// Words and punctuation of a caption, as BERT's pre-tokenizer would split plain ASCII.
void add_words(const std::string& text, std::set<std::string>& words) {
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    if (!word.empty()) words.insert(word);
    word.clear();
    if (std::ispunct(static_cast<unsigned char>(c)) != 0) words.insert(std::string(1, c));
  }
}

std::vector<Row> rows_of(const fs::path& file) {
  std::ifstream lines(file);
  std::vector<Row> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(Row::parse(line));
  return rows;
}

}  // namespace

SmallJob::SmallJob(std::size_t train, std::size_t dev, std::size_t test) {
  fs::create_directories(folder_ / "data/images");
  std::set<std::string> words;
  for (const auto& [split, count] :
       std::map<std::string, std::size_t>{{"train", train}, {"dev", dev}, {"test", test}}) {
    auto kept = rows_of(fs::path(MMKD_TEST_DATA) / (split + ".jsonl"));
    kept.resize(count);
    for (const auto& row : kept) {
      add_words(row.at("text").get<std::string>(), words);
      const auto image = row.at("image").get<std::string>();
      fs::copy_file(fs::path(MMKD_TEST_DATA) / image, folder_ / ("data/" + image));
    }
    write_rows(split, kept);
  }
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (const auto& word : words) vocabulary += word + "\n";
  write("vocab.txt", vocabulary);
  write("job.yaml", kConfig);
}

std::vector<Row> SmallJob::rows(const std::string& split) const {
  return rows_of(folder_ / ("data/" + split + ".jsonl"));
}

void SmallJob::write_rows(const std::string& split, const std::vector<Row>& rows) const {
  std::string text;
  for (const auto& row : rows) text += row.dump() + "\n";
  write("data/" + split + ".jsonl", text);
}

void SmallJob::write(const std::string& file, const std::string& text) const {
  fs::create_directories((folder_ / file).parent_path());
  std::ofstream stream(folder_ / file, std::ios::binary | std::ios::trunc);
  if (!(stream << text).flush()) throw std::runtime_error(file + " cannot be written");
}

nlohmann::ordered_json json_of(const fs::path& file) {
  std::ifstream stream(file);
  return nlohmann::ordered_json::parse(stream);
}

std::string SmallJob::read(const std::string& file) const {
  std::ifstream stream(folder_ / file, std::ios::binary);
  if (!stream) throw std::runtime_error(file + " cannot be read");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::vector<std::string> SmallJob::with_sets(std::vector<std::string> command,
                                             const std::vector<std::string>& sets) const {
  for (const auto* list : {&sets_, &sets}) {
    for (const auto& assignment : *list) command.insert(command.end(), {"--set", assignment});
  }
  return command;
}

std::vector<std::string> SmallJob::pack_command(const std::vector<std::string>& sets, int ranks) const {
  auto command = with_sets({MMKD_PACK, "job.yaml"}, sets);
  return ranks == 0 ? command : on_ranks(ranks, std::move(command));
}

std::vector<std::string> SmallJob::ddp_command(int ranks, const std::vector<std::string>& sets,
                                               const std::vector<std::string>& arguments) const {
  auto command = with_sets({MMKD_DDP, "job.yaml"}, sets);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return on_ranks(ranks, std::move(command));
}

ProcessResult SmallJob::pack(const std::vector<std::string>& sets, int ranks) const {
  return run(pack_command(sets, ranks), options());
}

ProcessResult SmallJob::ddp(int ranks, const std::vector<std::string>& sets,
                            const std::vector<std::string>& arguments) const {
  return run(ddp_command(ranks, sets, arguments), options());
}

fs::path SmallJob::artifact(const std::string& stage) const {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder_ / ("artifacts/" + stage), none)) {
    if (fs::exists(entry.path() / "stage.json")) found.push_back(entry.path());
  }
  EXPECT_EQ(found.size(), 1U) << "finished artifacts of stage " << stage;
  return found.size() == 1 ? found.front() : fs::path();
}

std::vector<std::string> SmallJob::unfinished() const {
  std::vector<std::string> left;
  std::error_code none;
  for (const auto& stage : fs::directory_iterator(folder_ / "artifacts", none)) {
    if (stage.path().filename() == "digests.json") continue;
    if (!stage.is_directory()) left.push_back(stage.path().string());
    std::error_code not_a_folder;
    for (const auto& entry : fs::directory_iterator(stage.path(), not_a_folder)) {
      if (!fs::exists(entry.path() / "stage.json") || entry.path().has_extension())
        left.push_back(entry.path().string());
    }
  }
  return left;
}

Outcome outcome_of(const SmallJob& job) {
  Outcome outcome;
  for (const auto& [stage, names] : std::map<std::string, std::vector<std::string>>{
           {"teacher", {"teacher.safetensors", "teacher.pth", "history.csv"}},
           {"cache", {"teacher_outputs.h5"}},
           {"student", {"student_final.safetensors", "student_best.safetensors"}}}) {
    const auto files = all_files(job.artifact(stage));
    for (const auto& name : names) {
      if (name != "history.csv") outcome.files[stage + "/" + name] = files.at(name);
    }
    // Losses and scores of every epoch; the time that inference took is none.
    if (!files.contains("history.json")) continue;
    auto history = nlohmann::ordered_json::parse(files.at("history.json"));
    for (auto& row : history) row.erase("dev_infer_ms");
    outcome.files[stage + "/history.json"] = history.dump(1);
  }
  return outcome;
}

void expect_same(const Outcome& want, const Outcome& got) {
  ASSERT_EQ(want.files.size(), got.files.size());
  for (const auto& [name, bytes] : want.files) EXPECT_TRUE(got.files.at(name) == bytes) << name << " differs";
}

std::map<std::string, std::string> all_files(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream stream(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << stream.rdbuf();
    files[fs::relative(entry.path(), folder).generic_string()] = text.str();
  }
  return files;
}

}  // namespace mmkd::test
