#pragma once

#include <string>

#include "ratelimiter/config/settings.h"

namespace ratelimiter {

// Checks settings against each other. `settings` holds values that are accepted by themselves.
// Returns the conflicts, one a line, as "SETTINGS: what is wrong; accepted: what is"; empty if
// there are none.
std::string CheckSettings(const Settings& settings);

// The same for CAPACITY, REFILL_TOKENS and REFILL_INTERVAL, which together must be enforceable.
std::string CheckSpec(const BucketSpec& spec);

}  // namespace ratelimiter
