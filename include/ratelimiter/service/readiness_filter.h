#pragma once

#include <chrono>
#include <optional>

namespace ratelimiter {

// Whether an instance counts as ready, by checks of its store of which some may
// fail. The first check decides alone. Then it takes kFailures failed ones in a row
// to be no longer ready, and good ones alone for some time to be ready again:
// kFirstHold, and twice as long each time that readiness did not last for kCalm, up
// to kLongestHold. So a clean outage heals at once, and a store that answers every
// other check does not have the instance come and go.
//
// Not thread-safe.
class ReadinessFilter {
 public:
  static constexpr int kFailures = 3;
  static constexpr std::chrono::milliseconds kFirstHold{400};
  static constexpr std::chrono::milliseconds kLongestHold{3200};
  static constexpr std::chrono::minutes kCalm{2};

  using Time = std::chrono::steady_clock::time_point;

  // Takes what a check said, and tells whether the instance is ready now.
  bool Feed(bool good, Time now);

  // When the next check is due: soon, unless the instance is ready beyond doubt.
  std::chrono::milliseconds interval() const;

 private:
  std::optional<bool> ready_;
  Time ready_since_{};
  std::optional<Time> good_since_;  // Unless the last check failed.
  int failures_ = 0;                // In a row.
  std::chrono::milliseconds hold_ = kFirstHold;
};

}  // namespace ratelimiter
