#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

#include "ratelimiter/limiter/limit.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter::testing {

// A limit that counts by user, as a store sees it.
struct NamedSpec {
  std::string name;
  std::uint64_t capacity = 0;
  std::uint64_t refill_tokens = 0;
  std::chrono::microseconds refill_interval{0};

  BucketSpec spec() const { return {capacity, refill_tokens, refill_interval}; }
};

// A charge on one bucket.
struct Ask {
  std::uint64_t cost = 1;
  bool take = true;
};

// The key of a user's bucket.
inline std::string BucketKeyOf(std::string_view user) {
  return ratelimiter::BucketKeyOf(Limit{.name = "l"}, HashBy::kUser, {.user_id = user});
}

// Has `store` decide one transaction on one bucket.
inline absl::StatusOr<Decision> Decide(TokenBucketStore& store, const NamedSpec& limit,
                                       std::string_view user, Ask ask, Deadline deadline) {
  const std::string bucket_key = BucketKeyOf(user);
  const Charge charge = {
      .limit = limit.name, .bucket_key = bucket_key, .spec = limit.spec(), .cost = ask.cost};
  Decision decision;
  Transaction transaction = {.charges = {&charge, 1},
                             .action = ask.take ? Action::kTake : Action::kPeek,
                             .decisions = {&decision, 1}};
  store.Decide({&transaction, 1}, deadline);
  if (!transaction.status.ok()) return transaction.status;
  return decision;
}

}  // namespace ratelimiter::testing
