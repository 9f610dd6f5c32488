#include "yaml_document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "mmkd/base/error.h"

namespace mmkd::config_detail {
namespace {

/// Ends the reading of a document; caught in parse_yaml.
struct Stop : std::runtime_error {
  Stop(Place p, const std::string& text) : std::runtime_error(text), place(p) {}
  Place place;
};

/// Assembles the tree from yaml-cpp's events. Throwing from an event also ends yaml-cpp's own recursion.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(int origin, std::vector<Problem>& problems, const YamlLimits& limits)
      : origin_(origin), problems_(problems), limits_(limits) {}

  Node take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.place = place(mark);
    add(std::move(node), anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(tag, mark);
    Node node;
    node.kind = Node::Kind::scalar;
    node.text = value;
    node.place = place(mark);
    add(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) throw Stop(place(mark), "an alias cannot stand inside the value it refers to");
    count(found->second.size, place(mark));
    if (open_.size() + found->second.height > static_cast<std::size_t>(limits_.depth)) too_deep(place(mark));
    add_counted(found->second.node, 0, found->second.size, found->second.height);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::list, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::map, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor = 0;
    std::optional<Node> key;  ///< map: the key whose value comes next
    std::size_t size = 1;     ///< values in it, itself included
    std::size_t height = 1;   ///< levels of it
  };
  struct Anchored {
    Node node;
    std::size_t size, height;
  };

  Place place(const YAML::Mark& mark) const { return {origin_, mark.line + 1, mark.column + 1}; }

  void count(std::size_t values, Place at) {
    total_ += values;
    if (total_ > limits_.nodes)
      throw Stop(
          at, fmt::format("more than {} values (aliases expanded); a configuration has some hundred", limits_.nodes));
  }

  [[noreturn]] void too_deep(Place at) const {
    throw Stop(at, fmt::format("nested deeper than {} levels; a configuration has four", limits_.depth));
  }

  void check_tag(const std::string& tag, const YAML::Mark& mark) const {
    const std::string_view standard = "tag:yaml.org,2002:";
    if (tag.empty() || tag == "?" || tag == "!" || tag.compare(0, standard.size(), standard) == 0) return;
    throw Stop(place(mark), fmt::format("the tag {} has no meaning in a configuration", tag));
  }

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check_tag(tag, mark);
    if (open_.size() + 1 > static_cast<std::size_t>(limits_.depth)) too_deep(place(mark));
    Open collection;
    collection.node.kind = kind;
    collection.node.place = place(mark);
    collection.anchor = anchor;
    count(1, collection.node.place);
    open_.push_back(std::move(collection));
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.node.kind == Node::Kind::map) merge(done.node);
    add_counted(std::move(done.node), done.anchor, done.size, done.height);
  }

  void add(Node node, YAML::anchor_t anchor) {
    const std::size_t size = 1 + node.text.size() / kBytesPerValue;
    count(size, node.place);
    add_counted(std::move(node), anchor, size, 1);
  }

  /// Puts a finished value where it belongs: the root, the open list, or the open map as key or value.
  void add_counted(Node node, YAML::anchor_t anchor, std::size_t size, std::size_t height) {
    if (anchor != 0) anchored_.insert_or_assign(anchor, Anchored{node, size, height});
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    parent.size += size;
    parent.height = std::max(parent.height, height + 1);
    if (parent.node.kind == Node::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.key) {
      parent.key = std::move(node);
    } else {
      add_entry(parent.node, *std::exchange(parent.key, std::nullopt), std::move(node));
    }
  }

  void add_entry(Node& map, const Node& key, Node value) {
    if (key.kind != Node::Kind::scalar || key.text.size() > kLongestKey) {
      problems_.push_back({key.place, fmt::format("expected a key, found {}", key.describe())});
    } else if (const Node* first = map.find(key.text)) {
      const auto& at = first->place;
      problems_.push_back({key.place, fmt::format("{}: duplicate key, found before at line {}", key.text, at.line)});
    } else {
      map.entries.push_back({key.text, key.place, std::move(value)});
    }
  }

  /// `<<: *other` adds the keys of the other map that are not in this one.
  void merge(Node& map) {
    const auto at = std::find_if(map.entries.begin(), map.entries.end(), [](const auto& e) { return e.key == "<<"; });
    if (at == map.entries.end()) return;
    const Node source = std::move(at->value);
    map.entries.erase(at);
    const std::vector<Node> one{source};
    for (const Node& other : source.kind == Node::Kind::list ? source.items : one) {
      if (other.kind != Node::Kind::map)
        problems_.push_back({other.place, fmt::format("<<: expected a map to merge, found {}", other.describe())});
      for (const auto& entry : other.entries)
        if (!map.find(entry.key)) map.entries.push_back(entry);
    }
  }

  static constexpr std::size_t kLongestKey = 200;
  /// Long text counts as several values, so that repeated aliases of it are bounded too.
  static constexpr std::size_t kBytesPerValue = 100;

  const int origin_;
  std::vector<Problem>& problems_;
  const YamlLimits limits_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchored_;
  std::size_t total_ = 0;
  Node root_;
};

