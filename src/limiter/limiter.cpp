#include "ratelimiter/limiter/limiter.h"

#include <utility>

#include <fmt/format.h>

namespace ratelimiter {

Limiter::Limiter(Limit limit, TokenBucketStore& store) : limit_(std::move(limit)), store_(store) {}

absl::StatusOr<Decision> Limiter::Allow(const Request& request, Deadline deadline) {
  if (request.cost > limit_.capacity) {
    return absl::InvalidArgumentError(fmt::format(
        "cost is {}, above the capacity of limit \"{}\", so it could never pass; accepted: 0 to {}",
        request.cost, limit_.name, limit_.capacity));
  }
  return store_.Decide(limit_, request.user_id, {.cost = request.cost, .take = request.charges()},
                       deadline);
}

absl::StatusOr<Usage> Limiter::GetUsage(std::string_view user_id, Deadline deadline) {
  const absl::StatusOr<Decision> look =
      store_.Decide(limit_, user_id, {.cost = 0, .take = false}, deadline);
  if (!look.ok()) return look.status();
  return Usage{.used = limit_.capacity - look->remaining, .allowed = limit_.capacity};
}

}  // namespace ratelimiter
