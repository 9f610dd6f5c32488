#pragma once
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "mmkd/report/runs.h"

// A few samples with what the runs say about them.
namespace mmkd {

/// What a model says about one sample of one task.
struct PredictedClass {
  std::string task, truth, predicted;
  double probability = 0;  ///< of the predicted class
  bool right() const { return truth == predicted; }
};

/// A row of predictions_<split>.csv.
struct PredictedSample {
  std::string id;
  std::vector<PredictedClass> tasks;
  bool right() const;  ///< in every task
  /// The highest probability that it gives to a wrong class; of a right one the lowest of the right classes.
  double certainty() const;
};

/// Reads predictions_<split>.csv (docs/formats/results.md). Throws Error for an unreadable or malformed file.
std::vector<PredictedSample> read_predictions(const std::filesystem::path& file, const std::vector<std::string>& tasks);

/// Numbers of at most `count` rows, ascending: half of them errors, those first in which the model is most certain,
/// half right ones, spread evenly over the file; where there are too few of one kind, more of the other.
std::vector<std::size_t> choose_samples(const std::vector<PredictedSample>& rows, std::size_t count);

struct SampleCard {
  std::string id;
  std::vector<std::string> truths;       ///< true classes, in the order of the tasks
  std::string text = {};                 ///< its start; empty where the tables are gone
  std::optional<std::string> jpeg = {};  ///< as the student sees it; none where the packed data is gone
};

/// What one model says about the cards: by card, none where it has no sample of that id and those true classes.
struct SampleSpeaker {
  std::size_t run = 0;  ///< index into the runs
  std::string model;    ///< "student" or "teacher"
  std::vector<std::optional<PredictedSample>> said;
};

struct Samples {
  std::string split;
  std::size_t chosen_by = 0;        ///< the run whose predictions decided which samples are shown
  std::size_t wrong = 0, rows = 0;  ///< of its predictions: with an error in any task, and all
  std::vector<SampleCard> cards;
  std::vector<SampleSpeaker> speakers;
  std::vector<std::string> notes;  ///< what is missing and why, for people
};

/// Samples of the test split (dev where there is none), chosen by the best run on dev. Never throws for what is
/// missing: `notes` say it. `most`: cards at most.
Samples collect_samples(const std::vector<FinishedRun>& runs, std::size_t most = 12);

}  // namespace mmkd
