#pragma once
#include <array>
#include <string>
#include <vector>

#include "mmkd/config/config.h"
#include "mmkd/data/sample.h"
#include "mmkd/stages/stage.h"

namespace mmkd {

/// Why a sample is not used.
struct BadSample {
  Split split = Split::train;
  std::string id, where, reason;
};

/// The samples of a data set that can be packed, and those that cannot.
struct Scan {
  std::array<std::vector<Sample>, 3> samples;
  std::array<std::vector<std::string>, 3> digests;  ///< SHA-256 of each sample's image file
  std::vector<BadSample> bad;
};

/// Reads the tables of all splits and digests every image file. Bad samples: a missing image; an id that another split
/// has, or image bytes that another split has (the sample of the earlier split – train, dev, test – stays).
Scan scan_data(const DataConfig& data, DigestMemo& memo);

/// Class names of each task: those of the train split, sorted by bytes. Dev and test samples with a label that train
/// lacks are taken out into `bad`.
std::vector<std::vector<std::string>> discover_classes(Scan& scan, std::size_t tasks);

/// Takes the samples with these ids out of a split.
void remove_bad(Scan& scan, const std::vector<BadSample>& bad);

/// With OnBadSample::error and anything bad: one Error that lists it (bounded). Otherwise nothing.
void refuse_bad(const Scan& scan, OnBadSample policy);

}  // namespace mmkd
