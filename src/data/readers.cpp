#include <algorithm>
#include <map>

#include "mmkd/base/error.h"
#include "mmkd/base/files.h"
#include "mmkd/data/sample.h"
#include "mmkd/data/tables.h"
#include "table_cells.h"

namespace mmkd {
namespace {

constexpr const char* kNoDescription = "No description available";

void set_text(Sample& sample, const std::string& text) {
  sample.text = trimmed(text);
  sample.text_was_empty = sample.text.empty();
  if (sample.text_was_empty) sample.text = kNoDescription;
}

template <class Row>
void set_labels(Sample& sample, const std::vector<TaskConfig>& tasks, const Row& row) {
  for (const auto& task : tasks) {
    const auto label = trimmed(required_cell(row, task.column));
    if (label.empty()) throw Error("the label of task '{}' (column '{}') is empty", task.label, task.column);
    sample.labels.push_back(label);
  }
}

/// Runs `make` for a row and keeps its sample, or notes what is wrong with it.
template <class Make>
void take(std::vector<Sample>& samples, RowProblems& problems, const std::string& where, const Make& make) {
  try {
    Sample sample = make();
    sample.where = where;
    if (sample.id.empty()) throw Error("the sample id is empty");
    require_utf8(sample.id, "sample id");
    require_utf8(sample.image.string(), "image path");
    for (const auto& label : sample.labels) require_utf8(label, "label");
    samples.push_back(std::move(sample));
  } catch (const Error& e) {
    problems.add(where, e.what());
  }
}

std::vector<Sample> read_medpix(const DataConfig& data, Split split) {
  const std::string file_name = fmt::format("descriptions_{}.jsonl", name(split));
  fs::path file = data.root / file_name;
  if (!fs::exists(file)) file = data.root / "splitted_dataset" / file_name;
  if (!fs::exists(file)) {
    throw Error("{}: not found, neither there nor in {}. data.root must name the MedPix folder (it is '{}').",
                file_name, (data.root / "splitted_dataset").string(), data.root.string());
  }
  std::vector<Sample> samples;
  RowProblems problems(file);
  const auto tasks = resolved_tasks(data);
  const auto problem = [&](const std::string& where, const std::string& what) { problems.add(where, what); };
  read_jsonl(
      file,
      [&](const nlohmann::json& json, std::size_t line) {
        take(samples, problems, fmt::format("{}:{}", file.string(), line), [&] {
          Sample sample;
          sample.id = required_cell(json, "image");
          sample.image = path_below(data.root, "images/" + sample.id + ".png");
          set_text(sample, find_cell(json, "Description.Caption").value_or(""));
          set_labels(sample, tasks, json);
          return sample;
        });
      },
      problem);
  problems.throw_if_any();
  return samples;
}

std::vector<Sample> read_wound(const DataConfig& data, Split split) {
  const fs::path file = data.root / fmt::format("metadata_{}.csv", name(split));
  std::vector<Sample> samples;
  RowProblems problems(file);
  const auto tasks = resolved_tasks(data);
  const auto problem = [&](const std::string& where, const std::string& what) { problems.add(where, what); };
  read_csv(
      file,
      [&](const std::map<std::string, std::string>& cells, std::size_t line) {
        take(samples, problems, fmt::format("{}:{}", file.string(), line), [&] {
          Sample sample;
          sample.id = required_cell(cells, data.filepath_column);
          sample.image = wound_image(data.root, sample.id);
          set_text(sample, required_cell(cells, data.description_column));
          set_labels(sample, tasks, cells);
          return sample;
        });
      },
      problem);
  problems.throw_if_any();
  return samples;
}

std::vector<Sample> read_table(const DataConfig& data, Split split) {
  const auto& table = data.table;
  const std::string file_name = split == Split::train ? table.train : split == Split::dev ? table.dev : table.test;
  if (file_name.empty()) {
    if (split == Split::test) return {};
    throw UsageError("data.table.{} is not set", name(split));
  }
  const fs::path file = data.root / file_name;
  std::vector<Sample> samples;
  RowProblems problems(file);
  const auto problem = [&](const std::string& where, const std::string& what) { problems.add(where, what); };
  const auto row = [&](const auto& cells, std::size_t line) {
    take(samples, problems, fmt::format("{}:{}", file.string(), line), [&] {
      Sample sample;
      sample.id = trimmed(required_cell(cells, table.id_column));
      sample.image = path_below(table.image_root.empty() ? data.root : data.root / table.image_root,
                                trimmed(required_cell(cells, table.image_column)));
      set_text(sample, required_cell(cells, table.text_column));
      set_labels(sample, data.tasks, cells);
      return sample;
    });
  };
  const auto extension = file.extension();
  if (extension == ".csv") {
    read_csv(
        file, [&](const std::map<std::string, std::string>& cells, std::size_t line) { row(cells, line); }, problem);
  } else if (extension == ".jsonl" || extension == ".json") {
    read_jsonl(
        file, [&](const nlohmann::json& json, std::size_t line) { row(json, line); }, problem);
  } else {
    throw UsageError("data.table.{}: '{}' must end in .csv or .jsonl", name(split), file_name);
  }
  problems.throw_if_any();
  return samples;
}

}  // namespace

std::string_view name(Split split) {
  switch (split) {
    case Split::train:
      return "train";
    case Split::dev:
      return "dev";
    case Split::test:
      return "test";
  }
  throw Error("split {} is none of the known", static_cast<int>(split));
}

std::vector<Sample> read_split(const DataConfig& data, Split split) {
  switch (data.type) {
    case DatasetType::medpix:
      return read_medpix(data, split);
    case DatasetType::wound:
      return read_wound(data, split);
    case DatasetType::table:
      return read_table(data, split);
  }
  throw Error("data set type {} is none of the known", static_cast<int>(data.type));
}

}  // namespace mmkd
