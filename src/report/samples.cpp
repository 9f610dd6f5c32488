#include "mmkd/report/samples.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/config/load.h"
#include "mmkd/data/packed.h"
#include "mmkd/data/sample.h"
#include "mmkd/data/tables.h"
#include "mmkd/image/image.h"
#include "read_results.h"

namespace mmkd {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kLongestSide = 160;  // pixels of a picture
constexpr int kJpegQuality = 80;
constexpr std::size_t kTextBytes = 160;

double probability(const std::string& cell, const std::string& where) {
  double value = 0;
  const auto [rest, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || rest != cell.data() + cell.size() || !(value >= 0 && value <= 1))
    throw Error("{}: '{}' is no probability", where, cell);
  return value;
}

/// The start of a text, cut between two words and never inside a character.
std::string start_of(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  if (text.size() <= kTextBytes) return text;
  auto end = text.rfind(' ', kTextBytes);
  if (end == std::string::npos || end < kTextBytes / 2) {
    end = kTextBytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  }
  return text.substr(0, end) + "…";
}

/// The split that the studies of a run look at.
std::string last_split(const Json& result) {
  return find_value(result, {"metrics", "test"}) != nullptr ? "test" : "dev";
}

double dev_f1(const FinishedRun& run) {
  const auto& result = run.results.front();
  double sum = 0;
  for (const auto& task : task_keys({run}))
    sum += find_number(result, {"metrics", "dev", fmt::format("dev_{}_f1", task)}).value_or(0);
  return sum;
}

fs::path predictions_file(const FinishedRun& run, const std::string& model, const std::string& split) {
  // With training.teacher_only there is no student, and the teacher's files keep their prefix.
  return run.folders.front() / fmt::format("{}predictions_{}.csv", model == "teacher" ? "teacher_" : "", split);
}

/// `count` numbers out of `from`, evenly spread.
std::vector<std::size_t> spread(const std::vector<std::size_t>& from, std::size_t count) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(from[i * from.size() / count]);
  return chosen;
}

/// The packed data that the run was tested on: told by its digest, so that it is found where its data set is gone.
PackedInfo find_packed(const Json& result, const Config& config) {
  const auto* digest = find_value(result, {"data", "digest"});
  std::vector<fs::path> folders;
  if (!config.data.packed.empty()) {
    folders.push_back(config.data.packed);
  } else if (const auto root = artifacts_root(config) / "pack"; fs::is_directory(root)) {
    for (const auto& entry : fs::directory_iterator(root)) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  for (const auto& folder : folders) {
    if (!fs::exists(folder / "manifest.json")) continue;
    auto info = read_packed_info(folder);
    if (digest != nullptr && *digest == info.digest) return info;
  }
  throw Error(
      "not in {}; relative places start from the working folder, so start this command where the run was started",
      (config.data.packed.empty() ? artifacts_root(config) / "pack" : config.data.packed).string());
}

Image thumbnail(std::span<const std::uint8_t> pixels, const ImageStream& stream) {
  Image image{.height = stream.height, .width = stream.width, .rgb = {pixels.begin(), pixels.end()}};
  const auto longest = std::max(image.height, image.width);
  if (longest <= kLongestSide) return image;
  const auto scaled = [&](std::int64_t size) { return std::max<std::int64_t>(1, size * kLongestSide / longest); };
  return resize(image, scaled(image.height), scaled(image.width), Resample::bilinear);
}

Split split_named(const std::string& split) { return split == "test" ? Split::test : Split::dev; }

/// Pictures of the cards; `rows`: their numbers in the packed split, whose order is that of the predictions.
void add_pictures(Samples& samples, const std::vector<std::size_t>& rows, const PackedInfo& info) {
  const PackedSplit packed(info, split_named(samples.split), true);
  const auto stream = static_cast<std::size_t>(info.image_stream_of[1]);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto record = packed.get(static_cast<std::int64_t>(rows[i]));
    auto& card = samples.cards[i];
    if (record.id != card.id) throw Error("{}: sample {} is called {}", info.folder.string(), rows[i], record.id);
    card.jpeg = encode_jpeg(thumbnail(record.pixels[stream], info.image_streams[stream]), kJpegQuality);
  }
}

void add_texts(Samples& samples, const Config& config) {
  std::map<std::string, SampleCard*> by_id;
  for (auto& card : samples.cards) by_id.emplace(card.id, &card);
  for (const auto& sample : read_split(config.data, split_named(samples.split))) {
    const auto found = by_id.find(sample.id);
    if (found != by_id.end() && !sample.text_was_empty) found->second->text = start_of(sample.text);
  }
}

/// Runs `add`; what keeps it from being done becomes a note that begins with `what`.
template <class Add>
void or_note(Samples& samples, const std::string& what, const Add& add) {
  try {
    add();
  } catch (const std::exception& e) {
    samples.notes.push_back(fmt::format("{}: {}", what, e.what()));
  }
}

std::vector<std::string> truths(const PredictedSample& row) {
  std::vector<std::string> classes;
  for (const auto& task : row.tasks) classes.push_back(task.truth);
  return classes;
}

