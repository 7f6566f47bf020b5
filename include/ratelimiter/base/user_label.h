#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ratelimiter {

// What a user is called where figures are kept by user (METRICS_USER_LABEL).
enum class UserLabel : std::uint8_t {
  // The id, made fit for a label by Printable; 128 bytes of it at most.
  kPlain,
  // The first 16 hexadecimal digits of the id's SHA-256: the same on all instances, so
  // that series add up. Who knows an id finds its series; who does not can only guess.
  kHash,
  // kAllUsers, whoever it is.
  kOff,
};

inline constexpr std::string_view kAllUsers = "__all__";

std::string LabelOf(std::string_view user, UserLabel label);

}  // namespace ratelimiter
