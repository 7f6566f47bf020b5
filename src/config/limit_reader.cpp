#include "limit_reader.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::array kLimitKeys = {"name"sv,      "path"sv,     "attributes"sv, "by"sv,
                                   "capacity"sv,  "refill"sv,   "cost"sv,       "shadow"sv,
                                   "fail_mode"sv, "overrides"sv};
constexpr std::array kOverrideKeys = {"user"sv,     "path"sv,   "attributes"sv,
                                      "capacity"sv, "refill"sv, "unlimited"sv};

constexpr std::string_view kNameForm = "1 to 64 of A-Z a-z 0-9 _ - .";
constexpr std::string_view kPathForm = "a path, a prefix that ends with /*, or *";
constexpr std::string_view kByForm = "user, path, attributes.<key>";
constexpr std::string_view kRefillForm = "\"<tokens> per <duration>\", such as \"5 per 1m\"";
constexpr std::uint64_t kMaxTokens = kExactBound - 1;
constexpr std::uint64_t kMaxCost = 1'000'000;

using Attributes = std::map<std::string, std::string, std::less<>>;

struct Refill {
  std::uint64_t tokens = 0;
  std::chrono::microseconds interval{0};
};

// The parameters that a limit or an override sets.
struct Numbers {
  std::optional<std::uint64_t> capacity{};
  std::optional<Refill> refill{};
  // nullptr: not set.
  const YamlField* capacity_field = nullptr;
  const YamlField* refill_field = nullptr;

  // Whether everything that is set could be read.
  bool read() const {
    return capacity.has_value() == (capacity_field != nullptr) &&
           refill.has_value() == (refill_field != nullptr);
  }
};

std::string ReadName(const YamlField& limit, const YamlField* field) {
  constexpr std::size_t kMaxBytes = 64;
  if (field == nullptr) {
    limit.Report("a limit has no name", fmt::format("name, {}", kNameForm));
    return {};
  }
  const auto name = field->Text(kNameForm);
  if (!name.has_value()) return {};
  const bool accepted =
      !name->empty() && name->size() <= kMaxBytes && std::ranges::all_of(*name, [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.';
      });
  if (!accepted) field->Reject(kNameForm);
  return *name;
}

PathPattern ReadPath(const YamlField& field) {
  PathPattern path(field.Text(0, kMaxPathBytes).value_or("*"));
  if (!path.any() && path.literal().find('*') != std::string_view::npos) field.Reject(kPathForm);
  return path;
}

// Names and values within the bounds of requests.
Attributes ReadAttributes(const YamlField& field) {
  Attributes attributes;
  if (field.size() > kMaxAttributes) {
    field.Report(fmt::format("{} attributes are named", field.size()),
                 fmt::format("at most {}, as a request has", kMaxAttributes));
    return attributes;
  }
  const auto fields = field.Map({});
  if (!fields.has_value()) return attributes;
  if (fields->size() > kMaxAttributes) {  // With those that were merged.
    field.Report(fmt::format("{} attributes are named", fields->size()),
                 fmt::format("at most {}, as a request has", kMaxAttributes));
    return attributes;
  }
  for (const YamlField& attribute : *fields) {
    const std::string& key = attribute.name();
    if (key.empty() || key.size() > kMaxAttributeKeyBytes) {
      attribute.Report(fmt::format("the attribute name {} has {} bytes", Quoted(key), key.size()),
                       fmt::format("1 to {}", kMaxAttributeKeyBytes));
    }
    auto value = attribute.Text(0, kMaxAttributeValueBytes);
    if (value.has_value()) attributes.emplace(key, *std::move(value));
  }
  return attributes;
}

void ReadByItem(const YamlField& field, CountBy& by) {
  constexpr std::string_view kAttribute = "attributes.";
  const auto text = field.Text(kByForm);
  if (!text.has_value()) return;
  const auto add = [&](bool& named) {
    if (named) field.Report(fmt::format("by names {} again", Quoted(*text)), "once");
    named = true;
  };
  const std::string key = text->starts_with(kAttribute) ? text->substr(kAttribute.size()) : "";
  if (*text == "user") {
    add(by.user);
  } else if (*text == "path") {
    add(by.path);
  } else if (!key.empty() && key.size() <= kMaxAttributeKeyBytes) {
    bool named = std::ranges::find(by.attributes, key) != by.attributes.end();
    if (!named) by.attributes.push_back(key);
    add(named);
  } else {
    field.Reject(fmt::format("{} (of 1 to {} bytes)", kByForm, kMaxAttributeKeyBytes));
  }
}

