#pragma once

namespace ratelimiter {

// GNU's 128-bit integer, for products that 64 bits do not hold. -Wpedantic wants it
// marked.
__extension__ using uint128 = unsigned __int128;

}  // namespace ratelimiter
