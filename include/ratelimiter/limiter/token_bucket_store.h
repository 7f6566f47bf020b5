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

// What a transaction asks of one bucket. The strings are the caller's.
struct Charge {
  // The bucket: a limit's name, and whose bucket among that limit's (as
  // AppendBucketKey writes it: any bytes but a '}' only at the end of its tag).
  std::string_view limit{};
  std::string_view bucket_key{};
  // Valid by Validate.
  BucketSpec spec{};
  // Tokens; 0 is a look. At most the quota's capacity.
  std::uint64_t cost = 1;
  // True: it does not refuse the transaction, and pays if the transaction is
  // allowed and its tokens are there.
  bool shadow = false;
};

// What a bucket answered. A refusal is a value, never an error.
struct Decision {
  // Whether the bucket itself has the tokens.
  bool allowed = false;
  // Whole tokens left after the transaction.
  std::uint64_t remaining = 0;
  // Where not allowed: the exact wait until the same charge passes, rounded up
  // to the microsecond. Else zero.
  std::chrono::microseconds retry_after{0};
  // The wait until the bucket is full, rounded up likewise; zero if it is.
  std::chrono::microseconds reset_after{0};
  // False: the bucket was not asked, for another refuses (Transaction::complete).
  bool known = true;

  friend bool operator==(const Decision&, const Decision&) = default;
};

enum class Action : std::uint8_t {
  kTake,    // Decide, and take the costs if all is allowed.
  kPeek,    // Decide as it would be; change nothing.
  kRefund,  // Put the costs back, up to the capacity. Always allowed.
};

// Charges that are decided together: each bucket that is not a shadow must have
// its tokens; then all pay, else none does.
struct Transaction {
  // Each of another bucket; 1 and more.
  std::span<const Charge> charges{};
  Action action = Action::kTake;
  // Whether every bucket is to be asked, even where it is known without asking
  // that another refuses.
  bool complete = true;

  // The answer: where the status is OK, a decision for each charge. The span is
  // the caller's and as long as `charges`.
  std::span<Decision> decisions{};
  absl::Status status{};

  // Precondition: status is OK.
  bool allowed() const {
    for (std::size_t i = 0; i < charges.size(); ++i) {
      if (!decisions[i].allowed && !charges[i].shadow) return false;
    }
    return true;
  }
};

// Keeps the token buckets and decides against them: the seam between the
// limiter and where its state lives. docs/internals/architecture.md states the token
// bucket contract; one suite of tests holds every implementation to it.
//
// Implementations are thread-safe.
class TokenBucketStore {
 public:
  virtual ~TokenBucketStore() = default;

  // Decides transactions, each atomically and as if alone, one after the other.
  // A bucket not seen before is full.
  //
  // Waits no longer than `deadline`, and never longer than the store's own
  // bound. Errors, each transaction's own: UNAVAILABLE (the store did not
  // answer), DEADLINE_EXCEEDED (`deadline` passed before the store was asked),
  // RESOURCE_EXHAUSTED (no room for another bucket), INTERNAL (the store
  // answered something that it must not). After an error that came while the
  // store worked on it, a transaction may or may not have been carried out; it
  // is never repeated here.
  virtual void Decide(std::span<Transaction> transactions, Deadline deadline) = 0;

  // Whether the store can decide now; waits and fails as Decide does.
  virtual absl::Status Check(Deadline deadline) = 0;

  // For people: what the store is and where, such as "memory". One line, without secrets.
  virtual std::string Describe() const = 0;

  // For people: the store's own name for a bucket (see Charge), to look it up there.
  virtual std::string Key(std::string_view limit, std::string_view bucket_key) const;

  // Publishes the store's metrics, which are read for as long as `metrics` is scraped. Once.
  virtual void PublishIn(Metrics& /*metrics*/) const {}
};

}  // namespace ratelimiter
