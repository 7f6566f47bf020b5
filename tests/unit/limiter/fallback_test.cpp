#include "ratelimiter/limiter/fallback.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "property/generators.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "support/manual_clock.h"
#include "support/rational_model.h"
#include "support/status.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

using testing::FailsWith;
using testing::ManualClock;

using enum absl::StatusCode;

constexpr BucketSpec kSpec = {4, 1, 2s};

// Ends every transaction with `status`. Decisions are incomplete if it is an error.
class FailingStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline /*deadline*/) override {
    for (Transaction& transaction : transactions) {
      std::ranges::fill(transaction.decisions,
                        Decision{.allowed = true, .remaining = 1, .known = status.ok()});
      transaction.status = status;
    }
  }
  std::string Describe() const override { return "failing"; }
  absl::Status Check(Deadline /*deadline*/) override { return status; }

  absl::Status status = absl::UnavailableError("gone");
};

class Recorder final : public FallbackObserver {
 public:
  void OnDecided(FailMode mode, const absl::Status& why, const Request& request) override {
    decided.push_back(mode);
    reasons.emplace_back(why.message());
    users.emplace_back(request.user_id);
  }
  void OnRecovered(std::uint64_t calls) override { recovered.push_back(calls); }

  std::vector<FailMode> decided;
  std::vector<std::string> reasons;
  std::vector<std::string> users;
  std::vector<std::uint64_t> recovered;
};

class FallbackTest : public ::testing::Test {
 protected:
  // Creates the limiter under test.
  Limiter& With(FailMode mode, std::vector<Limit> limits = {{.name = "default", .spec = kSpec}},
                Fraction fraction = {}) {
    fallback_.emplace(Fallback::Options{.mode = mode,
                                        .local_fraction = fraction,
                                        .make_local =
                                            [this] {
                                              ++locals_made_;
                                              return std::make_unique<MemoryTokenBucket>(
                                                  max_buckets_, clock_);
                                            }},
                      clock_, recorder_);
    return limiter_.emplace(std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser),
                            store_, &*fallback_);
  }

  // Makes calls of cost 1; returns how many were allowed.
  int AllowedOf(int calls) {
    int allowed = 0;
    for (int i = 0; i < calls; ++i) {
      const absl::StatusOr<Answer> answer = limiter_->Allow({.user_id = "u"}, Deadline::max());
      if (answer.ok() && answer->allowed) ++allowed;
    }
    return allowed;
  }

  ManualClock clock_{1'000'000s};
  FailingStore store_;
  Recorder recorder_;
  std::size_t max_buckets_ = 1'000;
  int locals_made_ = 0;
  std::optional<Fallback> fallback_;
  std::optional<Limiter> limiter_;
};

TEST_F(FallbackTest, ErrorReturnsTheStoresError) {
  EXPECT_THAT(With(FailMode::kError).Allow({.user_id = "u"}, Deadline::max()),
              FailsWith(kUnavailable, "gone"));
  EXPECT_THAT(recorder_.decided, ElementsAre(FailMode::kError));
}

TEST_F(FallbackTest, OpenAllowsWithoutStates) {
  const auto answer =
      With(FailMode::kOpen).Allow({.user_id = "u", .cost = 4, .details = true}, Deadline::max());
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(answer->allowed);
  EXPECT_EQ(answer->fail_mode, FailMode::kOpen);
  EXPECT_THAT(answer->states, IsEmpty());
  EXPECT_EQ(answer->deciding_state(), nullptr);
  EXPECT_THAT(recorder_.decided, ElementsAre(FailMode::kOpen));
}

TEST_F(FallbackTest, ClosedRefusesEverythingButACostOfZero) {
  Limiter& limiter = With(FailMode::kClosed);
  for (const bool dry_run : {false, true}) {
    const auto answer = limiter.Allow({.user_id = "u", .dry_run = dry_run}, Deadline::max());
    ASSERT_TRUE(answer.ok());
    EXPECT_FALSE(answer->allowed);
    EXPECT_EQ(answer->fail_mode, FailMode::kClosed);
    EXPECT_THAT(answer->states, IsEmpty());
  }
  const auto peek = limiter.Allow({.user_id = "u", .cost = 0}, Deadline::max());
  EXPECT_TRUE(peek->allowed);
  EXPECT_EQ(peek->fail_mode, FailMode::kClosed);
}

