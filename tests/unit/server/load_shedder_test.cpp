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

TEST(LoadShedderTest, HasAsManyPlacesAsItIsTold) {
  LoadShedder shedder(2);
  const auto first = shedder.Enter();
  const auto second = shedder.Enter();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_FALSE(shedder.Enter());
}

TEST(LoadShedderTest, APlaceIsGivenBackAtTheEndOfItsCall) {
  LoadShedder shedder(1);
  std::optional place = shedder.Enter();
  place.reset();
  EXPECT_TRUE(shedder.Enter());
}

TEST(LoadShedderTest, WhoIsRefusedGivesNoPlaceBack) {
  LoadShedder shedder(1);
  const auto place = shedder.Enter();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(shedder.Enter());
}

TEST(LoadShedderTest, APlaceMovedIsGivenBackOnce) {
  LoadShedder shedder(2);
  const auto stays = shedder.Enter();
  {
    auto place = shedder.Enter();
    const auto moved = std::move(place);
    EXPECT_TRUE(moved);
  }
  EXPECT_TRUE(shedder.Enter());
}

TEST(LoadShedderTest, ARefusalSaysWhyAndWhenToTryAgain) {
  LoadShedder shedder(400);
  const grpc::Status& refusal = shedder.Refusal();
  EXPECT_EQ(refusal.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refusal.error_message(), ::testing::HasSubstr("400 calls are in flight"));
  const google::rpc::Status details = DetailsOf(refusal);
  EXPECT_EQ(details.code(), 8);
  EXPECT_EQ(details.message(), refusal.error_message());
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
}

TEST(LoadShedderTest, WaitsAreSpreadEvenly) {
  constexpr std::size_t kWaits = 256;
  LoadShedder shedder(1);
  std::set<milliseconds> waits;
  for (std::size_t i = 0; i < kWaits; ++i) waits.insert(WaitOf(shedder.Refusal()));
  EXPECT_EQ(waits.size(), kWaits);
  EXPECT_EQ(*waits.begin(), milliseconds(1000));
  EXPECT_EQ(*waits.rbegin(), milliseconds(3000));
}

TEST(LoadShedderTest, ThreadsNeverHoldMoreThanThereAre) {
  constexpr int kPlaces = 3;
  LoadShedder shedder(kPlaces);
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
