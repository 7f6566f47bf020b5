#include "ratelimiter/limiter/request.h"

#include <string>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

absl::Status CheckLength(std::string_view what, std::string_view text, std::size_t most) {
  if (text.size() <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is {} bytes long; accepted: at most {} bytes", what, text.size(), most));
}

absl::Status CheckUserId(std::string_view user_id) {
  if (!user_id.empty() && user_id.size() <= kMaxUserIdBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      user_id.empty() ? fmt::format("user_id is empty; accepted: 1 to {} bytes", kMaxUserIdBytes)
                      : fmt::format("user_id is {} bytes long; accepted: 1 to {} bytes",
                                    user_id.size(), kMaxUserIdBytes));
}

absl::Status CheckAttribute(const AttributeView& attribute) {
  const auto& [key, value] = attribute;
  if (key.empty() || key.size() > kMaxAttributeKeyBytes) {
    return absl::InvalidArgumentError(
        fmt::format("an attribute's key is {} bytes long; accepted: 1 to {} bytes", key.size(),
                    kMaxAttributeKeyBytes));
  }
  if (value.size() <= kMaxAttributeValueBytes) return absl::OkStatus();
  return CheckLength(fmt::format("attribute \"{}\"", Printable(key, kMaxAttributeKeyBytes)), value,
                     kMaxAttributeValueBytes);
}

}  // namespace

absl::Status Validate(const Request& request) {
  if (absl::Status valid = CheckUserId(request.user_id); !valid.ok()) return valid;
  if (absl::Status valid = CheckLength("path", request.path, kMaxPathBytes); !valid.ok()) {
    return valid;
  }
  if (request.attributes.size() > kMaxAttributes) {
    return absl::InvalidArgumentError(fmt::format("there are {} attributes; accepted: at most {}",
                                                  request.attributes.size(), kMaxAttributes));
  }
  for (const AttributeView& attribute : request.attributes) {
    if (absl::Status valid = CheckAttribute(attribute); !valid.ok()) return valid;
  }
  return absl::OkStatus();
}

}  // namespace ratelimiter
