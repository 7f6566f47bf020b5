#include "ratelimiter/resilience/deny_cache.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "property/generators.h"
#include "support/rational_model.h"
#include "support/threads.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

constexpr BucketSpec kSpec = {5, 1, 2s};
constexpr microseconds kAsked = 10s;
constexpr microseconds kArrived = kAsked + 300us;
constexpr std::size_t kHash = 7;

Charge Of(std::uint64_t cost, std::string_view bucket_key = "{u}", const BucketSpec& spec = kSpec) {
  return {.limit = "l", .bucket_key = bucket_key, .spec = spec, .cost = cost};
}

// What an empty bucket says to `cost`.
Decision EmptyRefuses(std::uint64_t cost) {
  return {.allowed = false, .remaining = 0, .retry_after = cost * 2s, .reset_after = 10s};
}

class DenyCacheTest : public ::testing::Test {
 protected:
  // Notes that `charge` was refused by an empty bucket.
  void NoteRefusal(const Charge& charge, std::size_t hash = kHash) {
    cache_.Note(charge, hash, EmptyRefuses(charge.cost), kAsked, kArrived, cache_.forgotten());
  }

  DenyCache cache_{100, 1h};
};

TEST_F(DenyCacheTest, RefusesUntilTheWaitFromWhenItWasAskedAndNotAMicrosecondLonger) {
  EXPECT_EQ(cache_.Find(Of(1), kHash, kArrived), std::nullopt);
  NoteRefusal(Of(1));
  EXPECT_TRUE(cache_.Find(Of(1), kHash, kArrived).has_value());
  EXPECT_TRUE(cache_.Find(Of(1), kHash, kAsked + 2s - 1us).has_value());
  EXPECT_EQ(cache_.Find(Of(1), kHash, kAsked + 2s), std::nullopt);
}

TEST_F(DenyCacheTest, TellsTheWaitCountedFromWhenTheAnswerArrived) {
  NoteRefusal(Of(2));
  EXPECT_EQ(cache_.Find(Of(2), kHash, kArrived), EmptyRefuses(2));
  // By then one of the two has come.
  EXPECT_EQ(cache_.Find(Of(2), kHash, kArrived + 3s),
            (Decision{.allowed = false, .remaining = 1, .retry_after = 1s, .reset_after = 7s}));
}

TEST_F(DenyCacheTest, WhoAsksSinceBeforeItArrivedIsToldWhatArrived) {
  NoteRefusal(Of(1));
  for (const microseconds now : {kAsked - 1h, kAsked, kArrived - 1us}) {
    EXPECT_EQ(cache_.Find(Of(1), kHash, now), EmptyRefuses(1));
  }
}

TEST_F(DenyCacheTest, RefusesNoLongerThanTheGreatestAge) {
  DenyCache cache(100, 100ms);
  cache.Note(Of(1), kHash, EmptyRefuses(1), kAsked, kArrived, 0);
  EXPECT_TRUE(cache.Find(Of(1), kHash, kAsked + 100ms - 1us).has_value());
  EXPECT_EQ(cache.Find(Of(1), kHash, kAsked + 100ms), std::nullopt);
}

TEST_F(DenyCacheTest, AnAnswerThatArrivesTooLateIsNotRemembered) {
  cache_.Note(Of(1), kHash, EmptyRefuses(1), kAsked, kAsked + 2s, 0);
  EXPECT_EQ(cache_.Find(Of(1), kHash, kAsked), std::nullopt);
}

TEST_F(DenyCacheTest, WithoutAnAgeItRemembersNothing) {
  DenyCache cache(100, 0us);
  cache.Note(Of(1), kHash, EmptyRefuses(1), kAsked, kArrived, 0);
  EXPECT_EQ(cache.Find(Of(1), kHash, kArrived), std::nullopt);
}

TEST_F(DenyCacheTest, AHigherCostWaitsSoMuchLonger) {
  NoteRefusal(Of(2));
  EXPECT_EQ(cache_.Find(Of(4), kHash, kArrived + 1s),
            (Decision{.allowed = false, .remaining = 0, .retry_after = 7s, .reset_after = 9s}));
}

