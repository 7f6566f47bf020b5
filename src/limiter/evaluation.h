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

// The index of the state with the fewest calls left at `cost`, the first of equals. Ignores
// shadows.
std::optional<std::size_t> Tightest(const Answer& answer, std::uint64_t cost);

// Storage shared by evaluations that go to the store together. Each uses a range of every vector:
// the cost of a large batch is the memory it walks through.
struct EvaluationBatch {
  // A charge's index into `states` and its range of `bucket_keys`.
  struct Source {
    std::size_t state = 0;
    std::size_t key_begin = 0;
    std::size_t key_end = 0;
  };

  const std::shared_ptr<const LimitSet> limits;
  absl::InlinedVector<LimitState, 4> states{};
  absl::InlinedVector<Charge, 4> charges{};
  // Both by charge.
  absl::InlinedVector<Decision, 4> decisions{};
  absl::InlinedVector<Source, 4> sources{};
  BucketKeys bucket_keys{};
};

// The evaluation of one request: finds the limits that apply, builds the transaction for the store,
// and combines the decisions into an answer.
//
//   Evaluation evaluation(batch, request);
//   evaluation.PlanAllow();               // or AddCharge for each bucket
//   if (evaluation.has_charges()) ...     // decide evaluation.transaction(evaluation.action())
//   evaluation.Finish(status);
//
// Not thread-safe.
class Evaluation {
 public:
  // The arguments must outlive this object. All charges of an evaluation must have been added
  // before the next one of the same batch is constructed.
  Evaluation(EvaluationBatch& batch, const Request& request);

  const Request& request() const { return request_; }

  // Adds a charge for every limit that applies. INVALID_ARGUMENT if the request could never pass.
  absl::Status PlanAllow();

  // Adds a charge of `cost` tokens on the limit's bucket.
  void AddCharge(const MatchedLimit& matched, std::uint64_t cost);

  // Whether the store has to decide anything.
  bool has_charges() const { return charges_end_ > charges_begin_; }
  // The transaction for the store. Points into the batch: call it once every evaluation of the
  // batch has its charges.
  Transaction transaction(Action action) const;
  // The action that decides the request: kTake, or kPeek if no tokens are to be taken.
  Action action() const;

  // The strictest fail mode of the charged limits, without shadows. `mode` is that of limits
  // without one of their own. None: the decision does not depend on the store.
  std::optional<FailMode> StrictestMode(FailMode mode) const;

  // Replaces each charge by one on a bucket that enforces `fraction` of the limit.
  void ScaleTo(Fraction fraction);

  // The answer, if the transaction ended with `status`. Call it once, as the last method.
  absl::StatusOr<Answer> Finish(const absl::Status& status);
  // The answer without the store: kOpen allows, kClosed denies every cost but 0.
  Answer FinishWithoutStore(FailMode mode) const;

 private:
  // This evaluation's ranges of the batch.
  std::span<LimitState> states() const;
  std::span<Charge> charges() const;

  bool DecidedWithoutStore() const;
  void DropCharges();

  EvaluationBatch& batch_;
  const Request& request_;
  const std::size_t states_begin_;
  const std::size_t charges_begin_;
  std::size_t states_end_;
  std::size_t charges_end_;
  // A limit refuses whatever its bucket holds: nothing is taken.
  bool blocked_ = false;
};

}  // namespace ratelimiter
