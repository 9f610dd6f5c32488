#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mmkd/comm/mpi_session.h"
#include "mmkd/config/config.h"
#include "mmkd/data/packed.h"
#include "mmkd/image/image.h"
#include "mmkd/stages/stage.h"
#include "mmkd/text/tokenizer.h"

// From a data set on disk to packed shards (docs/formats/shard.md).
namespace mmkd {

/// The tokenizer of one tower, and where it came from.
struct TowerTokenizer {
  std::filesystem::path file;  ///< vocab.txt or tokenizer.json
  WordPieceSettings settings;
  bool operator==(const TowerTokenizer&) const = default;
};

/// How teacher and student want their inputs. Index 0: teacher, 1: student.
struct PackInputs {
  std::array<ImagePolicy, 2> policies;
  std::array<TowerTokenizer, 2> tokenizers;
};

/// From the towers' folders, or from inline sizes. Throws UsageError for missing folders, files and settings.
PackInputs resolve_pack_inputs(const Config& config);

/// The key of the packed data: settings, policies, tokenizers, and the digest of every source file (remembered under
/// artifacts.root by size and time). Reads the data set's tables.
StageInputs pack_stage_inputs(const Config& config);

/// PackedInfo::input_keys of the packed data, before it is packed. Reads the data set's tables.
std::array<std::string, 2> data_input_keys(const Config& config);

/// The input keys that a job of this configuration has at this moment: data_input_keys(), or those of data.packed. With
/// data.on_bad_record: quarantine every record that is packed already is read, and damaged ones count as left out.
std::array<std::string, 2> job_input_keys(const Config& config);

/// Collective: every rank must call. Packs the data set unless the artifact is there already. Threads by
/// data.num_workers; under several ranks shards are dealt to ranks; the bytes depend on neither.
PackedInfo pack(const Config& config, const MpiSession& mpi);

/// Where the packed data of a configuration lies: data.packed, or the artifact. Throws UsageError naming the command
/// that makes it if it is not there.
std::filesystem::path locate_pack(const Config& config);

/// Collective: every rank must call. without_records() of all damaged records, which are logged; each rank reads a part
/// of the shards. Every rank throws what damaged_records() or without_records() throws on any.
PackedInfo without_damaged_records(PackedInfo info, const MpiSession& mpi);

/// Reads every byte and every record again. Each problem names shard, record and sample id as far as they can be told.
std::vector<std::string> verify_pack(const std::filesystem::path& folder);

/// A summary for people: counts, classes, token lengths, sizes.
std::string describe_pack(const std::filesystem::path& folder);

/// Writes the generated demo set: 64x64 pictures of shapes with captions that name a site, as JSONL tables (columns id,
/// image, text, shape, site). Neither picture nor text alone tells both tasks. Deterministic; an existing set is left.
void write_demo_data(const std::filesystem::path& folder);

}  // namespace mmkd
