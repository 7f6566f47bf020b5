#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {

// What a limits file holds, or why it holds nothing that can be enforced.
struct LimitsFile {
  // Null if there are errors.
  std::shared_ptr<const LimitSet> limits{};
  // For people, one line each: "<file>:<line>:<column>: <what was found>;
  // accepted: <what is>". All errors of the file, in its order.
  std::vector<std::string> errors{};
  // What is accepted, but may surprise; in the same form.
  std::vector<std::string> warnings{};
  // What ReadLimitsFile read, if it could: the file's bytes.
  std::string text{};
};

// Reads the YAML of a limits file; docs/use/limits.md describes it. `name` is what
// messages call the file. Thread-safe.
LimitsFile ParseLimits(std::string_view yaml, std::string_view name);

// The same of the file at `path`; one that cannot be read is an error.
LimitsFile ReadLimitsFile(const std::string& path);

// The one limit, named "default", by user, of a daemon without a limits file.
std::shared_ptr<const LimitSet> DefaultLimits(const BucketSpec& spec);

}  // namespace ratelimiter
