#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

// Python's pickle, as far as PyTorch's checkpoints use it, without running anything: a name that a pickle wants to
// import is noted as text, and calls are only those that rebuild tensors.
namespace mmkd {

struct PickleValue;

struct PickleNone {
  bool operator==(const PickleNone&) const = default;
};
struct PickleGlobal {  ///< a class or function, by name
  std::string module, name;
};
using PickleTuple = std::vector<const PickleValue*>;
struct PickleList {
  std::vector<const PickleValue*> items;
};
struct PickleDict {  ///< in the order of insertion; a key may occur twice
  std::vector<std::pair<const PickleValue*, const PickleValue*>> items;
};
struct PicklePersistent {  ///< a reference to something outside the pickle: PyTorch's storages
  const PickleValue* id = nullptr;
};
struct PickleCall {  ///< callable(*arguments), not called
  const PickleValue* callable = nullptr;
  const PickleValue* arguments = nullptr;
};

struct PickleValue {
  std::variant<PickleNone, bool, std::int64_t, double, std::string, PickleGlobal, PickleTuple, PickleList, PickleDict,
               PicklePersistent, PickleCall>
      value;
  template <class T>
  const T* as() const {
    return std::get_if<T>(&value);
  }
};

/// The values of one pickle; they live as long as this does.
class Pickle {
 public:
  /// Parses one pickle at the start of `bytes`. Throws Error, starting with `name`, for anything that is not in the
  /// subset, malformed, or larger than a checkpoint's table of contents has reason to be.
  Pickle(std::span<const std::byte> bytes, const std::string& name);
  const PickleValue& root() const { return *root_; }
  /// Bytes that the pickle took.
  std::size_t size() const { return size_; }

 private:
  friend class PickleMachine;
  std::deque<PickleValue> values_;  // owns all: values refer to one another in any shape, cycles among them
  const PickleValue* root_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mmkd
