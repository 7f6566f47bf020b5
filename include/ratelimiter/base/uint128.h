#pragma once

namespace ratelimiter {

// GNU's 128-bit integer, for products beyond 64 bits; __extension__ silences -Wpedantic.
__extension__ using uint128 = unsigned __int128;

}  // namespace ratelimiter
