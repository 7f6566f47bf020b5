#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {

// The limits of a limits file, or why it is rejected.
struct LimitsFile {
  // Null if there are errors.
  std::shared_ptr<const LimitSet> limits{};
  // All errors of the file, in its order, one line each: "<file>:<line>:<column>: <what was
  // found>; accepted: <what is>".
  std::vector<std::string> errors{};
  // Accepted, but possibly surprising; in the same form.
  std::vector<std::string> warnings{};
  // The file's content, if ReadLimitsFile could read it.
  std::string text{};
};

// Parses the YAML of a limits file, as docs/use/limits.md describes it. Messages call the file
// `name`. Thread-safe.
LimitsFile ParseLimits(std::string_view yaml, std::string_view name);

// Parses the file at `path`. A file that cannot be read is one of the errors.
LimitsFile ReadLimitsFile(const std::string& path);

// The only limit of a daemon without a limits file: "default", by user.
std::shared_ptr<const LimitSet> DefaultLimits(const BucketSpec& spec);

}  // namespace ratelimiter
