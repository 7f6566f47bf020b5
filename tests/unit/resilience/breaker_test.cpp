#include "ratelimiter/resilience/breaker.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stop_token>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "support/eventually.h"
#include "support/manual_clock.h"
#include "support/threads.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

class BreakerTest : public ::testing::Test {
 protected:
  void Fail(int times = Breaker::kConsecutive) {
    for (int i = 0; i < times; ++i) breaker_.Failed("away");
  }

  // As the prober does, where each probe is answered as `answers` says.
  microseconds ProbeUntilClosed(const auto& answers) {
    const microseconds begun = clock_.Now();
    while (breaker_.open()) {
      clock_.Advance(breaker_.rest());
      breaker_.Probed(answers());
    }
    return clock_.Now() - begun;
  }

  ManualClock clock_{1h};
  Breaker breaker_{clock_, 1};
};

TEST_F(BreakerTest, OpensAfterSoManyFailuresInARow) {
  for (int i = 0; i < 5; ++i) {
    Fail(Breaker::kConsecutive - 1);
    breaker_.Succeeded();
  }
  EXPECT_FALSE(breaker_.open());
  Fail(Breaker::kConsecutive - 1);
  EXPECT_FALSE(breaker_.open());
  breaker_.Failed("gone");
  EXPECT_TRUE(breaker_.open());
  EXPECT_EQ(breaker_.error(), "gone");
  EXPECT_EQ(breaker_.openings(), 1U);
}

TEST_F(BreakerTest, OpensWhereHalfOfTheWindowFailed) {
  for (std::uint32_t i = 2; i < Breaker::kLeastTrips; i += 2) {
    breaker_.Succeeded();
    breaker_.Failed("lost");
    clock_.Advance(1s);
  }
  // The window begins with the current second, and the first ones are out of it.
  EXPECT_FALSE(breaker_.open());
  for (std::uint32_t i = 0; i < Breaker::kLeastTrips / 2 && !breaker_.open(); ++i) {
    breaker_.Succeeded();
    breaker_.Failed("lost");
  }
  EXPECT_TRUE(breaker_.open());
}

TEST_F(BreakerTest, StaysClosedWhereFewerThanHalfFail) {
  for (int i = 0; i < 10'000; ++i) {
    breaker_.Succeeded();
    breaker_.Failed("lost");
    breaker_.Succeeded();
    clock_.Advance(1ms);
  }
  EXPECT_FALSE(breaker_.open());
}

TEST_F(BreakerTest, ForgetsWhatIsOutOfTheWindow) {
  for (int i = 0; i < 100; ++i) breaker_.Succeeded();
  clock_.Advance(Breaker::kWindow);
  for (std::uint32_t i = 0; i < Breaker::kLeastTrips; i += 2) {
    breaker_.Succeeded();
    breaker_.Failed("lost");
  }
  EXPECT_TRUE(breaker_.open());
}

TEST_F(BreakerTest, ClosesWithOneProbeAndBeginsAnew) {
  Fail();
  clock_.Advance(3s);
  EXPECT_EQ(breaker_.open_for(), 3s);
  breaker_.Probed(true);
  EXPECT_FALSE(breaker_.open());
  clock_.Advance(1s);
  EXPECT_EQ(breaker_.open_for(), 3s);
  Fail(Breaker::kConsecutive - 1);
  EXPECT_FALSE(breaker_.open());
}

TEST_F(BreakerTest, WhatCallsInFlightFoundDoesNotCloseIt) {
  Fail();
  for (int i = 0; i < 100; ++i) breaker_.Succeeded();
  EXPECT_TRUE(breaker_.open());
  breaker_.Failed("refused");
  EXPECT_EQ(breaker_.error(), "refused");
  EXPECT_EQ(breaker_.openings(), 1U);
}

TEST_F(BreakerTest, RestsTwiceAsLongEachTimeUpToABoundWithJitter) {
  Fail();
  microseconds most = Breaker::kFirstRest;
  for (int probe = 0; probe < 20; ++probe) {
    EXPECT_GE(breaker_.rest(), most / 2);
    EXPECT_LE(breaker_.rest(), most);
    breaker_.Probed(false);
    most = std::min<microseconds>(2 * most, Breaker::kLongestRest);
  }
  EXPECT_EQ(most, Breaker::kLongestRest);
  breaker_.Probed(true);
  clock_.Advance(Breaker::kCalm);
  Fail();
  EXPECT_LE(breaker_.rest(), Breaker::kFirstRest);
}

