#pragma once

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace ratelimiter {

// Ends the program, which libFuzzer reports with its input, unless a property holds.
inline void Require(bool holds, std::string_view property) {
  if (holds) return;
  std::cerr << "does not hold: " << property << '\n';
  std::abort();
}

}  // namespace ratelimiter
