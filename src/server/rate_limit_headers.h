#pragma once

#include <string>

#include "ratelimiter/limiter/limiter.h"

namespace ratelimiter {

// The fields RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-10,
// as structured fields (RFC 9651): a member for each limit that is not a shadow.
// Empty where there is none. Of very many limits the first are told.
//
// Policy: q is the capacity in tokens, w the seconds in which an empty bucket
// fills. State: r is the tokens left, t the seconds until the bucket is full.
// Seconds are rounded up; a limit of capacity 0 has neither w nor t.
struct RateLimitHeaders {
  std::string policy;
  std::string state;
};

RateLimitHeaders RateLimitHeadersOf(const Answer& answer);

}  // namespace ratelimiter
