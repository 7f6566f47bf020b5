#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/user_label.h"

namespace ratelimiter {

struct HeavyUser {
  std::string user;
  // At most `error` too high, and never too low.
  std::uint64_t count = 0;
  std::uint64_t error = 0;
};

// The users who send most, found in memory that is bounded however many there are, by
// Space-Saving (A. Metwally, D. Agrawal, A. El Abbadi: Efficient Computation of Frequent
// and Top-k Elements in Data Streams, 2005). There are so many counters. A user who has
// none takes over that of the least count, and adds to it: what it was is how much too
// high the new count may be. Whoever is heavy is soon far above the least, and stays.
//
// By their hashes users are spread over sets of kWays counters, each a summary of its
// own users: in its set, whoever sent more than a kWays-th of all has a counter.
//
// Counts fade, for it is asked who is heavy now: what is counted is worth half after
// kFade × ln 2. A user who sends the same all the time counts as many as come in kFade.
//
// Thread-safe. Counting allocates nothing, and takes a lock that only the users of the
// same set share.
class HeavyHitters {
 public:
  static constexpr std::chrono::minutes kFade{10};

  // `capacity`: counters, rounded up to whole sets, and those to a power of two. `label`:
  // what users are called; those called the same are one.
  explicit HeavyHitters(std::size_t capacity, UserLabel label = UserLabel::kPlain)
      : HeavyHitters(capacity, label, steady_clock_) {}
  // `clock` never steps back, and outlives this.
  HeavyHitters(std::size_t capacity, UserLabel label, const Clock& clock);

  // Of a user only the first kMaxUserBytes are shown.
  void Count(std::string_view user);

  // The heaviest, `n` at most, the heaviest first.
  std::vector<HeavyUser> Top(std::size_t n) const;

 private:
  static constexpr std::size_t kWays = 16;
  static constexpr std::size_t kMaxUserBytes = 256;

  struct User {
    std::size_t size = 0;
    std::array<char, kMaxUserBytes> bytes{};

    std::string_view text() const { return {bytes.data(), size}; }
  };
  // In rows, for whoever counts looks at all hashes, and at few of the rest. A counter
  // that nobody has counts 0.
  struct Counters {
    std::array<std::size_t, kWays> hashes{};
    std::array<double, kWays> counts{};
    std::array<double, kWays> errors{};
    std::array<User, kWays> users{};
    std::chrono::microseconds faded_at{0};

    void Fade(std::chrono::microseconds now, std::chrono::microseconds least);
    // The counter of a user, which may have been another's until now.
    std::size_t IndexOf(std::string_view user, std::size_t hash);
  };
  struct alignas(64) Set {
    mutable std::mutex mutex;
    Counters counters;  // Guarded by mutex.
  };

  const UserLabel label_;
  const SteadyClock steady_clock_;
  const Clock& clock_;
  std::vector<Set> sets_;
};

}  // namespace ratelimiter
