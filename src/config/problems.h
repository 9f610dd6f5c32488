#pragma once
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "keys.h"
#include "yaml_document.h"

namespace mmkd::config_detail {

/// What one reading of a configuration finds out beside the values: where keys stand, what is wrong, what to tell.
class Findings {
 public:
  Findings(std::string file, std::vector<std::string> overrides);

  /// Key paths and section paths that the file or an override gives.
  std::map<std::string, Place> places;
  std::vector<std::string> notes;
  std::vector<Problem> problems;

  /// `path` has a wrong value: remembered, so that no check that depends on it adds a problem of its own.
  void add(const Place& place, const std::string& path, const std::string& message);
  /// `path` was probably meant by something that is reported already: as if it had a wrong value.
  void suspect(const std::string& path) { wrong_.insert(path); }
  /// The values of `paths` do not go together. Reported for the first of them that is given; dropped if one of them was
  /// wrong already.
  void conflict(const std::vector<std::string>& paths, const std::string& message);
  /// `path` has no value. Reported at the nearest section that is given; dropped if it, or a key that it `depends` on,
  /// was wrong already.
  void missing(const std::string& path, const std::string& message, const std::vector<std::string>& depends = {});
  bool given(const std::string& path) const { return places.count(path) != 0; }

  /// `file:line:column`, `file`, or `--set a.b=c`.
  std::string location(const Place& place) const;
  /// "default", "file:line" or "--set".
  std::string source(const std::string& path) const;
  /// One line per problem, in the order of the file and then of the overrides; shortened if there are very many.
  std::vector<std::string> lines() const;

 private:
  bool wrong(std::string path) const;
  bool any_wrong(const std::vector<std::string>& paths) const;
  void add_near(const std::string& path, const std::string& message);

  std::string file_;
  std::vector<std::string> overrides_;
  std::set<std::string> wrong_;
};

}  // namespace mmkd::config_detail
