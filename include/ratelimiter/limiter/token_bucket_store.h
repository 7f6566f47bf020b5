#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/bucket_spec.h"

namespace ratelimiter {

class Metrics;

// The part of a transaction that concerns one bucket. The strings must outlive the transaction.
struct Charge {
  // The bucket: the limit's name, and a key that is unique within the limit, in AppendBucketKey's
  // form (any bytes, but '}' only at the end of the tag).
  std::string_view limit{};
  std::string_view bucket_key{};
  // REQUIRES: valid.
  BucketSpec spec{};
  // Tokens, up to the spec's capacity. 0 is a peek.
  std::uint64_t cost = 1;
  // True: never refuses the transaction, and pays if the transaction is allowed and the tokens are
  // there.
  bool shadow = false;
};

// A bucket's answer. A refusal is a value, never an error.
//
// Waits are rounded up to the microsecond and exact: they end then, and not a microsecond earlier,
// unless other calls take or refund tokens. The waits of a peek are those that a charge would get
// at the same moment. If the limit's spec has changed since the bucket was last charged, a peek's
// waits are upper bounds.
struct Decision {
  // Whether the bucket itself has the tokens.
  bool allowed = false;
  // Whole tokens after the transaction.
  std::uint64_t remaining = 0;
  // The wait until the same charge passes; zero if it is allowed.
  std::chrono::microseconds retry_after{0};
  // The wait until the bucket is full.
  std::chrono::microseconds reset_after{0};
  // False: the bucket was not evaluated because another refuses (Transaction::complete).
  bool known = true;

  friend bool operator==(const Decision&, const Decision&) = default;
};

enum class Action : std::uint8_t {
  kTake,    // Decide, and take the costs if allowed.
  kPeek,    // Decide without taking; changes nothing.
  kRefund,  // Put the costs back, up to the capacity. Always allowed.
};

// Charges that are decided together. If every bucket that is not a shadow has its tokens, all pay;
// otherwise none does.
struct Transaction {
  // At least one, each for a different bucket.
  std::span<const Charge> charges{};
  Action action = Action::kTake;
  // Evaluate every bucket, even if the store knows already that one refuses.
  bool complete = true;

  // The answer: if the status is OK, one decision per charge. The caller provides the span, with
  // one element per charge.
  std::span<Decision> decisions{};
  absl::Status status{};

  // REQUIRES: status is OK.
  bool allowed() const {
    for (std::size_t i = 0; i < charges.size(); ++i) {
      if (!decisions[i].allowed && !charges[i].shadow) return false;
    }
    return true;
  }
};

// Keeps token buckets and decides transactions against them: the seam between the limiter and its
// state. docs/internals/architecture.md states the token bucket contract; tests/contract holds
// every implementation to it.
//
// Implementations are thread-safe.
class TokenBucketStore {
 public:
  virtual ~TokenBucketStore() = default;

  // Decides transactions in order, each atomically and as if alone. A new bucket is full.
  //
  // Blocks until `deadline` or the store's own timeout, whichever is earlier. Errors, per
  // transaction: UNAVAILABLE (the store did not answer), DEADLINE_EXCEEDED (`deadline` passed
  // before the transaction was sent), RESOURCE_EXHAUSTED (no room for another bucket), INTERNAL
  // (the store broke its protocol). After UNAVAILABLE or INTERNAL a transaction may or may not have
  // been carried out; the store never repeats it.
  virtual void Decide(std::span<Transaction> transactions, Deadline deadline) = 0;

  // OK if the store can decide now. Blocks and fails as Decide does.
  virtual absl::Status Check(Deadline deadline) = 0;

  // For people: what the store is and where, such as "memory". One line, without secrets.
  virtual std::string Describe() const = 0;

  // For people: the store's own name for a bucket (see Charge), to look it up there.
  virtual std::string Key(std::string_view limit, std::string_view bucket_key) const;

  // Publishes the store's metrics, which are read for as long as `metrics` is scraped. Once.
  virtual void PublishIn(Metrics& /*metrics*/) const {}
};

}  // namespace ratelimiter
