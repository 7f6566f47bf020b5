#include "yaml_field.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {

SourceLocation LocationOf(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {static_cast<std::size_t>(mark.line) + 1, static_cast<std::size_t>(mark.column) + 1};
}

std::optional<std::uint64_t> ParsePlainNumber(std::string_view text) {
  if (text.starts_with('0') && text != "0") return std::nullopt;
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

namespace {

// Bounds the work for maps that merge each other.
constexpr std::size_t kMaxMerged = 256;

std::string QuotedWithInvisible(std::string_view text) {
  const std::string invisible = DescribeInvisible(text);
  return invisible.empty() ? Quoted(text) : fmt::format("{}, which {}", Quoted(text), invisible);
}

// A quoted "<<" is a key like any other.
bool IsMergeKey(const YAML::Node& key) {
  return key.IsScalar() && key.Scalar() == "<<" && key.Tag() != "!";
}

}  // namespace

std::string Listed(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string YamlField::Described() const {
  switch (node_.Type()) {
    case YAML::NodeType::Scalar:
      return QuotedWithInvisible(node_.Scalar());
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a map";
    default:
      return "null";
  }
}

void YamlField::Report(std::string_view found, std::string_view accepted) const {
  diagnostics_->Add(location_, fmt::format("{}; accepted: {}", found, accepted));
}

void YamlField::Reject(std::string_view accepted) const {
  Report(node_.IsNull() ? fmt::format("{} has no value", name_)
                        : fmt::format("{} is {}", name_, Described()),
         accepted);
}

std::optional<std::string> YamlField::Text(std::string_view accepted) const {
  if (node_.IsScalar()) return node_.Scalar();
  Reject(accepted);
  return std::nullopt;
}

std::optional<std::string> YamlField::Text(std::size_t least, std::size_t most) const {
  auto text = Text(fmt::format("text of {} to {} bytes", least, most));
  if (!text.has_value() || (text->size() >= least && text->size() <= most)) return text;
  Report(fmt::format("{} is {}, of {} bytes", name_, Quoted(*text), text->size()),
         fmt::format("{} to {}", least, most));
  return std::nullopt;
}

std::optional<std::uint64_t> YamlField::Number(std::uint64_t least, std::uint64_t most) const {
  const auto number = node_.IsScalar() ? ParsePlainNumber(node_.Scalar()) : std::nullopt;
  if (number.has_value() && *number >= least && *number <= most) return number;
  Reject(fmt::format("a whole number, {} to {}", least, most));
  return std::nullopt;
}

std::optional<bool> YamlField::Switch() const {
  if (node_.IsScalar() && node_.Scalar() == "true") return true;
  if (node_.IsScalar() && node_.Scalar() == "false") return false;
  Reject("true, false");
  return std::nullopt;
}

std::optional<std::vector<YamlField>> YamlField::List(std::string_view what, std::string_view item,
                                                      std::size_t most) const {
  if (!node_.IsSequence()) {
    Reject(fmt::format("a list of {}", what));
    return std::nullopt;
  }
  if (node_.size() > most) {
    Report(fmt::format("{} is a list of {}", name_, node_.size()), fmt::format("at most {}", most));
    return std::nullopt;
  }
  std::vector<YamlField> list;
  for (const YAML::Node& node : node_) {
    list.emplace_back(std::string(item), LocationOf(node.Mark()), node, *diagnostics_);
  }
  return list;
}

// Collects the fields of a map and of the maps that it merges.
class YamlField::MapReader {
 public:
  MapReader(std::span<const std::string_view> keys, Diagnostics& diagnostics)
      : keys_(keys), diagnostics_(diagnostics) {}

  void Read(const YAML::Node& map) {
    std::vector<YAML::Node> merges;
    const std::size_t inherited_from = fields_.size();
    for (const auto& entry : map) {
      if (diagnostics_.full()) return;
      if (IsMergeKey(entry.first)) {
        merges.push_back(entry.second);
      } else {
        ReadEntry(entry.first, entry.second, inherited_from);
      }
    }
    for (const YAML::Node& merge : merges) Merge(merge);
  }

  std::vector<YamlField> fields() && { return std::move(fields_); }

 private:
  void Merge(const YAML::Node& value) {
    const YamlField field("<<", LocationOf(value.Mark()), value, diagnostics_);
    if (!value.IsMap() && !value.IsSequence()) return field.Reject("a map, or a list of maps");
    if (value.IsMap()) return MergeMap(value, field);
    for (const YAML::Node& map : value) {
      if (diagnostics_.full()) return;
      if (map.IsMap()) {
        MergeMap(map, field);
      } else {
        field.Report("<< lists something other than a map", "a map, or a list of maps");
      }
    }
  }

  void MergeMap(const YAML::Node& map, const YamlField& field) {
    if (std::exchange(merged_, merged_ + 1 + map.size()) > kMaxMerged) return;
    if (merged_ > kMaxMerged) {
      field.Report("too much is merged", fmt::format("up to {} maps and entries", kMaxMerged));
    } else {
      Read(map);
    }
  }

  // Entries from `own` on are of the same map, which must not repeat a key.
  void ReadEntry(const YAML::Node& key, const YAML::Node& value, std::size_t own) {
    // An empty value is marked where the next token is.
    const SourceLocation location = LocationOf(value.IsNull() ? key.Mark() : value.Mark());
    const YamlField key_field("a key", LocationOf(key.Mark()), key, diagnostics_);
    if (!key.IsScalar()) {
      key_field.Report(fmt::format("a key is {}", key_field.Described()),
                       keys_.empty() ? "text" : Listed(keys_));
      return;
    }
    if (!keys_.empty() && std::ranges::find(keys_, key.Scalar()) == keys_.end()) {
      key_field.Report(fmt::format("unknown key {}", key_field.Described()), Listed(keys_));
      return;
    }
    const auto same = std::ranges::find(fields_, key.Scalar(), &YamlField::name);
    if (same == fields_.end()) {
      fields_.emplace_back(key.Scalar(), location, value, diagnostics_);
    } else if (std::cmp_greater_equal(same - fields_.begin(), own)) {
      key_field.Report(fmt::format("duplicate key {}", key_field.Described()), "once");
    }
  }

  const std::span<const std::string_view> keys_;
  Diagnostics& diagnostics_;
  std::vector<YamlField> fields_;
  std::size_t merged_ = 0;  // Maps and their entries.
};

std::optional<YamlFields> YamlField::Map(std::span<const std::string_view> keys) const {
  if (!node_.IsMap()) {
    Reject(keys.empty() ? "a map of names to texts" : fmt::format("a map with {}", Listed(keys)));
    return std::nullopt;
  }
  MapReader reader(keys, *diagnostics_);
  reader.Read(node_);
  return YamlFields(std::move(reader).fields());
}

const YamlField* YamlFields::Find(std::string_view key) const {
  const auto found = std::ranges::find(fields_, key, &YamlField::name);
  return found == fields_.end() ? nullptr : &*found;
}

}  // namespace ratelimiter
