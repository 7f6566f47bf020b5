#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <absl/status/status.h>

namespace ratelimiter {

// What a request may hold, in bytes; attributes by number as well. A limit that
// asks for more could never match.
inline constexpr std::size_t kMaxUserIdBytes = 256;
inline constexpr std::size_t kMaxPathBytes = 1024;
inline constexpr std::size_t kMaxAttributes = 16;
inline constexpr std::size_t kMaxAttributeKeyBytes = 64;
inline constexpr std::size_t kMaxAttributeValueBytes = 256;

// A property of a request that the caller names, such as plan or tenant.
struct AttributeView {
  std::string_view key;
  std::string_view value;
};

// Where a request comes from: for whoever gave it to the limiter to know it again.
struct Origin;

// One request, as the limiter sees it. The strings are the caller's.
struct Request {
  std::string_view user_id{};
  std::string_view path{};
  // Each key once.
  std::span<const AttributeView> attributes{};
  std::uint64_t cost = 1;
  bool dry_run = false;
  // Whether limits are looked at that cannot change the decision any more.
  bool details = false;
  // nullptr: that is no matter.
  const Origin* origin = nullptr;

  // Whether the decision takes tokens and is counted.
  bool charges() const { return cost > 0 && !dry_run; }

  std::optional<std::string_view> Attribute(std::string_view key) const {
    const auto found = std::ranges::find(attributes, key, &AttributeView::key);
    if (found == attributes.end()) return std::nullopt;
    return found->value;
  }
};

// OK if the request holds what it may: then it has a user id, and no string is too
// long. Otherwise INVALID_ARGUMENT, which says what came and what is accepted.
// That the strings are UTF-8 is for whoever reads them to check.
absl::Status Validate(const Request& request);

}  // namespace ratelimiter
