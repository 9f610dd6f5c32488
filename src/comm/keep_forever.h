#pragma once
#include <atomic>
#include <utility>

namespace mmkd {

/// Keeps `value` for the rest of the process. After a failed collective MPI may still write to the buffers that it was
/// given, at any time and without telling: freeing them would corrupt other memory. Stays reachable, so that leak
/// checkers know it for what it is.
template <class T>
void keep_forever(T value) noexcept {
  struct Node {
    T value;
    Node* next;
  };
  static std::atomic<Node*> kept{nullptr};
  auto* node = new Node{std::move(value), nullptr};
  node->next = kept.exchange(node);
}

}  // namespace mmkd
