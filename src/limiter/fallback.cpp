#include "ratelimiter/limiter/fallback.h"

#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "evaluation.h"
#include "ratelimiter/limiter/limiter.h"

namespace ratelimiter {
namespace {

// A deadline that has passed is the caller's own, and RESOURCE_EXHAUSTED is the store's decision.
bool IsStoreFailure(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kInternal;
}

// The store's failure, and that of the local buckets.
absl::Status BothFailed(const absl::Status& store, const absl::Status& local) {
  return {store.code(), fmt::format("{}; FAIL_MODE=local: {}", std::string(store.message()),
                                    std::string(local.message()))};
}

}  // namespace

Fallback::Fallback(Options options, const Clock& clock, FallbackObserver& observer)
    : options_(std::move(options)), clock_(clock), observer_(observer) {}

absl::StatusOr<Answer> Fallback::Finish(Evaluation& evaluation, const absl::Status& status) {
  if (status.ok() && failing_.load(std::memory_order_relaxed)) NoteAnswer();
  const std::optional<FailMode> mode =
      IsStoreFailure(status) ? evaluation.StrictestMode(options_.mode) : std::nullopt;
  if (!mode.has_value()) return evaluation.Finish(status);

  absl::StatusOr<Answer> answer = DecideInstead(*mode, evaluation, status);
  NoteFailure();
  observer_.OnDecided(answer.ok() ? *mode : FailMode::kError, status, evaluation.request());
  return answer;
}

absl::StatusOr<Answer> Fallback::DecideInstead(FailMode mode, Evaluation& evaluation,
                                               const absl::Status& status) {
  switch (mode) {
    case FailMode::kOpen:
    case FailMode::kClosed:
      return evaluation.FinishWithoutStore(mode);
    case FailMode::kLocal: {
      evaluation.ScaleTo(options_.local_fraction);
      Transaction transaction = evaluation.transaction(evaluation.action());
      Local()->Decide({&transaction, 1}, Deadline::max());
      // No room for another local bucket.
      if (!transaction.status.ok()) return BothFailed(status, transaction.status);
      absl::StatusOr<Answer> answer = evaluation.Finish(transaction.status);
      answer->fail_mode = mode;
      return answer;
    }
    case FailMode::kError:
      break;
  }
  return status;
}

std::shared_ptr<TokenBucketStore> Fallback::Local() {
  const MutexLock lock(mutex_);
  if (local_ == nullptr) local_ = options_.make_local();
  return local_;
}

void Fallback::NoteFailure() {
  const MutexLock lock(mutex_);
  failed_at_.store(clock_.Now(), std::memory_order_relaxed);
  failing_.store(true, std::memory_order_relaxed);
  ++failed_calls_;
}

void Fallback::NoteAnswer() {
  const auto is_quiet = [this] {
    return clock_.Now() - failed_at_.load(std::memory_order_relaxed) >= kQuiet;
  };
  if (!is_quiet()) return;
  std::uint64_t calls = 0;
  {
    const MutexLock lock(mutex_);
    if (failed_calls_ == 0 || !is_quiet()) return;  // Another call was first.
    failing_.store(false, std::memory_order_relaxed);
    calls = std::exchange(failed_calls_, 0);
    DropLocal();
  }
  observer_.OnRecovered(calls);
}

// On a thread of its own: a million buckets take 0.2 s to destroy, and no call should wait for
// that. The previous thread, if any, has ended long ago.
void Fallback::DropLocal() {
  if (local_ == nullptr) return;
  try {
    dropping_ = std::jthread([dropped = std::move(local_)]() mutable { dropped.reset(); });
  } catch (const std::system_error&) {
    local_ = nullptr;  // No thread is available.
  }
}

}  // namespace ratelimiter