std::optional<FailMode> ReadFailMode(const YamlField& field) {
  const auto text = field.Text(kFailModeNames);
  if (!text.has_value()) return std::nullopt;
  const auto mode = ParseFailMode(*text);
  if (!mode.has_value()) field.Reject(kFailModeNames);
  return mode;
}

CountBy ReadBy(const YamlField& field) {
  constexpr std::size_t kMost = kMaxAttributes + 2;
  const auto items = field.List(kByForm, "by", kMost);
  if (!items.has_value()) return {};
  CountBy by = {.user = false};
  for (const YamlField& item : *items) ReadByItem(item, by);
  std::ranges::sort(by.attributes);
  return by;
}

std::optional<Refill> ReadRefill(const YamlField& field) {
  constexpr std::string_view kPer = " per ";
  const auto text = field.Text(kRefillForm);
  if (!text.has_value()) return std::nullopt;
  const std::size_t per = text->find(kPer);
  const auto tokens = ParsePlainNumber(std::string_view(*text).substr(0, per));
  const auto interval = per == std::string::npos
                            ? std::nullopt
                            : ParseDuration(std::string_view(*text).substr(per + kPer.size()));
  if (!tokens.has_value() || !interval.has_value()) {
    field.Reject(kRefillForm);
    return std::nullopt;
  }
  if (*tokens > kMaxTokens) {
    field.Report(fmt::format("refill tokens is {}", *tokens), fmt::format("1 to {}", kMaxTokens));
    return std::nullopt;
  }
  const Refill refill = {*tokens, *interval};
  // With the smallest capacity, so that only errors of the refill are reported.
  if (const absl::Status valid = Validate({1, refill.tokens, refill.interval}); !valid.ok()) {
    field.diagnostics().Add(field.location(), std::string(valid.message()));
    return std::nullopt;
  }
  return refill;
}

Numbers ReadNumbers(const YamlFields& fields) {
  Numbers numbers = {.capacity_field = fields.Find("capacity"),
                     .refill_field = fields.Find("refill")};
  if (numbers.capacity_field != nullptr) {
    numbers.capacity = numbers.capacity_field->Number(0, kMaxTokens);
  }
  if (numbers.refill_field != nullptr) numbers.refill = ReadRefill(*numbers.refill_field);
  return numbers;
}

// The spec of a limit, or of an override that takes from its limit what it does not set.
// nullopt: it cannot be enforced, which `where` or its fields reported.
std::optional<BucketSpec> SpecOf(const YamlField& where, const Numbers& given,
                                 const Numbers& limits, const Limit& limit) {
  if (!given.read()) return std::nullopt;
  const auto capacity = given.capacity.has_value() ? given.capacity : limits.capacity;
  const auto refill = given.refill.has_value() ? given.refill : limits.refill;
  if (!capacity.has_value()) return std::nullopt;
  if (*capacity == 0) {
    if (given.refill_field == nullptr) return BucketSpec{};
    given.refill_field->Report("refill has no meaning where capacity is 0, which always refuses",
                               "no refill");
    return std::nullopt;
  }
  if (!refill.has_value()) {
    // Reported once, where the limit lacks it.
    if (limits.read() && (&given == &limits || limits.capacity == 0)) {
      where.Report(fmt::format("{} has a capacity and no refill", where.name()),
                   fmt::format("refill, {}", kRefillForm));
    }
    return std::nullopt;
  }
  const BucketSpec spec = {*capacity, refill->tokens, refill->interval};
  if (const absl::Status valid = Validate(spec); !valid.ok()) {
    const YamlField* const field =
        given.refill_field != nullptr ? given.refill_field : given.capacity_field;
    where.diagnostics().Add(field->location(), std::string(valid.message()));
    return std::nullopt;
  }
  if (given.capacity_field != nullptr && limit.cost > spec.capacity && !limit.shadow) {
    given.capacity_field->Report(
        fmt::format("capacity is {}, below the limit's cost {}, so that no request could pass",
                    spec.capacity, limit.cost),
        fmt::format("{} and more, or 0, which always refuses", limit.cost));
  }
  return spec;
}

