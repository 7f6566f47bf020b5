#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include <absl/container/inlined_vector.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// The place of the state with the fewest calls left at `cost`, shadows aside; of
// equals the first.
std::optional<std::size_t> Tightest(const Answer& answer, std::uint64_t cost);

// One request on its way to the store and back: the limits it is subject to,
// what is asked of their buckets, and what the answers mean together.
//
// Neither copied nor moved: its transaction points into it.
class Inquiry {
 public:
  // What they are given must outlive them, but the limits, which they share.
  Inquiry(std::shared_ptr<const LimitSet> limits, const Request& request);
  Inquiry(const Inquiry&) = delete;
  Inquiry& operator=(const Inquiry&) = delete;

  const LimitSet& limits() const { return *answer_.limits; }

  // Asks whether the request is allowed, of all limits that it is subject to.
  // INVALID_ARGUMENT if it could never be.
  absl::Status AskToAllow();

  // Asks a limit's bucket to take a charge of `cost`, or to give it back.
  void Ask(const MatchedLimit& matched, std::uint64_t cost);

  // What is to be decided, if anything is.
  bool asks() const { return !charges_.empty(); }
  Transaction transaction(Action action);
  // The action that decides the request.
  Action action() const;

  // What came of it, if the transaction ended with `status`. Only once, last.
  absl::StatusOr<Answer> Conclude(const absl::Status& status);

 private:
  void AskNothing();

  const Request& request_;
  Answer answer_;
  // By charge: the place of its state in the answer; where its subject ends in
  // subjects_.
  absl::InlinedVector<std::size_t, 4> states_;
  absl::InlinedVector<std::size_t, 4> subject_ends_;
  absl::InlinedVector<Charge, 4> charges_;
  absl::InlinedVector<Decision, 4> decisions_;
  Subjects subjects_;
  // A limit of capacity 0 refuses, so that nothing is taken.
  bool blocked_ = false;
};

}  // namespace ratelimiter