TEST_F(BreakerTest, JitterDiffersByTheSeed) {
  Breaker other(clock_, 2);
  bool differs = false;
  Fail();
  for (int i = 0; i < Breaker::kConsecutive; ++i) other.Failed("away");
  for (int probe = 0; probe < 10; ++probe) {
    differs = differs || breaker_.rest() != other.rest();
    breaker_.Probed(false);
    other.Probed(false);
  }
  EXPECT_TRUE(differs);
}

TEST_F(BreakerTest, WhereItOpensAgainSoonItTakesSeveralGoodProbesInARow) {
  Fail();
  breaker_.Probed(true);
  clock_.Advance(Breaker::kCalm - 1us);
  Fail();
  for (const bool answered : {true, true, false, true, true}) {
    breaker_.Probed(answered);
    EXPECT_TRUE(breaker_.open());
  }
  EXPECT_LE(breaker_.rest(), Breaker::kFirstRest);
  breaker_.Probed(true);
  EXPECT_FALSE(breaker_.open());
  clock_.Advance(Breaker::kCalm);
  Fail();
  breaker_.Probed(true);
  EXPECT_FALSE(breaker_.open());
}

TEST_F(BreakerTest, ACleanOutageHealsWithinTheLongestRest) {
  for (const microseconds outage : {10ms, 1'000ms, 100'000ms}) {
    clock_.Advance(Breaker::kCalm);
    Fail();
    const microseconds over = clock_.Now() + outage;
    EXPECT_LE(
        ProbeUntilClosed([&] { return clock_.Now() >= over; }) - outage,
        std::min<microseconds>(Breaker::kLongestRest, std::max<microseconds>(2 * outage, 50ms)));
  }
}

TEST_F(BreakerTest, DoesNotFlapWhereRedisAnswersEveryOther) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    Breaker breaker(clock_, seed);
    std::minstd_rand random(seed);
    std::bernoulli_distribution answered(0.5);
    const microseconds end = clock_.Now() + 1h;
    while (clock_.Now() < end) {
      if (breaker.open()) {
        clock_.Advance(breaker.rest());
        breaker.Probed(answered(random));
      } else {
        clock_.Advance(1ms);
        if (answered(random)) {
          breaker.Succeeded();
        } else {
          breaker.Failed("lost");
        }
      }
    }
    EXPECT_LE(breaker.openings(), 600U) << "seed " << seed;
    EXPECT_GE(breaker.openings(), 60U) << "seed " << seed;
  }
}

TEST_F(BreakerTest, OneWhoAwaitsItsOpeningIsWokenByItAndByAStop) {
  std::atomic<int> openings = 0;
  std::atomic<bool> stopped = false;
  std::jthread thread([&](const std::stop_token& stop) {
    while (breaker_.AwaitOpening(stop)) {
      ++openings;
      breaker_.Probed(true);
      while (breaker_.open()) breaker_.Probed(true);
    }
    stopped = true;
  });
  for (int i = 1; i <= 3; ++i) {
    Fail();
    EXPECT_TRUE(Eventually([&] { return openings == i && !breaker_.open(); }));
  }
  thread.request_stop();
  EXPECT_TRUE(Eventually([&] { return stopped.load(); }));
}

TEST_F(BreakerTest, ManyThreadsUseItAtOnce) {
  constexpr std::size_t kThreads = 8;
  std::atomic<std::size_t> working = kThreads;
  OnThreads(kThreads + 1, [&](std::size_t thread) {
    if (thread == kThreads) {
      while (working > 0) breaker_.Probed(breaker_.rest().count() % 2 == 0);
      return;
    }
    for (int i = 0; i < 2'000; ++i) {
      if (breaker_.open()) {
        EXPECT_EQ(breaker_.error(), "lost");
        EXPECT_GE(breaker_.open_for(), 0us);
      } else if ((i + static_cast<int>(thread)) % 3 == 0) {
        breaker_.Succeeded();
      } else {
        breaker_.Failed("lost");
      }
      clock_.Advance(100us);
    }
    --working;
  });
  EXPECT_GT(breaker_.openings(), 0U);
}

}  // namespace
}  // namespace ratelimiter::testing