// `by` in the notation of the file.
std::string Describe(const CountBy& by) {
  std::vector<std::string> names;
  if (by.user) names.emplace_back("user");
  if (by.path) names.emplace_back("path");
  for (const std::string& key : by.attributes) names.push_back("attributes." + key);
  return names.empty() ? "none, for all share one bucket"
                       : fmt::format("{}", fmt::join(names, ", "));
}

// Reads which buckets an override applies to. False: an error was reported.
bool ReadNamed(const YamlField& where, const YamlFields& fields, const Limit& limit,
               Override& override) {
  const std::size_t told = where.diagnostics().size();
  const auto check_counted = [&](const YamlField& field, bool counted, std::string_view name) {
    if (counted) return;
    field.Report(fmt::format("an override names {}, which its limit does not count by", name),
                 fmt::format("what `by` names: {}", Describe(limit.by)));
  };
  if (const YamlField* const user = fields.Find("user"); user != nullptr) {
    override.user = user->Text(1, kMaxUserIdBytes);
    check_counted(*user, limit.by.user, "user");
  }
  if (const YamlField* const path = fields.Find("path"); path != nullptr) {
    override.path = path->Text(0, kMaxPathBytes);
    check_counted(*path, limit.by.path, "path");
    if (override.path.has_value() && override.path->find('*') != std::string::npos) {
      path->Reject("one path, without *");
    } else if (override.path.has_value() && !limit.path.Matches(*override.path)) {
      path->Reject(fmt::format("a path that the limit applies to: {}", Quoted(limit.path.text())));
    }
  }
  if (const YamlField* const attributes = fields.Find("attributes"); attributes != nullptr) {
    override.attributes = ReadAttributes(*attributes);
    for (const auto& [key, value] : override.attributes) {
      check_counted(*attributes,
                    std::ranges::find(limit.by.attributes, key) != limit.by.attributes.end(),
                    fmt::format("attributes.{}", key));
      const auto condition = limit.attributes.find(key);
      if (condition == limit.attributes.end() || condition->second == value) continue;
      attributes->Report(fmt::format("the attribute {} is {}, which its limit does not apply to",
                                     Quoted(key), Quoted(value)),
                         Quoted(condition->second));
    }
  }
  if (where.diagnostics().size() != told) return false;
  if (override.user.has_value() || override.path.has_value() || !override.attributes.empty()) {
    return true;
  }
  where.Report("an override names nothing", fmt::format("what `by` names: {}", Describe(limit.by)));
  return false;
}

void ReadSpec(const YamlField& where, const YamlFields& fields, const Limit& limit,
              const Numbers& limits, Override& override) {
  const YamlField* const unlimited = fields.Find("unlimited");
  if (unlimited != nullptr && unlimited->Switch().value_or(true)) {
    for (const std::string_view key : {"capacity"sv, "refill"sv}) {
      const YamlField* const field = fields.Find(key);
      if (field == nullptr) continue;
      field->Report(fmt::format("{} has no meaning with unlimited", key),
                    fmt::format("no {}", key));
    }
    return;
  }
  const Numbers given = ReadNumbers(fields);
  if (given.capacity_field == nullptr && given.refill_field == nullptr) {
    where.Report("an override changes nothing", "capacity, refill, or unlimited: true");
    return;
  }
  // If it has no value, an error was reported.
  override.spec = SpecOf(where, given, limits, limit);
}

