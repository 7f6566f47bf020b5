#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

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

// What inquiries hold that go to the store together, each in ranges of its own. In
// rows, for the memory that a large batch walks through is what it costs.
struct EvaluationBatch {
  // Of a charge: the place of its state, and its subject's among the subjects.
  struct Source {
    std::size_t state = 0;
    std::size_t key_begin = 0;
    std::size_t key_end = 0;
  };

  const std::shared_ptr<const LimitSet> limits;
  absl::InlinedVector<LimitState, 4> states{};
  absl::InlinedVector<Charge, 4> charges{};
  // By charge.
  absl::InlinedVector<Decision, 4> decisions{};
  absl::InlinedVector<Source, 4> sources{};
  BucketKeys bucket_keys{};
};

// One request on its way to the store and back: the limits it is subject to,
// what is asked of their buckets, and what the answers mean together.
class Evaluation {
 public:
  // What they are given must outlive them. Of a batch, each must have asked before
  // the next one is made.
  Evaluation(EvaluationBatch& batch, const Request& request);

  const Request& request() const { return request_; }

  // Asks whether the request is allowed, of all limits that it is subject to.
  // INVALID_ARGUMENT if it could never be.
  absl::Status PlanAllow();

  // Asks a limit's bucket to take a charge of `cost`, or to give it back.
  void Ask(const MatchedLimit& matched, std::uint64_t cost);

  // What is to be decided, if anything is. Only when all of the batch have asked,
  // for it points into the rows.
  bool asks() const { return charges_end_ > charges_begin_; }
  Transaction transaction(Action action) const;
  // The action that decides the request.
  Action action() const;

  // Where the store failed: the strictest mode of the limits that were asked and are
  // no shadows; `mode` is that of limits without their own. None: the decision is
  // known all the same.
  std::optional<FailMode> StrictestMode(FailMode mode) const;

  // Asks anew, of buckets that have a share of each limit.
  void ScaleTo(Fraction fraction);

  // What came of it, if the transaction ended with `status`. Only once, last.
  absl::StatusOr<Answer> Finish(const absl::Status& status);
  // The same where no bucket was asked: kOpen allows; kClosed refuses all but a look.
  Answer FinishWithoutStore(FailMode mode) const;

 private:
  // Its own of the batch's.
  std::span<LimitState> states() const;
  std::span<Charge> charges() const;

  bool DecidedWithoutStore() const;
  void AskNothing();

  EvaluationBatch& batch_;
  const Request& request_;
  const std::size_t states_begin_;
  const std::size_t charges_begin_;
  std::size_t states_end_;
  std::size_t charges_end_;
  // A limit refuses whatever its bucket holds, so that nothing is taken.
  bool blocked_ = false;
};

}  // namespace ratelimiter
