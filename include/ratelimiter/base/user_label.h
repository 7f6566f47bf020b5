#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ratelimiter {

// How metrics name a user (METRICS_USER_LABEL).
enum class UserLabel : std::uint8_t {
  // The id as Printable shows it, up to 128 bytes.
  kPlain,
  // The first 16 hexadecimal digits of the id's SHA-256: the same on all instances, so that
  // series add up, and only those who know an id find its series.
  kHash,
  // kAllUsers for every user.
  kOff,
};

inline constexpr std::string_view kAllUsers = "__all__";

std::string LabelOf(std::string_view user, UserLabel label);

}  // namespace ratelimiter
