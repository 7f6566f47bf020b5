#pragma once

#include <span>
#include <string_view>

#include "ratelimiter/metrics/redis_metrics.h"

namespace ratelimiter {

// What is made of an error that Redis replied. docs/operate/failures.md has the same table.
struct ErrorPolicy {
  // What the error begins with, as whole words. Empty: any other.
  std::string_view code;
  // Whether it is about what was asked: others would be answered. Such a call gets
  // INTERNAL. Any other error is a failed store: UNAVAILABLE, and a failure to the
  // breaker.
  bool of_the_command = false;
  // Whether a node of a Cluster says so of a call that another is to run, and that it
  // has changed nothing for. Where REDIS_URL names a Cluster that is followed, and no
  // error.
  bool redirects = false;
  // Whether the next call connects anew, to what the host name then leads to.
  bool reconnect = false;
  // What it counts as, in redis_errors_total.
  RedisError counted_as = RedisError::kOther;
  // What it means for whoever runs the daemon. May be empty.
  std::string_view advice;
};

// In the order in which they are looked for; the last is of any error.
std::span<const ErrorPolicy> ErrorPolicies();

const ErrorPolicy& ErrorPolicyFor(std::string_view error);

}  // namespace ratelimiter
