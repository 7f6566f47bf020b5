#pragma once

#include <string>

#include "ratelimiter/limiter/limiter.h"

namespace ratelimiter {

// The fields RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-11, as
// structured fields (RFC 9651), with a member for each limit that is not a shadow. Empty without
// such a limit. With very many limits only the first ones.
//
// Policy: q is the capacity in tokens, w the seconds in which an empty bucket fills. State: r is
// the tokens left, t the effective window: the seconds within which no more than r can be used,
// which end with the next token. A retry_after never ends before t. Seconds are rounded up; a
// limit of capacity 0 has neither w nor t.
struct RateLimitHeaders {
  std::string policy;
  std::string state;
};

RateLimitHeaders RateLimitHeadersOf(const Answer& answer);

}  // namespace ratelimiter