/// What a model of a run says about the cards; nothing where it said nothing.
void add_speaker(Samples& samples, const std::vector<FinishedRun>& runs, std::size_t run, const std::string& model) {
  const auto file = predictions_file(runs[run], model, samples.split);
  if (!fs::exists(file)) return;
  or_note(samples, "Left out", [&] {
    std::map<std::string, PredictedSample> by_id;
    for (auto& row : read_predictions(file, task_keys({runs[run]}))) by_id.emplace(row.id, std::move(row));
    SampleSpeaker speaker{.run = run, .model = model, .said = {}};
    for (const auto& card : samples.cards) {
      const auto found = by_id.find(card.id);
      const bool same = found != by_id.end() && truths(found->second) == card.truths;
      speaker.said.push_back(same ? std::optional(found->second) : std::nullopt);
    }
    const bool any = std::any_of(speaker.said.begin(), speaker.said.end(), [](const auto& s) { return s.has_value(); });
    if (any) samples.speakers.push_back(std::move(speaker));
  });
}

std::string main_model(const FinishedRun& run) { return has_student(run.results.front()) ? "student" : "teacher"; }

/// The run with the highest dev F1 among those whose predictions are still there.
std::optional<std::size_t> best_run(const std::vector<FinishedRun>& runs) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!fs::exists(predictions_file(runs[i], main_model(runs[i]), last_split(runs[i].results.front())))) continue;
    if (!best || dev_f1(runs[i]) > dev_f1(runs[*best])) best = i;
  }
  return best;
}

}  // namespace

bool PredictedSample::right() const {
  return std::all_of(tasks.begin(), tasks.end(), [](const auto& task) { return task.right(); });
}

double PredictedSample::certainty() const {
  double highest_wrong = 0, lowest_right = 1;
  for (const auto& task : tasks) {
    if (task.right())
      lowest_right = std::min(lowest_right, task.probability);
    else
      highest_wrong = std::max(highest_wrong, task.probability);
  }
  return right() ? lowest_right : highest_wrong;
}

std::vector<PredictedSample> read_predictions(const fs::path& file, const std::vector<std::string>& tasks) {
  std::vector<PredictedSample> rows;
  const auto refuse = [](const std::string& where, const std::string& what) { throw Error("{}: {}", where, what); };
  const auto add = [&](const std::map<std::string, std::string>& cells, std::size_t line) {
    const auto where = fmt::format("{}:{}", file.string(), line);
    const auto cell = [&](const std::string& column) -> const std::string& {
      const auto found = cells.find(column);
      if (found == cells.end()) throw Error("{}: there is no column '{}'", where, column);
      return found->second;
    };
    PredictedSample row{.id = cell("id"), .tasks = {}};
    for (const auto& task : tasks) {
      const auto& predicted = cell(task + "_pred");
      row.tasks.push_back({.task = task,
                           .truth = cell(task + "_true"),
                           .predicted = predicted,
                           .probability = probability(cell(fmt::format("{}_p_{}", task, predicted)), where)});
    }
    rows.push_back(std::move(row));
  };
  read_csv(file, add, refuse);
  return rows;
}

std::vector<std::size_t> choose_samples(const std::vector<PredictedSample>& rows, std::size_t count) {
  std::vector<std::size_t> wrong, right;
  for (std::size_t i = 0; i < rows.size(); ++i) (rows[i].right() ? right : wrong).push_back(i);
  std::stable_sort(wrong.begin(), wrong.end(),
                   [&](std::size_t a, std::size_t b) { return rows[a].certainty() > rows[b].certainty(); });
  const auto half = count / 2;
  const auto errors = std::min(wrong.size(), count - std::min(right.size(), half));
  wrong.resize(errors);
  const auto others = spread(right, std::min(right.size(), count - errors));
  wrong.insert(wrong.end(), others.begin(), others.end());
  std::sort(wrong.begin(), wrong.end());
  return wrong;
}

Samples collect_samples(const std::vector<FinishedRun>& runs, std::size_t most) {
  Samples samples;
  const auto best = best_run(runs);
  if (!best) return samples;
  const auto& run = runs[*best];
  const auto& result = run.results.front();
  samples.chosen_by = *best;
  samples.split = last_split(result);
  std::vector<std::size_t> chosen;
  or_note(samples, "No samples", [&] {
    const auto rows = read_predictions(predictions_file(run, main_model(run), samples.split), task_keys({run}));
    samples.rows = rows.size();
    samples.wrong = static_cast<std::size_t>(
        std::count_if(rows.begin(), rows.end(), [](const PredictedSample& row) { return !row.right(); }));
    chosen = choose_samples(rows, most);
    for (const auto row : chosen) samples.cards.push_back({.id = rows[row].id, .truths = truths(rows[row])});
  });
  if (samples.cards.empty()) return samples;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    // Another student may see other pictures or tokens of the same samples, so the digests may differ.
    if (runs[i].results.front().at("data").at("tasks") != result.at("data").at("tasks")) continue;
    add_speaker(samples, runs, i, main_model(runs[i]));
    if (i == *best && main_model(run) == "student") add_speaker(samples, runs, i, "teacher");
  }
  or_note(samples, "No pictures and texts", [&] {
    const auto config = parse_config(result.at("config").dump(), "config of " + run.name).config;
    or_note(samples, "No pictures: the packed data",
            [&] { add_pictures(samples, chosen, find_packed(result, config)); });
    or_note(samples, "No texts: the data set", [&] { add_texts(samples, config); });
  });
  return samples;
}

}  // namespace mmkd
