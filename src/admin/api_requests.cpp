#include "api_requests.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

// 32 bits, as in the gRPC API.
constexpr std::uint64_t kMaxCost = std::numeric_limits<std::uint32_t>::max();

absl::Status WrongType(std::string_view what, const Json& value, std::string_view accepted) {
  return absl::InvalidArgumentError(
      fmt::format("{} is of type {}; accepted: {}", what, value.type_name(), accepted));
}

// Reads a string; leaves `result` unchanged if there is none.
absl::Status ReadString(const Json& object, const char* name, std::string_view& result) {
  const auto value = object.find(name);
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_string()) return WrongType(name, *value, "a string");
  result = value->get_ref<const std::string&>();
  return absl::OkStatus();
}

absl::Status ReadCost(const Json& object, std::uint64_t& result) {
  const auto value = object.find("cost");
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() > kMaxCost) {
    return absl::InvalidArgumentError(fmt::format("cost is {}; accepted: a whole number, 0 to {}",
                                                  Printable(Dump(*value), kMaxShownBytes),
                                                  kMaxCost));
  }
  result = value->get<std::uint64_t>();
  return absl::OkStatus();
}

absl::Status ReadBool(const Json& object, const char* name, bool& result) {
  const auto value = object.find(name);
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_boolean()) return WrongType(name, *value, "true or false");
  result = value->get<bool>();
  return absl::OkStatus();
}

absl::Status ReadAttributes(AskedRequest& asked) {
  const auto attributes = asked.body.find("attributes");
  if (attributes == asked.body.end()) return absl::OkStatus();
  if (!attributes->is_object()) {
    return WrongType("attributes", *attributes, "an object of strings");
  }
  for (const auto& [key, value] : attributes->items()) {
    if (!value.is_string()) {
      return WrongType(fmt::format("attribute \"{}\"", Printable(key, kMaxShownBytes)), value,
                       "a string");
    }
    asked.attributes.push_back({key, value.get_ref<const std::string&>()});
  }
  asked.request.attributes = asked.attributes;
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseObject(std::string_view text, std::span<const std::string_view> accepted,
                         Json& object) {
  try {
    object = Json::parse(text);
  } catch (const Json::exception& error) {
    // The text begins with the library's own error number: "[json...] ".
    std::string_view what = error.what();
    what.remove_prefix(what.find("] ") + 2);
    return absl::InvalidArgumentError(fmt::format(
        "the body is not JSON: {}; accepted: a JSON object", Printable(what, kMaxShownBytes)));
  }
  if (!object.is_object()) return WrongType("the body", object, "a JSON object");
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(accepted, name) == accepted.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "there is no field \"{}\" here; accepted: {}", Printable(name, kMaxShownBytes),
          accepted.empty() ? "none" : fmt::format("{}", fmt::join(accepted, ", "))));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRequest(std::string_view text, std::span<const std::string_view> accepted,
                         AskedRequest& asked) {
  absl::Status valid = ParseObject(text, accepted, asked.body);
  if (valid.ok()) valid = ReadString(asked.body, "user_id", asked.request.user_id);
  if (valid.ok()) valid = ReadString(asked.body, "path", asked.request.path);
  if (valid.ok()) valid = ReadString(asked.body, "limit", asked.limit);
  if (valid.ok()) valid = ReadCost(asked.body, asked.request.cost);
  if (valid.ok()) valid = ReadBool(asked.body, "dry_run", asked.request.dry_run);
  if (valid.ok()) valid = ReadAttributes(asked);
  if (valid.ok()) valid = Validate(asked.request);
  return valid;
}

}  // namespace ratelimiter
