#pragma once
#include <c10/core/Device.h>

#include <memory>

namespace mmkd {

/// Work of a device that is recorded once and then repeated as one piece, without the host's part in it: a CUDA graph.
/// Only work given to a stream other than the device's default one can be recorded.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  /// What the calling thread gives to the device between begin() and end() is recorded, and not done. The memory of
  /// tensors made meanwhile belongs to the graph; nothing may be copied from or to the host. Both throw Error if the
  /// device refuses; the graph is then of no use.
  virtual void begin() = 0;
  virtual void end() = 0;
  /// Does the work, with what its tensors hold now.
  virtual void replay() = 0;
};

/// Of a CUDA device, by the plug-in (cuda_plugin.h). All graphs of a process share their memory, so results of one must
/// be read before another one is replayed. Throws Error without the plug-in.
std::unique_ptr<DeviceGraph> make_cuda_graph();

}  // namespace mmkd
