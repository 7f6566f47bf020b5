#include "ratelimiter/resilience/prober.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/resilience/breaker.h"
#include "support/eventually.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

class ProberTest : public ::testing::Test {
 protected:
  void Open() {
    for (int i = 0; i < Breaker::kConsecutive; ++i) breaker_.Failed("no answer in time");
  }

  bool Probe() {
    EXPECT_EQ(++probing_, 1);
    EXPECT_TRUE(breaker_.open());
    ++probes_;
    --probing_;
    return answers_;
  }

  std::vector<std::pair<bool, std::string>> Told() {
    const std::lock_guard lock(mutex_);
    return told_;
  }

  SteadyClock clock_;
  Breaker breaker_{clock_, 1};
  std::atomic<bool> answers_ = false;
  std::atomic<int> probes_ = 0;
  std::atomic<int> probing_ = 0;
  std::mutex mutex_;
  std::vector<std::pair<bool, std::string>> told_;  // Guarded by mutex_.
  Prober prober_{"Redis at here", breaker_, [this] { return Probe(); },
                 [this](bool open, const std::string& message) {
                   const std::lock_guard lock(mutex_);
                   told_.emplace_back(open, message);
                 }};
};

TEST_F(ProberTest, ProbesWhileItIsOpenAndTellsEachChangeOnce) {
  EXPECT_EQ(probes_, 0);
  Open();
  EXPECT_TRUE(Eventually([&] { return probes_ >= 3; }));
  EXPECT_TRUE(breaker_.open());
  answers_ = true;
  EXPECT_TRUE(Eventually([&] { return Told().size() == 2; }));
  EXPECT_FALSE(breaker_.open());
  const int probes = probes_;
  EXPECT_THAT(
      Told(),
      ElementsAre(Pair(true, AllOf(StartsWith("circuit breaker of Redis at here opened"),
                                   HasSubstr("no answer in time"))),
                  Pair(false, StartsWith("circuit breaker of Redis at here closed after "))));
  Open();
  EXPECT_TRUE(Eventually([&] { return Told().size() == 4; }));
  EXPECT_GT(probes_, probes);
}

TEST_F(ProberTest, EndsAtOnceWhileItRests) {
  Open();
  EXPECT_TRUE(Eventually([&] { return Told().size() == 1; }));
}

}  // namespace
}  // namespace ratelimiter::testing
