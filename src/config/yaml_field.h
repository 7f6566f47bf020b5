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

// A value of a YAML file, with the name that messages give it. A read that fails returns
// nullopt and reports why.
class YamlField {
 public:
  // `diagnostics` must outlive this object.
  YamlField(std::string name, SourceLocation location, const YAML::Node& node,
            Diagnostics& diagnostics)
      : name_(std::move(name)), location_(location), node_(node), diagnostics_(&diagnostics) {}

  const std::string& name() const { return name_; }
  SourceLocation location() const { return location_; }
  Diagnostics& diagnostics() const { return *diagnostics_; }
  // The number of entries of a map, before merges.
  std::size_t size() const { return node_.size(); }

  // `accepted` describes the text in the message if this is no text.
  std::optional<std::string> Text(std::string_view accepted) const;
  // A text of `least` to `most` bytes.
  std::optional<std::string> Text(std::size_t least, std::size_t most) const;
  std::optional<std::uint64_t> Number(std::uint64_t least, std::uint64_t most) const;
  // true or false.
  std::optional<bool> Switch() const;
  // A list of up to `most` values named `item`; `what` describes them in messages.
  std::optional<std::vector<YamlField>> List(std::string_view what, std::string_view item,
                                             std::size_t most) const;
  // A map with distinct keys, all among `keys`; any keys if `keys` is empty. Other entries are
  // reported and left out. Merge keys (<<) add the entries of other maps; the map's own entries
  // and then the first of the others win.
  std::optional<YamlFields> Map(std::span<const std::string_view> keys) const;

  // Reports that this value is not accepted.
  void Reject(std::string_view accepted) const;
  void Report(std::string_view found, std::string_view accepted) const;

 private:
  class MapReader;

  // For a message: "a list", or the text in quotes.
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
  std::size_t size() const { return fields_.size(); }

  // nullptr if the map does not have the key.
  const YamlField* Find(std::string_view key) const;

 private:
  std::vector<YamlField> fields_;
};

SourceLocation LocationOf(const YAML::Mark& mark);

// A decimal number without leading zeros, which YAML may take for an octal number.
std::optional<std::uint64_t> ParsePlainNumber(std::string_view text);

// "a, b, c"
std::string Listed(std::span<const std::string_view> names);

}  // namespace ratelimiter
