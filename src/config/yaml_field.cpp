#include "yaml_field.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

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

std::string Listed(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string YamlField::Described() const {
  switch (node_.Type()) {
    case YAML::NodeType::Scalar:
      return Quoted(node_.Scalar());
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

std::optional<YamlFields> YamlField::Map(std::span<const std::string_view> keys) const {
  if (!node_.IsMap()) {
    Reject(keys.empty() ? "a map of names to texts" : fmt::format("a map with {}", Listed(keys)));
    return std::nullopt;
  }
  std::vector<YamlField> fields;
  for (const auto& entry : node_) {
    if (diagnostics_->full()) break;
    const YAML::Node& key = entry.first;
    const YAML::Node& value = entry.second;
    // What is empty is marked where the next thing stands.
    const SourceLocation location = LocationOf(value.IsNull() ? key.Mark() : value.Mark());
    const YamlField key_field("a key", LocationOf(key.Mark()), key, *diagnostics_);
    if (!key.IsScalar()) {
      key_field.Report(fmt::format("a key is {}", key_field.Described()),
                       keys.empty() ? "text" : Listed(keys));
    } else if (!keys.empty() && std::ranges::find(keys, key.Scalar()) == keys.end()) {
      key_field.Report(fmt::format("there is no key {} here", key_field.Described()), Listed(keys));
    } else if (std::ranges::find(fields, key.Scalar(), &YamlField::name) != fields.end()) {
      key_field.Report(fmt::format("the key {} comes again", key_field.Described()), "once");
    } else {
      fields.emplace_back(key.Scalar(), location, value, *diagnostics_);
    }
  }
  return YamlFields(std::move(fields));
}

const YamlField* YamlFields::Find(std::string_view key) const {
  const auto found = std::ranges::find(fields_, key, &YamlField::name);
  return found == fields_.end() ? nullptr : &*found;
}

}  // namespace ratelimiter
