#pragma once
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace mmkd::test {

using Row = nlohmann::ordered_json;

/// Throws where the file is missing or no JSON.
nlohmann::ordered_json json_of(const std::filesystem::path& file);

/// A folder of its own with a small data set (the demo data, cut), a vocabulary of its words and a configuration whose
/// whole job takes a second or two: folder/data, folder/vocab.txt, folder/job.yaml.
class SmallJob {
 public:
  /// 90 train samples in batches of 16: the last batch of an epoch has 10.
  explicit SmallJob(std::size_t train = 90, std::size_t dev = 24, std::size_t test = 24);

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

  std::vector<Row> rows(const std::string& split) const;
  void write_rows(const std::string& split, const std::vector<Row>& rows) const;
  void write(const std::string& file, const std::string& text) const;
  std::string read(const std::string& file) const;

  /// `sets` are "key=value" for --set; they hold for later calls too where set() gave them.
  void set(const std::string& assignment) { sets_.push_back(assignment); }
  ProcessResult pack(const std::vector<std::string>& sets = {}, int ranks = 0) const;  // 0: without mpirun
  ProcessResult ddp(int ranks, const std::vector<std::string>& sets = {},
                    const std::vector<std::string>& arguments = {}) const;
  std::vector<std::string> pack_command(const std::vector<std::string>& sets = {}, int ranks = 0) const;
  std::vector<std::string> ddp_command(int ranks, const std::vector<std::string>& sets = {},
                                       const std::vector<std::string>& arguments = {}) const;
  ProcessOptions options() const {
    return {.environment = {}, .folder = folder(), .timeout = std::chrono::seconds(90)};
  }
  /// The same, with a failing disk or clock below the job's folder.
  ProcessOptions options(const Faults& faults) const {
    auto all = options();
    all.environment = fault_environment(folder(), faults);
    return all;
  }

  /// The only folder `artifacts/<stage>/<key>`; fails the test and returns "" where there is none or several.
  std::filesystem::path artifact(const std::string& stage) const;
  /// Everything under `artifacts` but finished stages and the memo of digests: what a stopped run has left.
  std::vector<std::string> unfinished() const;

 private:
  std::vector<std::string> with_sets(std::vector<std::string> command, const std::vector<std::string>& sets) const;
  TempFolder folder_;
  std::vector<std::string> sets_;
};

/// What a disturbed run must have in common with an undisturbed one. Times and hosts differ, so not everything.
struct Outcome {
  std::map<std::string, std::string> files;
};

/// Weights of teacher and student, the teacher's outputs, losses and scores of every epoch.
Outcome outcome_of(const SmallJob& job);
void expect_same(const Outcome& want, const Outcome& got);

/// Path inside the folder -> bytes, of every regular file.
std::map<std::string, std::string> all_files(const std::filesystem::path& folder);

}  // namespace mmkd::test
