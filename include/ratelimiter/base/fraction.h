#pragma once

#include <cstdint>

namespace ratelimiter {

// A fraction above 0 and at most 1, in millionths.
struct Fraction {
  static constexpr std::uint32_t kAll = 1'000'000;
  std::uint32_t millionths = kAll;
};

}  // namespace ratelimiter
