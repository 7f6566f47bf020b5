#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/fail_mode.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

struct Answer;
class Evaluation;

// Is told of the calls that the store failed. Implementations are thread-safe.
class FallbackObserver {
 public:
  virtual ~FallbackObserver() = default;

  // A request was decided so, for the store failed it for `why`. Of each one, so it must
  // be quick.
  virtual void OnDecided(FailMode mode, const absl::Status& why, const Request& request) = 0;
  // The store decides again, after it had failed `calls` in all.
  virtual void OnRecovered(std::uint64_t calls) = 0;
};

// Decides the calls that the store failed, by the fail mode of their limits.
//
// The buckets of FailMode::kLocal are made when they are first needed. They are
// dropped when the store decides again and has failed no call for kQuiet: sooner, a
// store that fails every second call would have each of them find full buckets.
//
// Thread-safe. What it is given must outlive it.
class Fallback {
 public:
  static constexpr std::chrono::seconds kQuiet{10};

  struct Options {
    // Of limits that do not name their own.
    FailMode mode = FailMode::kError;
    // What the local buckets have of each limit.
    Fraction local_fraction{};
    // Makes them, empty of any bucket.
    std::function<std::unique_ptr<TokenBucketStore>()> make_local;
  };

  Fallback(Options options, const Clock& clock, FallbackObserver& observer);

  // What came of an inquiry that the store was asked, and that ended with `status`.
  // Where the store decides and did so before, this takes no lock.
  absl::StatusOr<Answer> Finish(Evaluation& evaluation, const absl::Status& status);

 private:
  absl::StatusOr<Answer> DecideInstead(FailMode mode, Evaluation& evaluation,
                                       const absl::Status& status);
  std::shared_ptr<TokenBucketStore> Local();
  void NoteFailure();
  void NoteAnswer();
  // Precondition: mutex_ is held.
  void DropLocal();

  // Constant after construction.
  const Options options_;
  const Clock& clock_;
  FallbackObserver& observer_;

  // Whether the store has failed a call since it was well, and when it did last.
  std::atomic<bool> failing_{false};
  std::atomic<std::chrono::microseconds> failed_at_{};

  std::mutex mutex_;
  // Guarded by mutex_. Calls that the store failed.
  std::uint64_t calls_ = 0;
  std::shared_ptr<TokenBucketStore> local_;
  // Destroys what was dropped.
  std::jthread dropping_;
};

}  // namespace ratelimiter
