// The breaker against a model that keeps and evaluates every round trip.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ranges>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "ratelimiter/resilience/breaker.h"
#include "support/manual_clock.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

class Model {
 public:
  bool open() const { return open_; }
  std::uint64_t openings() const { return openings_; }
  microseconds most() const { return most_; }

  void Trip(bool failed, microseconds now) {
    if (open_) return;
    trips_.push_back({.failed = failed, .at = now});
    if (failed && (LastFailed() || HalfFailed(now))) Open(now);
  }

  void Probed(bool answered, microseconds now) {
    if (!open_) return;
    probes_.push_back(answered);
    const auto latest = std::views::reverse(probes_);
    if (std::ranges::find(latest, false) - latest.begin() == (flaps_ ? 3 : 1)) {
      open_ = false;
      closed_at_ = now;
      trips_.clear();
    } else if (answered) {
      most_ = 50ms;
    } else {
      backoff_ = std::min<microseconds>(2 * backoff_, 2s);
      most_ = backoff_;
    }
  }

 private:
  struct RoundTrip {
    bool failed;
    microseconds at;
  };

  bool LastFailed() const {
    return trips_.size() >= 3 &&
           std::all_of(trips_.end() - 3, trips_.end(), [](const RoundTrip& t) { return t.failed; });
  }

  // The window is the current second and the previous nine.
  bool HalfFailed(microseconds now) const {
    const auto begin = std::chrono::floor<std::chrono::seconds>(now) - 9s;
    const auto in = [&](const RoundTrip& trip) { return trip.at >= begin; };
    const auto trips = std::ranges::count_if(trips_, in);
    const auto failed = std::ranges::count_if(
        trips_, [&](const RoundTrip& trip) { return in(trip) && trip.failed; });
    return trips >= 20 && failed * 2 >= trips;
  }

  void Open(microseconds now) {
    open_ = true;
    ++openings_;
    flaps_ = closed_at_.has_value() && now - *closed_at_ < 10s;
    backoff_ = flaps_ ? std::min<microseconds>(2 * backoff_, 2s) : microseconds(50ms);
    most_ = backoff_;
    probes_.clear();
  }

  bool open_ = false;
  bool flaps_ = false;
  std::uint64_t openings_ = 0;
  std::vector<RoundTrip> trips_;  // Since it closed.
  std::vector<bool> probes_;      // Since it opened.
  std::optional<microseconds> closed_at_;
  microseconds backoff_ = 50ms;
  microseconds most_ = 50ms;
};

void CompareWithTheModel() {
  ManualClock clock(microseconds(*rc::gen::inRange<std::int64_t>(0, 20'000'000)));
  Breaker breaker(clock, *rc::gen::arbitrary<std::uint32_t>());
  Model model;
  // The walk has parts with loss rates of their own, so that runs of failures and long pauses
  // occur.
  const int parts = *rc::gen::inRange(1, 12);
  for (int part = 0; part < parts; ++part) {
    const int loss = *rc::gen::element(0, 10, 45, 50, 60, 100);
    const auto step = *rc::gen::element<std::int64_t>(0, 1'000, 90'000, 700'000, 4'000'000);
    const auto steps = *rc::gen::inRange<std::size_t>(0, 60);
    const auto rolls =
        *rc::gen::container<std::vector<std::uint32_t>>(steps, rc::gen::arbitrary<std::uint32_t>());
    for (const std::uint32_t roll : rolls) {
      clock.Advance(microseconds(step * (roll >> 16U) / 65'536));
      const bool failed = std::cmp_less(roll % 100, loss);
      if (model.open() && roll / 128 % 4 != 0) {
        breaker.Probed(!failed);
        model.Probed(!failed, clock.Now());
      } else if (failed) {
        breaker.Failed("lost");
        model.Trip(true, clock.Now());
      } else {
        breaker.Succeeded();
        model.Trip(false, clock.Now());
      }
      RC_ASSERT(breaker.open() == model.open());
      RC_ASSERT(breaker.openings() == model.openings());
      if (!model.open()) continue;
      RC_ASSERT(breaker.rest() <= model.most());
      RC_ASSERT(breaker.rest() >= model.most() / 2);
    }
  }
}

TEST(BreakerPropertyTest, BehavesAsTheModel) { EXPECT_TRUE(rc::check(CompareWithTheModel)); }

}  // namespace
}  // namespace ratelimiter::testing
