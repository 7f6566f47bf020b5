#include "redis/dns_resolver.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/eventually.h"
#include "support/status.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::StartsWith;

using enum absl::StatusCode;

using Addresses = std::vector<std::string>;

const absl::Status kFailure = absl::UnavailableError("cannot resolve \"redis\"");

// Answers as the test tells it, and not before. What a resolver calls shares its
// state, and so may outlive it.
class Names {
 public:
  Resolve Function() const {
    return [state = state_](const std::string& /*host*/) {
      std::unique_lock lock(state->mutex);
      state->asked.push_back(std::chrono::steady_clock::now());
      state->changed.notify_all();
      state->changed.wait(lock, [&] { return state->answer.has_value(); });
      return *state->answer;
    };
  }

  void Answer(absl::StatusOr<Addresses> answer) { Set(std::move(answer)); }
  // Whoever asks from now on waits for the next answer.
  void Hang() { Set(std::nullopt); }

  // Waits until it was asked for the `number`-th time.
  bool WasAsked(std::size_t number) const {
    std::unique_lock lock(state_->mutex);
    return state_->changed.wait_for(lock, kLong, [&] { return state_->asked.size() >= number; });
  }
  std::vector<std::chrono::steady_clock::time_point> asked() const {
    const std::lock_guard lock(state_->mutex);
    return state_->asked;
  }

  ~Names() { Answer(kFailure); }  // So that no thread hangs for ever.
  Names() = default;
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    // Guarded by mutex.
    std::optional<absl::StatusOr<Addresses>> answer;
    std::vector<std::chrono::steady_clock::time_point> asked;
  };

  void Set(std::optional<absl::StatusOr<Addresses>> answer) {
    const std::lock_guard lock(state_->mutex);
    state_->answer = std::move(answer);
    state_->changed.notify_all();
  }

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class DnsResolverTest : public ::testing::Test {
 protected:
  Names names_;
};

TEST_F(DnsResolverTest, WaitsForTheFirstAnswerUntilTheDeadlineAndNoLonger) {
  const DnsResolver resolver("redis", names_.Function());
  const auto elapsed = Elapsed([&] {
    EXPECT_THAT(resolver.Addresses(In(kShort)),
                FailsWith(kDeadlineExceeded, "the name is still being resolved"));
  });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
  names_.Answer(Addresses{"192.0.2.1"});
  EXPECT_THAT(*resolver.Addresses(In(kLong)), ElementsAre("192.0.2.1"));
}

TEST_F(DnsResolverTest, DestroyingItWaitsForNoResolution) {
  std::optional<DnsResolver> resolver(std::in_place, "redis", names_.Function());
  ASSERT_TRUE(names_.WasAsked(1));
  EXPECT_LT(Elapsed([&] { resolver.reset(); }), kMargin);
}

TEST_F(DnsResolverTest, ARefreshFindsWhereTheNamePointsNow) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(*resolver.Addresses(In(kLong)), ElementsAre("192.0.2.1"));
  names_.Answer(Addresses{"192.0.2.2", "2001:db8::2"});
  resolver.Refresh();
  EXPECT_TRUE(Eventually(
      [&] { return *resolver.Addresses(In(kLong)) == Addresses{"192.0.2.2", "2001:db8::2"}; }));
}

TEST_F(DnsResolverTest, WithoutARefreshItAsksOnce) {
  names_.Answer(Addresses{"192.0.2.1"});
  const DnsResolver resolver("redis", names_.Function(), 0ms);
  for (int i = 0; i < 3; ++i) EXPECT_THAT(resolver.Addresses(In(kLong)), Succeeds());
  EXPECT_EQ(names_.asked().size(), 1U);
}

TEST_F(DnsResolverTest, WhatWasFoundIsToldAtOnceWhileARefreshHangs) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(resolver.Addresses(In(kLong)), Succeeds());
  names_.Hang();
  resolver.Refresh();
  ASSERT_TRUE(names_.WasAsked(2));
  EXPECT_LT(Elapsed([&] { EXPECT_THAT(*resolver.Addresses(In(kLong)), ElementsAre("192.0.2.1")); }),
            kMargin);
}

TEST_F(DnsResolverTest, WhatWasFoundStaysIfARefreshFails) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(resolver.Addresses(In(kLong)), Succeeds());
  names_.Answer(kFailure);
  // Once it is asked for the third time, the second answer has been taken.
  for (const std::size_t number : {2U, 3U}) {
    resolver.Refresh();
    ASSERT_TRUE(names_.WasAsked(number));
    EXPECT_THAT(*resolver.Addresses(In(kLong)), ElementsAre("192.0.2.1"));
  }
}

TEST_F(DnsResolverTest, AFailureIsToldUntilARefreshSucceeds) {
  names_.Answer(kFailure);
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(resolver.Addresses(In(kLong)), FailsWith(kUnavailable, kFailure.message()));
  names_.Answer(Addresses{"192.0.2.1"});
  resolver.Refresh();
  EXPECT_TRUE(Eventually([&] { return resolver.Addresses(In(kLong)).ok(); }));
}

TEST_F(DnsResolverTest, FindingFollowsANameThatWasRepointed) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(resolver.Find(In(kLong)), Succeeds());
  names_.Answer(Addresses{"192.0.2.2"});
  const auto found = resolver.Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("192.0.2.2"));
}

TEST_F(DnsResolverTest, FindingTakesTheLastAddressesWhileALookupHangs) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), 0ms);
  ASSERT_THAT(resolver.Find(In(kLong)), Succeeds());
  names_.Hang();
  const Deadline deadline = In(1s);
  const auto found = resolver.Find(deadline);
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("192.0.2.1"));
}

TEST_F(DnsResolverTest, RestsBetweenResolutionsHoweverManyAreAskedFor) {
  names_.Answer(Addresses{"192.0.2.1"});
  DnsResolver resolver("redis", names_.Function(), kShort);
  EXPECT_TRUE(Eventually([&] {
    resolver.Refresh();
    return names_.asked().size() >= 3;
  }));
  const auto asked = names_.asked();
  for (std::size_t i = 1; i < asked.size(); ++i) EXPECT_GE(asked[i] - asked[i - 1], kShort);
}

TEST(ResolveBySystemTest, FindsNumericAddresses) {
  EXPECT_THAT(*ResolveBySystem("127.0.0.1"), ElementsAre("127.0.0.1"));
  EXPECT_THAT(*ResolveBySystem("::1"), ElementsAre("::1"));
  EXPECT_THAT(*ResolveBySystem("localhost"), Contains(AnyOf("127.0.0.1", "::1")));
}

TEST(ResolveBySystemTest, TellsWhyItCannot) {
  EXPECT_THAT(ResolveBySystem(std::string(64, 'x')),
              FailsWith(kUnavailable, StartsWith("cannot resolve \"xxx")));
}

}  // namespace
}  // namespace ratelimiter::testing
