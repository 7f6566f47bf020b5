#include "ratelimiter/service/readiness_filter.h"

#include <algorithm>

namespace ratelimiter {

bool ReadinessFilter::Feed(bool good, Time now) {
  if (!ready_.has_value()) {
    ready_ = good;
    ready_since_ = now;
  }
  failures_ = good ? 0 : failures_ + 1;
  if (!good) good_since_.reset();
  if (good && !good_since_.has_value()) good_since_ = now;
  if (*ready_ && failures_ == kFailures) {
    ready_ = false;
    hold_ = now - ready_since_ < kCalm ? std::min(2 * hold_, kLongestHold) : kFirstHold;
  } else if (!*ready_ && good && now - *good_since_ >= hold_) {
    ready_ = true;
    ready_since_ = now;
  }
  return *ready_;
}

std::chrono::milliseconds ReadinessFilter::interval() const {
  constexpr std::chrono::milliseconds kUsual{1000};
  constexpr std::chrono::milliseconds kInDoubt{200};
  return ready_.value_or(false) && failures_ == 0 ? kUsual : kInDoubt;
}

}  // namespace ratelimiter