TEST_F(DenyCacheTest, AHigherCostWhoseWaitIsNoWholeNumberOfMicrosecondsAsks) {
  const BucketSpec spec = {100, 7, 3ms};
  const Decision refusal = {
      .allowed = false, .remaining = 7, .retry_after = 1ms, .reset_after = 40ms};
  cache_.Note(Of(10, "{u}", spec), kHash, refusal, kAsked, kAsked, 0);
  EXPECT_EQ(cache_.Find(Of(11, "{u}", spec), kHash, kAsked), std::nullopt);
  EXPECT_EQ(cache_.Find(Of(17, "{u}", spec), kHash, kAsked)->retry_after, 4ms);
}

TEST_F(DenyCacheTest, ALowerCostAsks) {
  NoteRefusal(Of(2));
  EXPECT_EQ(cache_.Find(Of(1), kHash, kArrived), std::nullopt);
  EXPECT_EQ(cache_.Find(Of(0), kHash, kArrived), std::nullopt);
}

TEST_F(DenyCacheTest, OtherNumbersAsk) {
  NoteRefusal(Of(1));
  for (const BucketSpec& spec :
       {BucketSpec{6, 1, 2s}, BucketSpec{5, 2, 2s}, BucketSpec{5, 1, 3s}}) {
    EXPECT_EQ(cache_.Find(Of(1, "{u}", spec), kHash, kArrived), std::nullopt);
  }
}

