#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <absl/status/status.h>

namespace ratelimiter {

// Bounds on a request. A limit with a condition beyond them could never match.
inline constexpr std::size_t kMaxUserIdBytes = 256;
inline constexpr std::size_t kMaxPathBytes = 1024;
inline constexpr std::size_t kMaxAttributes = 16;
inline constexpr std::size_t kMaxAttributeKeyBytes = 64;
inline constexpr std::size_t kMaxAttributeValueBytes = 256;

// A property of a request that the caller provides, such as plan or tenant.
struct AttributeView {
  std::string_view key;
  std::string_view value;
};

// Opaque caller context, for observers. The caller defines it.
struct Origin;

// One request. The strings must outlive it.
struct Request {
  std::string_view user_id{};
  std::string_view path{};
  // Keys are unique.
  std::span<const AttributeView> attributes{};
  std::uint64_t cost = 1;
  bool dry_run = false;
  // Evaluate every limit even once the outcome is known.
  bool details = false;
  // May be null.
  const Origin* origin = nullptr;

  // Whether the request takes tokens and is counted: not at a cost of 0, nor in a dry run.
  bool charges() const { return cost > 0 && !dry_run; }

  std::optional<std::string_view> Attribute(std::string_view key) const {
    const auto found = std::ranges::find(attributes, key, &AttributeView::key);
    if (found == attributes.end()) return std::nullopt;
    return found->value;
  }
};

// OK if the request has a user id and is within the bounds above. Otherwise INVALID_ARGUMENT, which
// names the field, its length and the accepted range. The caller must have checked that strings are
// UTF-8.
absl::Status Validate(const Request& request);

}  // namespace ratelimiter