/// Length of the UTF-8 sequence at `i`; 0 if it is none (overlong forms and surrogates are none).
std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t k) { return k < s.size() ? static_cast<unsigned char>(s[k]) : 0U; };
  const auto follows = [&](std::size_t k, unsigned low = 0x80, unsigned high = 0xBF) {
    return byte(k) >= low && byte(k) <= high;
  };
  const unsigned lead = byte(i);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return follows(i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return follows(i + 1, low, high) && follows(i + 2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    return follows(i + 1, low, high) && follows(i + 2) && follows(i + 3) ? 4 : 0;
  }
  return 0;
}

/// yaml-cpp replaces or stops at such bytes without a word.
void check_bytes(std::string_view text, int origin) {
  Place at{origin, 1, 1};
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
      throw Stop(at, fmt::format("control character 0x{:02X}: not a text file?", c));
    const std::size_t length = utf8_length(text, i);
    if (length == 0) throw Stop(at, fmt::format("byte 0x{:02X} is not UTF-8", c));
    i += length;
    if (c == '\n')
      at = {origin, at.line + 1, 1};
    else
      ++at.column;
  }
}

Node read_document(std::string_view text, TreeBuilder& builder, int origin) {
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  parser.HandleNextDocument(builder);
  Node root = builder.take();
  std::vector<Problem> ignored;
  TreeBuilder second(origin, ignored, {});
  if (parser && parser.HandleNextDocument(second)) {
    Place at = second.take().place;
    throw Stop(at, "a second document begins; a configuration is one document");
  }
  return root;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const auto& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

Node* Node::find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).find(key)); }

std::string Node::describe() const {
  constexpr std::size_t kShown = 60;
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::scalar:
      return text.size() <= kShown ? fmt::format("\"{}\"", text)
                                   : fmt::format("\"{}…\" ({} bytes)", utf8_prefix(text, kShown), text.size());
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
  }
  return {};
}

std::string utf8_prefix(std::string_view text, std::size_t bytes) {
  std::size_t end = 0;
  while (end < text.size()) {
    const std::size_t next = end + std::max<std::size_t>(utf8_length(text, end), 1);
    if (next > bytes) break;
    end = next;
  }
  return std::string(text.substr(0, end));
}

Node parse_yaml(std::string_view text, int origin, std::vector<Problem>& problems, const YamlLimits& limits) {
  TreeBuilder builder(origin, problems, limits);
  try {
    if (text.size() > limits.bytes)
      throw Stop({origin, 0, 0}, fmt::format("{} bytes; a configuration has at most {}", text.size(), limits.bytes));
    check_bytes(text, origin);
    return read_document(text, builder, origin);
  } catch (const Stop& stop) {
    problems.push_back({stop.place, stop.what()});
  } catch (const YAML::Exception& e) {
    const bool known = !e.mark.is_null();
    problems.push_back({known ? Place{origin, e.mark.line + 1, e.mark.column + 1} : Place{origin, 0, 0},
                        fmt::format("not valid YAML: {}", e.msg)});
  }
  return {};
}

}  // namespace mmkd::config_detail