// Reports overrides that are never reached, because an earlier one applies to all their
// requests. locations[i] is that of overrides[i].
void CheckReached(const Limit& limit, const std::vector<SourceLocation>& locations,
                  Diagnostics& diagnostics) {
  if (limit.overrides.size() < 2) return;
  const LimitSet alone({limit}, HashBy::kUser);
  const Limit& indexed = alone.limits().front();
  for (std::size_t i = 0; i < indexed.overrides.size(); ++i) {
    const Override& override = indexed.overrides[i];
    std::vector<AttributeView> attributes;
    attributes.reserve(override.attributes.size());
    for (const auto& [key, value] : override.attributes) attributes.push_back({key, value});
    // A request with what it names, and otherwise with what no override names: users are never
    // empty, and paths of overrides have no *.
    const Request least = {.user_id = override.user.has_value() ? *override.user : ""sv,
                           .path = override.path.has_value() ? *override.path : "*"sv,
                           .attributes = attributes};
    const Override* const holds = alone.OverrideFor(indexed, least);
    if (holds == &override) continue;
    const SourceLocation first =
        locations[static_cast<std::size_t>(holds - indexed.overrides.data())];
    diagnostics.Add(
        locations[i],
        fmt::format("an override is never reached: the one at line {} applies first; accepted: "
                    "each once, the more specific ones first",
                    first.line));
  }
}

void ReadOverrides(const YamlField& field, const Numbers& limits, Limit& limit,
                   std::size_t& overrides_left) {
  const auto list = field.List("overrides", "an override", overrides_left);
  if (!list.has_value()) return;
  overrides_left -= list->size();
  std::vector<SourceLocation> locations;
  for (const YamlField& item : *list) {
    if (item.diagnostics().full()) return;
    const auto fields = item.Map(kOverrideKeys);
    if (!fields.has_value()) continue;
    Override override;
    const bool named = ReadNamed(item, *fields, limit, override);
    ReadSpec(item, *fields, limit, limits, override);
    if (!named) continue;
    limit.overrides.push_back(std::move(override));
    locations.push_back(item.location());
  }
  CheckReached(limit, locations, field.diagnostics());
}

// Reads which requests a limit applies to and what it counts by. False: an error was reported.
bool ReadConditions(const YamlField& where, const YamlFields& fields, Limit& limit) {
  const std::size_t told = where.diagnostics().size();
  limit.name = ReadName(where, fields.Find("name"));
  if (const YamlField* const path = fields.Find("path"); path != nullptr) {
    limit.path = ReadPath(*path);
  }
  if (const YamlField* const attributes = fields.Find("attributes"); attributes != nullptr) {
    limit.attributes = ReadAttributes(*attributes);
  }
  if (const YamlField* const by = fields.Find("by"); by != nullptr) limit.by = ReadBy(*by);
  const std::size_t required = limit.RequiredAttributes().size();
  if (required > kMaxAttributes) {
    where.Report(
        fmt::format("a limit asks for {} attributes, so that no request could be subject to "
                    "it",
                    required),
        fmt::format("at most {} in attributes and by together", kMaxAttributes));
  }
  return where.diagnostics().size() == told;
}

}  // namespace

std::optional<Limit> ReadLimit(const YamlField& field, std::size_t& overrides_left) {
  const auto fields = field.Map(kLimitKeys);
  if (!fields.has_value()) return std::nullopt;
  Limit limit;
  const bool conditions_read = ReadConditions(field, *fields, limit);
  if (const YamlField* const cost = fields->Find("cost"); cost != nullptr) {
    limit.cost = cost->Number(1, kMaxCost).value_or(1);
  }
  if (const YamlField* const shadow = fields->Find("shadow"); shadow != nullptr) {
    limit.shadow = shadow->Switch().value_or(false);
  }
  if (const YamlField* const mode = fields->Find("fail_mode"); mode != nullptr) {
    limit.fail_mode = ReadFailMode(*mode);
  }
  const Numbers numbers = ReadNumbers(*fields);
  if (numbers.capacity_field == nullptr) {
    field.Report("a limit has no capacity",
                 fmt::format("capacity, a whole number, 0 to {}", kMaxTokens));
  }
  limit.spec = SpecOf(field, numbers, numbers, limit).value_or(BucketSpec{});
  // Overrides are checked against `by` of their limit.
  const YamlField* const overrides = fields->Find("overrides");
  if (overrides != nullptr && conditions_read) {
    ReadOverrides(*overrides, numbers, limit, overrides_left);
  }
  if (!conditions_read) return std::nullopt;
  return limit;
}

}  // namespace ratelimiter
