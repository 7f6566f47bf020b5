#include "ratelimiter/service/readiness_filter.h"

#include <chrono>
#include <concepts>
#include <cstdint>
#include <random>

#include <gtest/gtest.h>

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

// Checks one after the other, each when it is due.
class ReadinessFilterTest : public ::testing::Test {
 protected:
  bool Check(bool good) {
    now_ += filter_.interval();
    const bool ready = filter_.Feed(good, now_);
    if (ready != ready_) ++changes_;
    return ready_ = ready;
  }

  // Checks until what is ready is `ready`; how long it took.
  std::chrono::steady_clock::duration Until(bool ready) {
    const auto begun = now_;
    while (ready_ != ready && now_ - begun < 1h) Check(ready);
    return now_ - begun;
  }

  void For(std::chrono::steady_clock::duration time, const std::predicate auto& good) {
    const auto end = now_ + time;
    while (now_ < end) Check(good());
  }

  ReadinessFilter filter_;
  ReadinessFilter::Time now_{};
  bool ready_ = false;
  int changes_ = 0;
};

TEST_F(ReadinessFilterTest, TheFirstCheckDecidesAlone) {
  EXPECT_TRUE(Check(true));
  filter_ = {};
  EXPECT_FALSE(Check(false));
}

TEST_F(ReadinessFilterTest, OneCheckThatFailsOrTwoChangeNothing) {
  Check(true);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(Check(false));
    EXPECT_TRUE(Check(false));
    EXPECT_TRUE(Check(true));
  }
  EXPECT_TRUE(Check(false));
  EXPECT_TRUE(Check(false));
  EXPECT_FALSE(Check(false));
}

TEST_F(ReadinessFilterTest, OneGoodCheckIsNotEnough) {
  Check(false);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Check(true));
    EXPECT_FALSE(Check(false));
  }
}

TEST_F(ReadinessFilterTest, AsksMoreOftenUnlessAllIsWell) {
  Check(true);
  EXPECT_EQ(filter_.interval(), 1s);
  Check(false);
  EXPECT_EQ(filter_.interval(), 200ms);
  Check(true);
  EXPECT_EQ(filter_.interval(), 1s);
  Until(false);
  EXPECT_EQ(filter_.interval(), 200ms);
  Check(true);
  EXPECT_EQ(filter_.interval(), 200ms);
}

TEST_F(ReadinessFilterTest, ACleanOutageIsSeenAndHealsWithinSeconds) {
  Check(true);
  for (int outage = 0; outage < 10; ++outage) {
    For(ReadinessFilter::kCalm, [] { return true; });
    EXPECT_LE(Until(false), 1400ms);
    For(1min, [] { return false; });
    EXPECT_LE(Until(true), 600ms);
  }
}

TEST_F(ReadinessFilterTest, AnOutageThatFollowsManyHealsWithinALittleMore) {
  Check(true);
  for (int outage = 0; outage < 10; ++outage) {
    Until(false);
    EXPECT_LE(Until(true), ReadinessFilter::kLongestHold + 200ms);
  }
  For(ReadinessFilter::kCalm, [] { return true; });
  Until(false);
  EXPECT_LE(Until(true), 600ms);
}

TEST_F(ReadinessFilterTest, AStoreThatFailsAtRandomDoesNotHaveItComeAndGo) {
  for (const double loss : {0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}) {
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
      std::minstd_rand random(seed);
      std::bernoulli_distribution good(1 - loss);
      filter_ = {};
      ready_ = false;
      changes_ = 0;
      For(1h, [&] { return good(random); });
      // The most are at 20 %, where both runs are likely enough.
      EXPECT_LE(changes_, loss >= 0.5 ? 10 : 80) << "loss " << loss << ", seed " << seed;
    }
  }
}

}  // namespace
}  // namespace ratelimiter::testing
