#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/base/mutex.h"
#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

struct Answer;
class Evaluation;

// Observes calls that the store failed. Implementations are thread-safe.
class FallbackObserver {
 public:
  virtual ~FallbackObserver() = default;

  // Called for each request that `mode` decided because the store failed it with `why`. Must be
  // quick.
  virtual void OnDecided(FailMode mode, const absl::Status& why, const Request& request) = 0;
  // The store has recovered, after `calls` failed calls.
  virtual void OnRecovered(std::uint64_t calls) = 0;
};

// Decides calls that the store failed, by the fail mode of their limits.
//
// The buckets of FailMode::kLocal are created on first use and dropped once the store has failed
// no call for kQuiet. If they were dropped sooner, a store that fails every second call would give
// each failed call full buckets.
//
// Thread-safe. The constructor's arguments must outlive this object.
class Fallback {
 public:
  static constexpr std::chrono::seconds kQuiet{10};

  struct Options {
    // For limits without a fail mode of their own.
    FailMode mode = FailMode::kError;
    // The fraction of each limit that the local buckets enforce.
    Fraction local_fraction{};
    // Creates the store of the local buckets, without any bucket.
    std::function<std::unique_ptr<TokenBucketStore>()> make_local;
  };

  Fallback(Options options, const Clock& clock, FallbackObserver& observer);

  // The answer to `evaluation`, whose transaction ended with `status`. Takes no lock while the
  // store is healthy.
  absl::StatusOr<Answer> Finish(Evaluation& evaluation, const absl::Status& status);

 private:
  absl::StatusOr<Answer> DecideInstead(FailMode mode, Evaluation& evaluation,
                                       const absl::Status& status);
  std::shared_ptr<TokenBucketStore> Local() EXCLUDES(mutex_);
  void NoteFailure() EXCLUDES(mutex_);
  void NoteAnswer() EXCLUDES(mutex_);
  void DropLocal() REQUIRES(mutex_);

  // Constant after construction.
  const Options options_;
  const Clock& clock_;
  FallbackObserver& observer_;

  // Whether the store has failed a call since it last recovered, and the time of the last failure.
  std::atomic<bool> failing_{false};
  std::atomic<std::chrono::microseconds> failed_at_{};

  Mutex mutex_;
  std::uint64_t failed_calls_ GUARDED_BY(mutex_) = 0;
  std::shared_ptr<TokenBucketStore> local_ GUARDED_BY(mutex_);
  // Destroys a dropped store. Declared last: joined before the other members are destroyed.
  std::jthread dropping_ GUARDED_BY(mutex_);
};

}  // namespace ratelimiter