TEST_F(FallbackTest, LocalEnforcesAFractionOfTheLimit) {
  Limiter& limiter =
      With(FailMode::kLocal, {{.name = "default", .spec = kSpec}}, {.millionths = 500'000});
  const auto first = limiter.Allow({.user_id = "u"}, Deadline::max());
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(first->allowed);
  EXPECT_EQ(first->fail_mode, FailMode::kLocal);
  EXPECT_EQ(first->deciding_state()->spec, (BucketSpec{2, 1, 4s}));
  EXPECT_EQ(first->deciding_state()->decision,
            (Decision{.allowed = true, .remaining = 1, .reset_after = 4s}));
  EXPECT_EQ(AllowedOf(5), 1);
  const auto refused = limiter.Allow({.user_id = "u"}, Deadline::max());
  EXPECT_EQ(refused->deciding_state()->decision.retry_after, 4s);
  clock_.Advance(4s - 1us);
  EXPECT_EQ(AllowedOf(1), 0);
  clock_.Advance(1us);
  EXPECT_EQ(AllowedOf(2), 1);
  EXPECT_TRUE(limiter.Allow({.user_id = "another"}, Deadline::max())->allowed);
  EXPECT_EQ(locals_made_, 1);
}

TEST_F(FallbackTest, LocalPeeksAndDryRunsTakeNothing) {
  Limiter& limiter = With(FailMode::kLocal);
  for (const Request& request :
       {Request{.user_id = "u", .cost = 0}, Request{.user_id = "u", .cost = 4, .dry_run = true}}) {
    EXPECT_TRUE(limiter.Allow(request, Deadline::max())->allowed);
  }
  EXPECT_EQ(AllowedOf(5), 4);
}

TEST_F(FallbackTest, LocalRefusesACostAboveItsCapacityForGood) {
  Limiter& limiter = With(
      FailMode::kLocal,
      {{.name = "wide", .spec = {100, 1, 1s}}, {.name = "narrow", .spec = {4, 1, 1s}, .cost = 2}},
      {.millionths = 250'000});
  const auto answer = limiter.Allow({.user_id = "u", .details = true}, Deadline::max());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_FALSE(answer->allowed);
  EXPECT_EQ(answer->deciding_state()->limit->name, "narrow");
  EXPECT_EQ(answer->deciding_state()->decision.retry_after, 0us);
  ASSERT_THAT(answer->states, SizeIs(2));
  EXPECT_EQ(answer->states[0].decision.remaining, 25U);
  // A cost above the whole capacity is invalid.
  EXPECT_THAT(limiter.Allow({.user_id = "u", .cost = 3}, Deadline::max()),
              FailsWith(kInvalidArgument, ::testing::HasSubstr("above the capacity")));
}

TEST_F(FallbackTest, LocalEvaluatesShadowsWithoutRefusing) {
  Limiter& limiter =
      With(FailMode::kLocal,
           {{.name = "enforced", .spec = {4, 1, 1s}},
            {.name = "shadow", .spec = {2, 1, 1s}, .shadow = true, .fail_mode = FailMode::kError}});
  EXPECT_EQ(AllowedOf(3), 3);
  const auto answer = limiter.Allow({.user_id = "u", .details = true}, Deadline::max());
  EXPECT_TRUE(answer->allowed);
  EXPECT_FALSE(answer->states[1].decision.allowed);
}

TEST_F(FallbackTest, WithoutRoomForALocalBucketTheStoresErrorIsReturned) {
  max_buckets_ = 1;
  Limiter& limiter = With(FailMode::kLocal);
  EXPECT_TRUE(limiter.Allow({.user_id = "u"}, Deadline::max())->allowed);
  EXPECT_THAT(
      limiter.Allow({.user_id = "v"}, Deadline::max()),
      FailsWith(kUnavailable, StartsWith("gone; FAIL_MODE=local: all 1 buckets are in use")));
  EXPECT_THAT(recorder_.decided, ElementsAre(FailMode::kLocal, FailMode::kError));
}

TEST_F(FallbackTest, OnlyStoreFailuresFallBack) {
  Limiter& limiter = With(FailMode::kOpen);
  store_.status = absl::InternalError("nonsense");
  EXPECT_TRUE(limiter.Allow({.user_id = "u"}, Deadline::max())->allowed);
  for (const absl::Status& status :
       {absl::DeadlineExceededError("late"), absl::ResourceExhaustedError("full")}) {
    store_.status = status;
    EXPECT_EQ(limiter.Allow({.user_id = "u"}, Deadline::max()).status(), status);
  }
  EXPECT_THAT(recorder_.decided, SizeIs(1));
}

TEST_F(FallbackTest, UsageResetAndRefundReturnTheStoresError) {
  Limiter& limiter = With(FailMode::kOpen);
  const Request request = {.user_id = "u"};
  EXPECT_THAT(limiter.GetUsage(request, "", Deadline::max()), FailsWith(kUnavailable, "gone"));
  EXPECT_THAT(limiter.Reset(request, "", Deadline::max()), FailsWith(kUnavailable, "gone"));
  EXPECT_THAT(limiter.Refund(request, "", Deadline::max()), FailsWith(kUnavailable, "gone"));
  EXPECT_THAT(recorder_.decided, IsEmpty());
}

TEST_F(FallbackTest, DecisionsWithoutTheStoreAreNotDegraded) {
  Limiter& blocked =
      With(FailMode::kOpen, {{.name = "open", .spec = kSpec}, {.name = "never", .spec = {}}});
  const auto refused = blocked.Allow({.user_id = "u", .details = true}, Deadline::max());
  EXPECT_FALSE(refused->allowed);
  EXPECT_EQ(refused->fail_mode, std::nullopt);
  Limiter& shadows = With(FailMode::kClosed, {{.name = "s", .spec = kSpec, .shadow = true}});
  const auto allowed = shadows.Allow({.user_id = "u"}, Deadline::max());
  EXPECT_TRUE(allowed->allowed);
  EXPECT_EQ(allowed->fail_mode, std::nullopt);
  EXPECT_THAT(recorder_.decided, IsEmpty());
}

TEST_F(FallbackTest, EachRequestOfABatchIsDecidedByItsOwnLimits) {
  Limiter& limiter =
      With(FailMode::kOpen, {{.name = "local",
                              .path = PathPattern("/local"),
                              .spec = {1, 1, 1h},
                              .fail_mode = FailMode::kLocal},
                             {.name = "closed",
                              .path = PathPattern("/closed"),
                              .spec = kSpec,
                              .fail_mode = FailMode::kClosed},
                             {.name = "error",
                              .path = PathPattern("/error"),
                              .spec = kSpec,
                              .fail_mode = FailMode::kError},
                             {.name = "open", .path = PathPattern("/open"), .spec = kSpec}});
  std::vector<Request> requests;
  for (const char* const path : {"/local", "/closed", "/local", "/error", "/open", "/none"}) {
    requests.push_back({.user_id = "u", .path = path});
  }
  std::vector<std::string> answers;
  limiter.AllowAll(requests, Deadline::max(),
                   [&](std::size_t /*index*/, const absl::StatusOr<Answer>& answer) {
                     if (!answer.ok()) {
                       answers.emplace_back(answer.status().message());
                       return;
                     }
                     const auto mode = answer->fail_mode;
                     answers.push_back((answer->allowed ? "allowed " : "refused ") +
                                       std::string(mode.has_value() ? NameOf(*mode) : "store"));
                   });
  EXPECT_THAT(answers, ElementsAre("allowed local", "refused closed", "refused local", "gone",
                                   "allowed open", "allowed store"));
}

RC_GTEST_FIXTURE_PROP(FallbackTest, TheStrictestModeWinsAndShadowsDoNotCount, ()) {
  // Spelled out, independently of the enum's order.
  const std::vector<FailMode> lenient_first = {FailMode::kOpen, FailMode::kLocal, FailMode::kClosed,
                                               FailMode::kError};
  const auto place = [&](FailMode mode) { return std::ranges::find(lenient_first, mode); };
  const auto any_mode = rc::gen::elementOf(lenient_first);
  const FailMode setting = *any_mode;
  std::vector<Limit> limits;
  std::optional<FailMode> strictest;
  const int count = *rc::gen::inRange(1, 6);
  for (int i = 0; i < count; ++i) {
    Limit& limit = limits.emplace_back(Limit{.name = std::to_string(i), .spec = {1'000, 1, 1s}});
    limit.shadow = *rc::gen::arbitrary<bool>();
    if (*rc::gen::arbitrary<bool>()) limit.fail_mode = *any_mode;
    const FailMode mode = limit.fail_mode.value_or(setting);
    if (limit.shadow || (strictest.has_value() && place(*strictest) >= place(mode))) continue;
    strictest = mode;
  }
  const auto answer = With(setting, limits).Allow({.user_id = "u"}, Deadline::max());
  RC_ASSERT(answer.ok() == (strictest != FailMode::kError));
  if (!answer.ok()) return;
  RC_ASSERT(answer->fail_mode == strictest);
  RC_ASSERT(answer->allowed == (strictest != FailMode::kClosed));
}

// Fails every second transaction.
class FlappingStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline deadline) override {
    for (Transaction& transaction : transactions) transaction.status = Check(deadline);
  }
  std::string Describe() const override { return "flapping"; }
  absl::Status Check(Deadline /*deadline*/) override {
    return asked_++ % 2 == 0 ? absl::OkStatus() : absl::UnavailableError("gone");
  }

 private:
  std::atomic<int> asked_ = 0;
};

class CountingObserver final : public FallbackObserver {
 public:
  void OnDecided(FailMode /*mode*/, const absl::Status& /*why*/,
                 const Request& /*request*/) override {
    ++decided;
  }
  void OnRecovered(std::uint64_t calls) override { recovered += calls; }

  std::atomic<std::uint64_t> decided = 0;
  std::atomic<std::uint64_t> recovered = 0;
};

TEST(FallbackThreadsTest, ManyCallersAtOnceShareTheLocalBuckets) {
  constexpr int kThreads = 4;
  constexpr int kCalls = 500;
  const ManualClock clock(1h);
  FlappingStore store;
  CountingObserver observer;
  Fallback fallback({.mode = FailMode::kLocal,
                     .local_fraction = {},
                     .make_local = [&] { return std::make_unique<MemoryTokenBucket>(10, clock); }},
                    clock, observer);
  std::vector<Limit> limits;
  limits.push_back({.name = "l", .spec = {7, 1, 24h}});
  Limiter limiter(std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser), store,
                  &fallback);
  std::atomic<int> allowed = 0;
  testing::OnThreads(kThreads, [&](std::size_t) {
    for (int i = 0; i < kCalls; ++i) {
      const auto answer = limiter.Allow({.user_id = "u"}, Deadline::max());
      if (answer->fail_mode.has_value() && answer->allowed) ++allowed;
    }
  });
  EXPECT_EQ(allowed, 7);
  EXPECT_EQ(observer.decided, kThreads * kCalls / 2);
  EXPECT_EQ(observer.recovered, 0U);
}

RC_GTEST_FIXTURE_PROP(FallbackTest, LocalDecidesAsTheModelOfItsFraction, ()) {
  const BucketSpec spec = *testing::AnyBucketSpec();
  const Fraction fraction = {static_cast<std::uint32_t>(*testing::UpTo(Fraction::kAll))};
  const BucketSpec part = Scale(spec, fraction);
  Limiter& limiter = With(FailMode::kLocal, {{.name = "l", .spec = spec}}, fraction);
  testing::RationalModel model({"l", part.capacity, part.refill_tokens, part.refill_interval},
                               clock_.Now(), true);
  const int steps = *rc::gen::inRange(1, 30);
  for (int i = 0; i < steps; ++i) {
    clock_.Advance(std::chrono::microseconds(*testing::UpTo(1'000'000'000)));
    const std::uint64_t cost = *testing::UpTo(std::min(spec.capacity, part.capacity + 1));
    const bool takes = *rc::gen::arbitrary<bool>();
    const auto answer =
        limiter.Allow({.user_id = "u", .cost = cost, .dry_run = !takes}, Deadline::max());
    RC_ASSERT(answer.ok());
    RC_ASSERT(answer->fail_mode == FailMode::kLocal);
    if (cost > part.capacity) {
      RC_ASSERT(!answer->allowed);
      model.Decide({.cost = 0, .take = false}, clock_.Now());
    } else {
      RC_ASSERT(answer->deciding_state()->decision ==
                model.Decide({.cost = cost, .take = takes}, clock_.Now()));
    }
  }
}

TEST_F(FallbackTest, LocalBucketsAreDroppedTenSecondsAfterTheLastFailure) {
  With(FailMode::kLocal, {{.name = "default", .spec = {2, 1, 24h}}});
  EXPECT_EQ(AllowedOf(3), 2);
  store_.status = absl::OkStatus();
  clock_.Advance(Fallback::kQuiet - 1us);
  EXPECT_EQ(AllowedOf(3), 3);
  // The store had not recovered yet: no new burst.
  store_.status = absl::UnavailableError("gone again");
  EXPECT_EQ(AllowedOf(3), 0);
  EXPECT_EQ(locals_made_, 1);
  clock_.Advance(Fallback::kQuiet);
  EXPECT_EQ(AllowedOf(1), 0);  // Time alone drops nothing.

  store_.status = absl::OkStatus();
  clock_.Advance(Fallback::kQuiet);
  EXPECT_EQ(AllowedOf(1), 1);
  store_.status = absl::UnavailableError("gone");
  EXPECT_EQ(AllowedOf(3), 2);
  EXPECT_EQ(locals_made_, 2);
}

TEST_F(FallbackTest, AStoreThatFailsEverySecondCallGivesNoNewBursts) {
  With(FailMode::kLocal, {{.name = "default", .spec = {2, 1, 24h}}});
  int allowed_locally = 0;
  for (int i = 0; i < 1'000; ++i) {
    store_.status = absl::UnavailableError("gone");
    allowed_locally += AllowedOf(1);
    store_.status = absl::OkStatus();
    AllowedOf(1);
    clock_.Advance(1s);
  }
  EXPECT_EQ(allowed_locally, 2);
}

TEST_F(FallbackTest, ReportsEachCallAndTheRecovery) {
  With(FailMode::kOpen);
  AllowedOf(3);
  EXPECT_THAT(recorder_.decided, ElementsAre(FailMode::kOpen, FailMode::kOpen, FailMode::kOpen));
  EXPECT_THAT(recorder_.reasons, ElementsAre("gone", "gone", "gone"));
  EXPECT_THAT(recorder_.users, ElementsAre("u", "u", "u"));

  store_.status = absl::OkStatus();
  AllowedOf(1);
  EXPECT_THAT(recorder_.recovered, IsEmpty());
  clock_.Advance(Fallback::kQuiet);
  AllowedOf(2);
  EXPECT_THAT(recorder_.recovered, ElementsAre(3U));
  EXPECT_THAT(recorder_.decided, SizeIs(3));

  store_.status = absl::UnavailableError("gone");
  AllowedOf(2);
  EXPECT_THAT(recorder_.decided, SizeIs(5));
}

}  // namespace
}  // namespace ratelimiter
