#include "ratelimiter/service/readiness.h"

#include <atomic>
#include <chrono>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/log_file.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FakeStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> /*transactions*/, Deadline /*deadline*/) override {}
  std::string Describe() const override { return "fake"; }
  absl::Status Check(Deadline /*deadline*/) override {
    ++checks;
    return absl::OkStatus();
  }

  std::atomic<int> checks = 0;
};

class Recorder final : public HealthObserver {
 public:
  void OnHealth(bool serving) override { seen.emplace_back(serving ? "serving" : "not serving"); }
  void OnStopped() override { seen.emplace_back("stopped"); }

  std::vector<std::string> seen;
};

class ReadinessTest : public ::testing::Test {
 protected:
  void Feed(Readiness& readiness, const absl::Status& status, int times = 1) {
    for (int i = 0; i < times; ++i) now_ += readiness.Feed(status, now_);
  }

  const absl::Status failed_ = absl::UnavailableError("no answer");
  std::chrono::steady_clock::time_point now_{1h};
  FakeStore store_;
  Metrics metrics_{0, "test"};
  const testing::LogFile log_;
  Recorder recorder_;
};

TEST_F(ReadinessTest, IsNotServingBeforeTheFirstCheck) {
  const Readiness readiness(store_, metrics_, log_.logger(), true);
  EXPECT_FALSE(readiness.health().serving);
  EXPECT_EQ(readiness.health().reason, "the store was not checked yet");
  EXPECT_EQ(store_.checks, 0);
}

TEST_F(ReadinessTest, StartChecksTheStore) {
  Readiness readiness(store_, metrics_, log_.logger(), false);
  readiness.Start();
  readiness.WaitForFirstCheck();
  EXPECT_TRUE(readiness.health().serving);
  EXPECT_EQ(metrics_.Value(Metric::kReady), 1);
  EXPECT_EQ(log_.text(), "");
}

TEST_F(ReadinessTest, ObserversSeeTheCurrentHealthAndEachChange) {
  Readiness readiness(store_, metrics_, log_.logger(), false);
  readiness.AddObserver(recorder_);
  Feed(readiness, absl::OkStatus(), 2);
  Feed(readiness, failed_, 5);
  EXPECT_EQ(readiness.health().reason, "no answer");
  EXPECT_EQ(metrics_.Value(Metric::kReady), 0);
  Feed(readiness, absl::OkStatus(), 5);
  EXPECT_THAT(recorder_.seen, ElementsAre("not serving", "serving", "not serving", "serving"));
  EXPECT_THAT(log_.text(), HasSubstr("not ready: no answer"));
  EXPECT_THAT(log_.text(), HasSubstr("ready"));

  readiness.RemoveObserver(recorder_);
  Feed(readiness, failed_, 5);
  EXPECT_EQ(recorder_.seen.size(), 4U);
}

TEST_F(ReadinessTest, ServesDegradedWithoutItsStore) {
  Readiness readiness(store_, metrics_, log_.logger(), true);
  Feed(readiness, failed_);
  EXPECT_TRUE(readiness.health().serving);
  EXPECT_EQ(readiness.health().reason, "no answer");
  EXPECT_THAT(log_.text(), HasSubstr("degraded: no answer"));
}

TEST_F(ReadinessTest, StoppedIsForGood) {
  Readiness readiness(store_, metrics_, log_.logger(), true);
  Feed(readiness, absl::OkStatus());
  readiness.AddObserver(recorder_);
  readiness.StopServing();
  readiness.StopServing();
  Feed(readiness, absl::OkStatus(), 10);
  EXPECT_FALSE(readiness.health().serving);
  EXPECT_EQ(readiness.health().reason, "shutting down");
  EXPECT_EQ(metrics_.Value(Metric::kReady), 0);
  EXPECT_THAT(recorder_.seen, ElementsAre("serving", "stopped"));
}

}  // namespace
}  // namespace ratelimiter
