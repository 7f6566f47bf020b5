#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "diagnostics.h"

namespace ratelimiter {

class YamlFields;

// A value of a YAML file, by the name that messages give it. What is read from
// it is nothing where the value is not accepted, and then that is told.
class YamlField {
 public:
  // The findings must outlive it.
  YamlField(std::string name, SourceLocation location, const YAML::Node& node,
            Diagnostics& diagnostics)
      : name_(std::move(name)), location_(location), node_(node), diagnostics_(&diagnostics) {}

  const std::string& name() const { return name_; }
  SourceLocation location() const { return location_; }
  Diagnostics& diagnostics() const { return *diagnostics_; }
  // Of a map: how many entries it has.
  std::size_t size() const { return node_.size(); }

  // `accepted` is for the message where there is no text.
  std::optional<std::string> Text(std::string_view accepted) const;
  // The same, of so many bytes.
  std::optional<std::string> Text(std::size_t least, std::size_t most) const;
  // A plain number, from `least` to `most`.
  std::optional<std::uint64_t> Number(std::uint64_t least, std::uint64_t most) const;
  // true or false.
  std::optional<bool> Switch() const;
  // A list of at most so many; `what` says for messages what it is of. Its values
  // have the name `item`.
  std::optional<std::vector<YamlField>> List(std::string_view what, std::string_view item,
                                             std::size_t most) const;
  // A map, of whose keys each comes once and is one of `keys`; no `keys`: any.
  // Others are told, and left out.
  std::optional<YamlFields> Map(std::span<const std::string_view> keys) const;

  // Tells that this value is not what is accepted.
  void Reject(std::string_view accepted) const;
  void Report(std::string_view found, std::string_view accepted) const;

 private:
  // What there is, for a message: "a list", or a text in quotes.
  std::string Described() const;

  std::string name_;
  SourceLocation location_;
  YAML::Node node_;
  Diagnostics* diagnostics_;
};

// The fields of a map, in its order; a field's name is its key.
class YamlFields {
 public:
  explicit YamlFields(std::vector<YamlField> fields) : fields_(std::move(fields)) {}

  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

  // nullptr: the map does not have it.
  const YamlField* Find(std::string_view key) const;

 private:
  std::vector<YamlField> fields_;
};

SourceLocation LocationOf(const YAML::Mark& mark);

// A plain decimal and nothing else. YAML may take a zero before other digits for
// the sign of an octal number: so that is none.
std::optional<std::uint64_t> ParsePlainNumber(std::string_view text);

// "a, b, c"
std::string Listed(std::span<const std::string_view> names);

}  // namespace ratelimiter