TEST_F(DenyCacheTest, WhereSeveralTokensComeInAMicrosecondItAsks) {
  const BucketSpec spec = {1'000'000, 5'000, 1ms};
  const Decision refusal = {
      .allowed = false, .remaining = 3, .retry_after = 2us, .reset_after = 200'000us};
  cache_.Note(Of(12, "{u}", spec), kHash, refusal, kAsked, kAsked, 0);
  EXPECT_EQ(cache_.Find(Of(12, "{u}", spec), kHash, kAsked), std::nullopt);
}

TEST_F(DenyCacheTest, ABucketThatAllowsIsNotRememberedAnyMore) {
  NoteRefusal(Of(3));
  cache_.Note(Of(1), kHash, {.allowed = true, .remaining = 1}, kArrived, kArrived, 0);
  EXPECT_EQ(cache_.Find(Of(3), kHash, kArrived), std::nullopt);
}

TEST_F(DenyCacheTest, ForgetsABucketAndNoOther) {
  NoteRefusal(Of(1, "{u}"), 7);
  NoteRefusal(Of(1, "{v}"), 8);
  cache_.Forget(Of(1, "{u}"), 7);
  EXPECT_EQ(cache_.Find(Of(1, "{u}"), 7, kArrived), std::nullopt);
  EXPECT_TRUE(cache_.Find(Of(1, "{v}"), 8, kArrived).has_value());
  // Not for good.
  NoteRefusal(Of(1, "{u}"), 7);
  EXPECT_TRUE(cache_.Find(Of(1, "{u}"), 7, kArrived).has_value());
}

TEST_F(DenyCacheTest, ARefusalThatWasOnItsWayWhenABucketWasForgottenIsNotRemembered) {
  const std::uint64_t before = cache_.forgotten();
  cache_.Forget(Of(1), kHash);
  cache_.Note(Of(1), kHash, EmptyRefuses(1), kAsked, kArrived, before);
  EXPECT_EQ(cache_.Find(Of(1), kHash, kArrived), std::nullopt);
  cache_.Note(Of(1), kHash, EmptyRefuses(1), kAsked, kArrived, cache_.forgotten());
  EXPECT_TRUE(cache_.Find(Of(1), kHash, kArrived).has_value());
}

TEST_F(DenyCacheTest, BucketsThatHashAlikeAreToldApart) {
  NoteRefusal(Of(1, "{u}"));
  EXPECT_EQ(cache_.Find(Of(1, "{v}"), kHash, kArrived), std::nullopt);
  Charge other_limit = Of(1, "{u}");
  other_limit.limit = "m";
  EXPECT_EQ(cache_.Find(other_limit, kHash, kArrived), std::nullopt);
  NoteRefusal(Of(2, "{v}"));
  EXPECT_EQ(cache_.Find(Of(1, "{u}"), kHash, kArrived), EmptyRefuses(1));
  EXPECT_EQ(cache_.Find(Of(2, "{v}"), kHash, kArrived), EmptyRefuses(2));
  cache_.Forget(Of(1, "{u}"), kHash);
  EXPECT_TRUE(cache_.Find(Of(2, "{v}"), kHash, kArrived).has_value());
}

TEST_F(DenyCacheTest, TheOneThatEndsFirstMakesRoomForAnother) {
  DenyCache cache(4, 1h);
  const std::vector<std::uint64_t> costs = {3, 1, 4, 2, 5};
  const auto bucket_key = [](std::uint64_t cost) { return fmt::format("{{{}}}", cost); };
  for (const std::uint64_t cost : costs) {
    for (int twice = 0; twice < 2; ++twice) {  // A bucket has one place.
      cache.Note(Of(cost, bucket_key(cost)), cost, EmptyRefuses(cost), kAsked, kArrived, 0);
    }
  }
  for (const std::uint64_t cost : costs) {
    EXPECT_EQ(cache.Find(Of(cost, bucket_key(cost)), cost, kArrived).has_value(), cost != 1)
        << cost;
  }
}

TEST_F(DenyCacheTest, HoldsAsManyAsItsSizeRoundedUpToSets) {
  for (const auto& [size, holds] : {std::pair<std::size_t, std::size_t>{1, 4}, {4, 4}, {5, 8}}) {
    DenyCache cache(size, 1h);
    std::size_t held = 0;
    for (std::size_t i = 0; i < 100; ++i) {
      cache.Note(Of(1, fmt::format("{{{}}}", i)), i, EmptyRefuses(1), kAsked, kArrived, 0);
    }
    for (std::size_t i = 0; i < 100; ++i) {
      if (cache.Find(Of(1, fmt::format("{{{}}}", i)), i, kArrived).has_value()) ++held;
    }
    EXPECT_EQ(held, holds);
  }
}

TEST_F(DenyCacheTest, IsUsedByManyThreadsAtOnce) {
  constexpr std::size_t kBuckets = 8;
  DenyCache cache(4, 1h);
  std::atomic<std::uint64_t> found = 0;
  OnThreads(4, [&](std::size_t thread) {
    std::mt19937_64 random(thread);
    for (int i = 0; i < 20'000; ++i) {
      const std::size_t bucket = random() % kBuckets;
      const std::string bucket_key = fmt::format("{{{}}}", std::string(bucket * 10, 'x'));
      // Whose refusal it is shows in by how much the two waits differ.
      const BucketSpec spec = {1'000 + bucket, 1, 1s};
      const Charge charge = Of(1 + bucket, bucket_key, spec);
      const Decision refusal = {.allowed = false,
                                .remaining = 0,
                                .retry_after = charge.cost * 1s,
                                .reset_after = charge.cost * 1s + bucket * 1h};
      const std::size_t dice = random() % 10;
      if (dice == 0) {
        cache.Forget(charge, bucket);
      } else if (dice < 4) {
        cache.Note(charge, bucket, refusal, kAsked, kAsked, cache.forgotten());
      } else if (const auto answer = cache.Find(charge, bucket, kAsked + dice * 1us)) {
        ++found;
        ASSERT_EQ(answer->retry_after, refusal.retry_after - dice * 1us);
        ASSERT_EQ(answer->reset_after, refusal.reset_after - dice * 1us);
        ASSERT_EQ(answer->remaining, 0U);
      }
    }
  });
  EXPECT_GT(found, 0U);
}

// A bucket of a random quota, emptied, and a charge that it refuses a while later.
struct Refused {
  NamedSpec limit;
  RationalModel model;
  Charge charge;
  microseconds at{0};
  Decision decision;
};

Refused AnyRefused() {
  const BucketSpec spec = *AnyBucketSpec();
  const NamedSpec limit = {"l", spec.capacity, spec.refill_tokens, spec.refill_interval};
  RationalModel model(limit, kAsked, /*forgets=*/false);
  const Decision emptied = model.Decide({.cost = spec.capacity}, kAsked);
  const auto until = *UpTo(static_cast<std::uint64_t>(emptied.reset_after.count()));
  const microseconds at = kAsked + Below(until - 1, emptied.reset_after);
  const std::uint64_t there = model.Decide({.cost = 0, .take = false}, at).remaining;
  RC_PRE(there < spec.capacity);
  const std::uint64_t cost = there + *UpTo(spec.capacity - there);
  const Decision decision = model.Decide({.cost = cost}, at);
  return {limit, model, Of(cost, "{u}", spec), at, decision};
}

// From `time` on, before it or a little behind: where an answer turns.
microseconds AnyWithin(microseconds time) {
  const auto any = *rc::gen::arbitrary<std::uint64_t>();
  switch (any % 4) {
    case 0:
      return time - Below(any >> 2U, std::min(time, microseconds(3)));
    case 1:
      return time + Below(any >> 2U, 3us);
    default:
      return Below(any >> 2U, time);
  }
}

TEST(DenyCacheProperty, WhatItAnswersIsWhatTheStoreWould) {
  std::uint64_t answered = 0;
  EXPECT_TRUE(rc::check([&] {
    Refused refused = AnyRefused();
    const BucketSpec spec = refused.charge.spec;
    DenyCache cache(1, microseconds::max() / 2);
    cache.Note(refused.charge, kHash, refused.decision, refused.at, refused.at, 0);
    for (int i = 0; i < 20; ++i) {
      const microseconds since = AnyWithin(refused.decision.retry_after);
      const microseconds now = refused.at + since;
      Charge charge = refused.charge;
      if (i % 2 == 1) {
        charge.cost = std::min(spec.capacity, charge.cost + *UpTo(spec.capacity) - 1);
      }
      const auto answer = cache.Find(charge, kHash, now);
      RC_ASSERT(!answer.has_value() || since < refused.decision.retry_after);
      if (!answer.has_value()) {
        // It always knows the same charge, where tokens come at whole microseconds.
        const bool whole =
            static_cast<std::uint64_t>(spec.refill_interval.count()) % spec.refill_tokens == 0;
        RC_ASSERT(charge.cost != refused.charge.cost || !whole ||
                  since >= refused.decision.retry_after);
        continue;
      }
      ++answered;
      RC_ASSERT(*answer == refused.model.Decide({.cost = charge.cost, .take = false}, now));
    }
  }));
  EXPECT_GT(answered, 1'000U);
}

// However long the answer took, and whatever others take meanwhile: it refuses
// nothing that the store would allow, and lets nobody wait longer than the answer
// was on its way.
TEST(DenyCacheProperty, RefusesNothingThatTheStoreWouldAllow) {
  EXPECT_TRUE(rc::check([&] {
    Refused refused = AnyRefused();
    const auto way = static_cast<std::int64_t>(*UpTo(10'000));
    const microseconds asked = refused.at - microseconds(*rc::gen::inRange<std::int64_t>(0, way));
    const microseconds arrived = refused.at + microseconds(way);
    DenyCache cache(1, microseconds::max() / 2);
    cache.Note(refused.charge, kHash, refused.decision, asked, arrived, 0);
    microseconds now = asked;
    bool taken = false;
    for (int i = 0; i < 20 && now <= kAsked + refused.decision.reset_after; ++i) {
      now += AnyWithin((refused.decision.retry_after + microseconds(way)) / 5);
      const auto answer = cache.Find(refused.charge, kHash, now);
      if (now < refused.at) continue;
      const Decision truth =
          refused.model.Decide({.cost = refused.charge.cost, .take = false}, now);
      if (answer.has_value()) {
        RC_ASSERT(!truth.allowed);
        RC_ASSERT(answer->remaining <= refused.charge.cost);
        if (!taken) RC_ASSERT(answer->retry_after >= truth.retry_after);
        RC_ASSERT(answer->retry_after <= truth.retry_after + microseconds(way));
      }
      taken = refused.model.Decide({.cost = *UpTo(3)}, now).allowed || taken;
    }
  }));
}

}  // namespace
}  // namespace ratelimiter::testing
