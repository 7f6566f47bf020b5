#include "ratelimiter/config/limits_file.h"

#include <utility>

namespace ratelimiter {

LimitsFile ParseLimits(std::string_view /*yaml*/, std::string_view name) {
  return {.errors = {std::string(name)}};
}

LimitsFile ReadLimitsFile(const std::string& path) { return ParseLimits("", path); }

std::shared_ptr<const LimitSet> DefaultLimits(const Quota& quota) {
  std::vector<Limit> limits;
  limits.push_back({.name = "default", .quota = quota});
  return std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser);
}

}  // namespace ratelimiter
