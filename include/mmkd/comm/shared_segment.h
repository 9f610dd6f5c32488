#pragma once
#include <cstddef>
#include <memory>
#include <string>

#include "mmkd/comm/mpi_session.h"

namespace mmkd {

/// Memory that all ranks of one host map. It has no name in any file system, so that nothing is left behind however
/// the processes end.
class SharedSegment {
 public:
  /// Collective over a session whose ranks share one host. Null on every rank, with the reason in `why_not`, if any of
  /// them cannot map it. The memory starts as zeros. The first `allocated` bytes are there from then on, each rank
  /// having asked for its part of them: what cannot be had shows now, not as a bus error in the middle of a step. Pages
  /// of the others come when they are touched, be it by reading.
  static std::unique_ptr<SharedSegment> create(const MpiSession& session, std::size_t bytes, std::size_t allocated,
                                               std::string& why_not);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  SharedSegment(std::byte* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_;
  std::size_t bytes_;
};

}  // namespace mmkd
