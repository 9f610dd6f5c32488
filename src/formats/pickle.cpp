#include "mmkd/formats/pickle.h"

#include <bit>
#include <cstring>
#include <map>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

constexpr std::size_t kMaxValues = std::size_t{1} << 23;  // a checkpoint of 100,000 tensors has about a million
constexpr std::size_t kMaxText = std::size_t{1} << 20;

}  // namespace

/// The stack machine of Python's pickle module (pickletools.py names the opcodes).
class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& name, std::deque<PickleValue>& values)
      : bytes_(bytes), name_(name), values_(values) {}

  const PickleValue* run() {
    for (;;) {
      const auto opcode = static_cast<unsigned char>(byte());
      if (opcode == '.') return pop();
      step(opcode);
    }
  }
  std::size_t position() const { return at_; }

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error("{}: the pickle is not that of a plain checkpoint: {} (byte {})", name_,
                fmt::format(format, std::forward<Args>(args)...), at_);
  }

  // ---- bytes
  std::span<const std::byte> take(std::size_t count) {
    if (count > bytes_.size() - at_) fail("it ends in the middle");
    const auto taken = bytes_.subspan(at_, count);
    at_ += count;
    return taken;
  }
  std::byte byte() { return take(1)[0]; }
  template <class T>
  T little() {
    T value{};
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text(std::uint64_t size) {
    if (size > kMaxText) fail("a text of {} bytes", size);
    const auto taken = take(static_cast<std::size_t>(size));
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  std::string line() {
    std::string result;
    for (char c = 0; (c = static_cast<char>(byte())) != '\n';) {
      result += c;
      if (result.size() > kMaxText) fail("a line without end");
    }
    return result;
  }

  // ---- values
  PickleValue* make(PickleValue value) {
    if (values_.size() >= kMaxValues) fail("more than {} values", kMaxValues);
    return &values_.emplace_back(std::move(value));
  }
  void push(PickleValue value) { stack_.push_back(make(std::move(value))); }
  PickleValue* pop() {
    if (stack_.empty() || stack_.size() <= floor()) fail("it takes more than there is");
    auto* value = stack_.back();
    stack_.pop_back();
    return value;
  }
  PickleValue* top() {
    if (stack_.empty() || stack_.size() <= floor()) fail("it takes more than there is");
    return stack_.back();
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  /// What lies above the last mark, in order; the mark goes too.
  std::vector<PickleValue*> pop_to_mark() {
    if (marks_.empty()) fail("a mark is missing");
    std::vector<PickleValue*> above(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return above;
  }
  void remember(std::uint64_t index) {
    if (memo_.size() >= kMaxValues) fail("more than {} remembered values", kMaxValues);
    memo_[index] = top();
  }
  void recall(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("value {} was never remembered", index);
    stack_.push_back(found->second);
  }

  // ---- composites
  void push_tuple(std::size_t count) {
    PickleTuple tuple(count);
    for (std::size_t i = count; i-- > 0;) tuple[i] = pop();
    push({std::move(tuple)});
  }
  void append(PickleValue* list, const std::vector<PickleValue*>& items) {
    auto* target = std::get_if<PickleList>(&list->value);
    if (target == nullptr) fail("it appends to what is no list");
    if (target->items.size() + items.size() > kMaxValues) fail("a list of more than {} values", kMaxValues);
    target->items.insert(target->items.end(), items.begin(), items.end());
  }
  void set_items(PickleValue* dict, const std::vector<PickleValue*>& items) {
    auto* target = std::get_if<PickleDict>(&dict->value);
    if (target == nullptr) fail("it sets items of what is no dict");
    if (items.size() % 2 != 0) fail("a key without a value");
    if (target->items.size() + items.size() / 2 > kMaxValues) fail("a dict of more than {} values", kMaxValues);
    for (std::size_t i = 0; i < items.size(); i += 2) target->items.emplace_back(items[i], items[i + 1]);
  }
  void call() {
    const auto* arguments = pop();
    const auto* callable = pop();
    const auto* global = callable->as<PickleGlobal>();
    if (global == nullptr || arguments->as<PickleTuple>() == nullptr) fail("it calls what is no name");
    if (global->module == "collections" && global->name == "OrderedDict" && arguments->as<PickleTuple>()->empty()) {
      push({PickleDict{}});
    } else if (global->module == "torch._utils" &&
               (global->name == "_rebuild_tensor_v2" || global->name == "_rebuild_parameter")) {
      push({PickleCall{callable, arguments}});
    } else {
      fail("it wants to call {}.{}", global->module, global->name);
    }
  }
  /// An object's state. Checkpoints set that of their OrderedDict, which is of no interest here.
  void build() {
    pop();
    if (top()->as<PickleDict>() == nullptr && top()->as<PickleCall>() == nullptr) fail("it builds an object");
  }
  std::int64_t long1() {
    const auto size = std::to_integer<std::size_t>(byte());
    if (size > 8) fail("an integer of {} bytes", size);
    std::uint64_t value = 0;
    const auto taken = take(size);
    for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(taken[i]) << (8 * i);
    const bool negative = size > 0 && (std::to_integer<unsigned>(taken[size - 1]) & 0x80U) != 0;
    if (negative && size < 8) value |= ~std::uint64_t{0} << (8 * size);
    return std::bit_cast<std::int64_t>(value);
  }
  double big_endian_double() {
    std::uint64_t value = 0;
    for (const auto b : take(8)) value = value << 8 | std::to_integer<std::uint64_t>(b);
    return std::bit_cast<double>(value);
  }

  void step(unsigned char opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        byte();
        return;
      case 0x95:  // FRAME
        take(8);
        return;
      case '(':
        marks_.push_back(stack_.size());
        if (marks_.size() > kMaxValues) fail("more than {} marks", kMaxValues);
        return;
      case 'N':
        return push({PickleNone{}});
      case 0x88:
        return push({true});
      case 0x89:
        return push({false});
      case 'K':
        return push({std::to_integer<std::int64_t>(byte())});
      case 'M':
        return push({static_cast<std::int64_t>(little<std::uint16_t>())});
      case 'J':
        return push({static_cast<std::int64_t>(little<std::int32_t>())});
      case 0x8a:
        return push({long1()});
      case 'G':
        return push({big_endian_double()});
      case 'X':
        return push({text(little<std::uint32_t>())});
      case 0x8c:
        return push({text(std::to_integer<std::uint64_t>(byte()))});
      case 0x8d:
        return push({text(little<std::uint64_t>())});
      case 'U':  // SHORT_BINSTRING, of Python 2
        return push({text(std::to_integer<std::uint64_t>(byte()))});
      case 'c': {
        auto module = line();
        return push({PickleGlobal{std::move(module), line()}});
      }
      case 0x93: {  // STACK_GLOBAL
        const auto* name = pop()->as<std::string>();
        const auto* module = pop()->as<std::string>();
        if (name == nullptr || module == nullptr) fail("a name that is no text");
        return push({PickleGlobal{*module, *name}});
      }
      case 'q':
        return remember(std::to_integer<std::uint64_t>(byte()));
      case 'r':
        return remember(little<std::uint32_t>());
      case 0x94:  // MEMOIZE
        return remember(memo_.size());
      case 'h':
        return recall(std::to_integer<std::uint64_t>(byte()));
      case 'j':
        return recall(little<std::uint32_t>());
      case ')':
        return push({PickleTuple{}});
      case 0x85:
        return push_tuple(1);
      case 0x86:
        return push_tuple(2);
      case 0x87:
        return push_tuple(3);
      case 't': {
        const auto items = pop_to_mark();
        return push({PickleTuple(items.begin(), items.end())});
      }
      case ']':
        return push({PickleList{}});
      case 'l': {
        const auto items = pop_to_mark();
        return push({PickleList{{items.begin(), items.end()}}});
      }
      case 'a': {
        auto* item = pop();
        return append(top(), {item});
      }
      case 'e': {
        const auto items = pop_to_mark();
        return append(top(), items);
      }
      case '}':
        return push({PickleDict{}});
      case 's': {
        auto* value = pop();
        auto* key = pop();
        return set_items(top(), {key, value});
      }
      case 'u': {
        const auto items = pop_to_mark();
        return set_items(top(), items);
      }
      case 'Q':
        return push({PicklePersistent{pop()}});
      case 'R':
        return call();
      case 'b':
        return build();
      case '0':
        pop();
        return;
      default:
        fail("opcode {:#04x} is not known", opcode);
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  std::deque<PickleValue>& values_;
  std::size_t at_ = 0;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::uint64_t, PickleValue*> memo_;
};

Pickle::Pickle(std::span<const std::byte> bytes, const std::string& name) {
  PickleMachine machine(bytes, name, values_);
  root_ = machine.run();
  size_ = machine.position();
}

}  // namespace mmkd
