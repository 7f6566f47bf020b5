#include "ratelimiter/server/load_shedder.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "support/manual_clock.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using std::chrono::milliseconds;

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

milliseconds WaitOf(const grpc::Status& status) {
  const google::rpc::Status details = DetailsOf(status);
  google::rpc::RetryInfo retry;
  EXPECT_TRUE(details.details_size() == 1 && details.details(0).UnpackTo(&retry));
  return std::chrono::seconds(retry.retry_delay().seconds()) +
         std::chrono::duration_cast<milliseconds>(
             std::chrono::nanoseconds(retry.retry_delay().nanos()));
}

class LoadShedderTest : public ::testing::Test {
 protected:
  LoadShedder Shedder(std::size_t max_in_flight) {
    return {max_in_flight, [this] { return Look(); }, clock_};
  }

  std::size_t Look() {
    ++looks_;
    return backlog_;
  }

  testing::ManualClock clock_{milliseconds(0)};
  std::size_t backlog_ = 0;
  int looks_ = 0;
};

TEST_F(LoadShedderTest, HasAsManyPlacesAsItIsTold) {
  LoadShedder shedder = Shedder(2);
  const auto first = shedder.Enter();
  const auto second = shedder.Enter();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_FALSE(shedder.Enter());
}

TEST_F(LoadShedderTest, APlaceIsGivenBackAtTheEndOfItsCall) {
  LoadShedder shedder = Shedder(1);
  std::optional place = shedder.Enter();
  place.reset();
  EXPECT_TRUE(shedder.Enter());
}

TEST_F(LoadShedderTest, WhoIsRefusedGivesNoPlaceBack) {
  LoadShedder shedder = Shedder(1);
  const auto place = shedder.Enter();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(shedder.Enter());
}

TEST_F(LoadShedderTest, APlaceMovedIsGivenBackOnce) {
  LoadShedder shedder = Shedder(2);
  const auto stays = shedder.Enter();
  {
    auto place = shedder.Enter();
    const auto moved = std::move(place);
    EXPECT_TRUE(moved);
  }
  EXPECT_TRUE(shedder.Enter());
}

TEST_F(LoadShedderTest, RefusesWhileTooManyWaitForAThread) {
  LoadShedder shedder = Shedder(400);
  backlog_ = 401;
  for (int call = 0; call < 1'000; ++call) EXPECT_FALSE(shedder.Enter());
}

TEST_F(LoadShedderTest, RefusesNobodyWhileNotTooManyWait) {
  LoadShedder shedder = Shedder(400);
  backlog_ = 400;
  for (int call = 0; call < 1'000; ++call) EXPECT_TRUE(shedder.Enter());
}

TEST_F(LoadShedderTest, FindsOutThatItIsBehindWithinSoManyCalls) {
  LoadShedder shedder = Shedder(400);
  EXPECT_TRUE(shedder.Enter());
  backlog_ = 1'000;
  int passed = 0;
  while (shedder.Enter()) ++passed;
  EXPECT_LE(passed, 256);
}

TEST_F(LoadShedderTest, RefusesNobodyForWhatIsOver) {
  LoadShedder shedder = Shedder(400);
  backlog_ = 1'000;
  EXPECT_FALSE(shedder.Enter());
  backlog_ = 0;
  clock_.Advance(milliseconds(10));
  EXPECT_FALSE(shedder.Enter());
  clock_.Advance(std::chrono::microseconds(1));
  EXPECT_TRUE(shedder.Enter());
}

TEST_F(LoadShedderTest, LooksRarely) {
  LoadShedder shedder = Shedder(400);
  for (const std::size_t backlog : {std::size_t{0}, std::size_t{1'000}}) {
    backlog_ = backlog;
    for (int call = 0; call < 2'560; ++call) shedder.Enter();
  }
  EXPECT_EQ(looks_, 20);
}

TEST_F(LoadShedderTest, ARefusalSaysWhyAndWhenToTryAgain) {
  LoadShedder shedder = Shedder(400);
  const grpc::Status& refusal = shedder.Refusal();
  EXPECT_EQ(refusal.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refusal.error_message(), ::testing::HasSubstr("400 calls are in flight"));
  const google::rpc::Status details = DetailsOf(refusal);
  EXPECT_EQ(details.code(), 8);
  EXPECT_EQ(details.message(), refusal.error_message());
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
}

TEST_F(LoadShedderTest, WaitsAreSpreadEvenly) {
  constexpr std::size_t kWaits = 256;
  LoadShedder shedder = Shedder(1);
  std::set<milliseconds> waits;
  for (std::size_t i = 0; i < kWaits; ++i) waits.insert(WaitOf(shedder.Refusal()));
  EXPECT_EQ(waits.size(), kWaits);
  EXPECT_EQ(*waits.begin(), milliseconds(500));
  EXPECT_EQ(*waits.rbegin(), milliseconds(1500));
}

TEST_F(LoadShedderTest, ThreadsNeverHoldMoreThanThereAre) {
  constexpr int kPlaces = 3;
  LoadShedder shedder = Shedder(kPlaces);
  std::atomic<int> held = 0;
  std::atomic<int> most = 0;
  testing::OnThreads(8, [&](std::size_t /*thread*/) {
    for (int call = 0; call < 10'000; ++call) {
      const auto place = shedder.Enter();
      if (!place) continue;
      const int now = ++held;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      --held;
    }
  });
  EXPECT_LE(most, kPlaces);
  std::vector<LoadShedder::Place> places;
  for (int i = 0; i < kPlaces; ++i) places.push_back(shedder.Enter());
  EXPECT_TRUE(places.back());
  EXPECT_FALSE(shedder.Enter());
}

}  // namespace
}  // namespace ratelimiter
