#include "ratelimiter/limiter/limiter.h"

#include <chrono>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using testing::FailsWith;

using enum absl::StatusCode;

constexpr BucketSpec kSpec = {5, 1, 2s};
const Deadline kDeadline = Deadline(1h);

// Returns the configured answer for each limit, and records the charges.
class FakeStore final : public TokenBucketStore {
 public:
  struct Asked {
    std::string limit;
    std::string bucket_key;
    std::uint64_t cost;
    bool shadow;
    friend bool operator==(const Asked&, const Asked&) = default;
  };

  void Decide(std::span<Transaction> transactions, Deadline deadline) override {
    ++calls;
    asked_deadline = deadline;
    for (Transaction& transaction : transactions) {
      asked_action = transaction.action;
      asked_complete = transaction.complete;
      for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
        const Charge& charge = transaction.charges[i];
        asked.push_back({std::string(charge.limit), std::string(charge.bucket_key), charge.cost,
                         charge.shadow});
        const auto told = answers.find(charge.limit);
        transaction.decisions[i] =
            told != answers.end() ? told->second
                                  : Decision{.allowed = true, .remaining = charge.spec.capacity};
      }
      transaction.status = status;
    }
  }
  std::string Describe() const override { return "fake"; }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }

  std::map<std::string, Decision, std::less<>> answers;
  absl::Status status;
  int calls = 0;
  std::vector<Asked> asked;
  Action asked_action = Action::kTake;
  bool asked_complete = false;
  Deadline asked_deadline;
};

Decision Refusal(std::chrono::microseconds wait) {
  return {.allowed = false, .remaining = 0, .retry_after = wait, .reset_after = 10 * wait};
}

std::vector<absl::StatusOr<Answer>> AllowAll(Limiter& limiter, std::span<const Request> requests) {
  std::vector<absl::StatusOr<Answer>> answers;
  limiter.AllowAll(requests, kDeadline,
                   [&](std::size_t index, const absl::StatusOr<Answer>& answer) {
                     EXPECT_EQ(index, answers.size());
                     answers.push_back(answer);
                   });
  return answers;
}

class LimiterTest : public ::testing::Test {
 protected:
  // Creates a limiter under test.
  Limiter& With(std::vector<Limit> limits, HashBy hash_by = HashBy::kUser) {
    return limiters_.emplace_back(std::make_shared<const LimitSet>(std::move(limits), hash_by),
                                  store_);
  }
  Limiter& WithDefault() { return With({{.name = "default", .spec = kSpec}}); }

  static std::string Deciding(const absl::StatusOr<Answer>& answer) {
    if (!answer.ok()) return answer.status().ToString();
    return answer->deciding.has_value() ? answer->deciding_state()->limit->name : "none";
  }

  FakeStore store_;
  std::deque<Limiter> limiters_;
};

TEST_F(LimiterTest, ChargesTheBucketsOfTheRequestAtItsCost) {
  ASSERT_TRUE(WithDefault().Allow({.user_id = "user", .path = "/a", .cost = 3}, kDeadline).ok());
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"default", "{user}", 3, false}));
  EXPECT_EQ(store_.asked_action, Action::kTake);
  EXPECT_EQ(store_.asked_deadline, kDeadline);
}

TEST_F(LimiterTest, ReturnsTheStoresDecision) {
  const Decision refusal = {.allowed = false, .remaining = 2, .retry_after = 1s, .reset_after = 5s};
  store_.answers["default"] = refusal;
  const auto answer = WithDefault().Allow({.user_id = "user"}, kDeadline);
  EXPECT_FALSE(answer->allowed);
  EXPECT_EQ(answer->deciding_state()->decision, refusal);
  EXPECT_EQ(answer->deciding_state()->spec, kSpec);
}

TEST_F(LimiterTest, PeeksAndDryRunsTakeNothing) {
  Limiter& limiter = WithDefault();
  ASSERT_TRUE(limiter.Allow({.user_id = "user", .cost = 3, .dry_run = true}, kDeadline).ok());
  EXPECT_EQ(store_.asked.back().cost, 3U);
  EXPECT_EQ(store_.asked_action, Action::kPeek);
  ASSERT_TRUE(limiter.Allow({.user_id = "user", .cost = 0}, kDeadline).ok());
  EXPECT_EQ(store_.asked.back().cost, 0U);
  EXPECT_EQ(store_.asked_action, Action::kPeek);
}

TEST_F(LimiterTest, OnlyARequestThatTakesTokensIsCharged) {
  EXPECT_TRUE((Request{.cost = 1}).charges());
  EXPECT_FALSE((Request{.cost = 0}).charges());
  EXPECT_FALSE((Request{.cost = 1, .dry_run = true}).charges());
}

TEST_F(LimiterTest, ACostAboveTheCapacityIsInvalid) {
  Limiter& limiter = WithDefault();
  EXPECT_TRUE(limiter.Allow({.user_id = "user", .cost = 5}, kDeadline).ok());
  for (const bool dry_run : {false, true}) {
    EXPECT_THAT(limiter.Allow({.user_id = "user", .cost = 6, .dry_run = dry_run}, kDeadline),
                FailsWith(kInvalidArgument,
                          "cost is 6, above the capacity of limit \"default\", so it could never "
                          "pass; accepted: 0 to 5"));
  }
  EXPECT_EQ(store_.calls, 1);
}

TEST_F(LimiterTest, ARequestPaysTheLimitsCostTimesItsOwn) {
  Limiter& limiter = With({{.name = "heavy", .spec = {100, 1, 1s}, .cost = 30}});
  ASSERT_TRUE(limiter.Allow({.user_id = "user", .cost = 3}, kDeadline).ok());
  EXPECT_EQ(store_.asked.back().cost, 90U);
  EXPECT_THAT(limiter.Allow({.user_id = "user", .cost = 4}, kDeadline),
              FailsWith(kInvalidArgument, ::testing::EndsWith("accepted: 0 to 3")));
  const std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
  EXPECT_FALSE(limiter.Allow({.user_id = "user", .cost = most}, kDeadline).ok());
}

TEST_F(LimiterTest, WithoutAnApplicableLimitTheStoreIsNotAsked) {
  Limiter& limiter = With({{.name = "login", .path = PathPattern("/login"), .spec = kSpec}});
  const auto answer = limiter.Allow({.user_id = "user", .path = "/search"}, kDeadline);
  EXPECT_TRUE(answer->allowed);
  EXPECT_EQ(Deciding(answer), "none");
  EXPECT_EQ(store_.calls, 0);
}

TEST_F(LimiterTest, AllApplicableLimitsAreDecidedTogether) {
  Limiter& limiter =
      With({{.name = "user", .spec = kSpec},
            {.name = "login", .path = PathPattern("/login"), .by = {.path = true}, .spec = kSpec},
            {.name = "search", .path = PathPattern("/search"), .spec = kSpec}});
  ASSERT_TRUE(limiter.Allow({.user_id = "user", .path = "/login"}, kDeadline).ok());
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"user", "{user}", 1, false},
                                        FakeStore::Asked{"login", "{user}:/login", 1, false}));
  EXPECT_EQ(store_.calls, 1);
}

TEST_F(LimiterTest, ARefusalNamesTheLimitWithTheLongestWait) {
  Limiter& limiter = With(
      {{.name = "a", .spec = kSpec}, {.name = "b", .spec = kSpec}, {.name = "c", .spec = kSpec}});
  store_.answers = {{"a", Refusal(1s)}, {"b", Refusal(3s)}, {"c", Refusal(3s)}};
  auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  EXPECT_FALSE(answer->allowed);
  EXPECT_EQ(Deciding(answer), "b");
  store_.answers["b"] = {.allowed = true, .remaining = 0};
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user"}, kDeadline)), "c");
}

TEST_F(LimiterTest, BucketsThatWereNotEvaluatedAreNotInTheAnswer) {
  Limiter& limiter = With({{.name = "a", .spec = kSpec},
                           {.name = "b", .spec = kSpec},
                           {.name = "c", .spec = kSpec},
                           {.name = "d", .spec = kSpec}});
  store_.answers = {
      {"a", {.known = false}}, {"b", Refusal(1s)}, {"c", {.known = false}}, {"d", Refusal(2s)}};
  const auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  EXPECT_FALSE(answer->allowed);
  ASSERT_THAT(answer->states, SizeIs(2));
  EXPECT_EQ(answer->states[0].limit->name, "b");
  EXPECT_EQ(answer->states[0].decision, Refusal(1s));
  EXPECT_EQ(answer->states[1].limit->name, "d");
  EXPECT_EQ(Deciding(answer), "d");
}

TEST_F(LimiterTest, DetailsEvaluateEveryBucket) {
  Limiter& limiter = WithDefault();
  for (const bool details : {false, true}) {
    ASSERT_TRUE(limiter.Allow({.user_id = "user", .details = details}, kDeadline).ok());
    EXPECT_EQ(store_.asked_complete, details);
  }
  ASSERT_TRUE(limiter.GetUsage({.user_id = "user"}, "", kDeadline).ok());
  EXPECT_TRUE(store_.asked_complete);
}

TEST_F(LimiterTest, AnAllowanceNamesTheLimitWithTheFewestCallsLeftAtItsCost) {
  Limiter& limiter = With({{.name = "a", .spec = {100, 1, 1s}, .cost = 10},
                           {.name = "b", .spec = {100, 1, 1s}},
                           {.name = "c", .spec = {100, 1, 1s}}});
  store_.answers = {{"a", {.allowed = true, .remaining = 90}},
                    {"b", {.allowed = true, .remaining = 9}},
                    {"c", {.allowed = true, .remaining = 9}}};
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user"}, kDeadline)), "a");
  // At a cost of 2, a, b and c have four calls left each.
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user", .cost = 2}, kDeadline)), "a");
  store_.answers["a"].remaining = 100;
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user"}, kDeadline)), "b");
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user", .cost = 0}, kDeadline)), "b");
}

TEST_F(LimiterTest, AShadowNeverRefusesAndNeverDecides) {
  Limiter& limiter = With(
      {{.name = "shadow", .spec = kSpec, .shadow = true}, {.name = "real", .spec = {9, 1, 1s}}});
  store_.answers["shadow"] = Refusal(1s);
  const auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  EXPECT_TRUE(answer->allowed);
  EXPECT_EQ(Deciding(answer), "real");
  EXPECT_TRUE(store_.asked[0].shadow);
  EXPECT_FALSE(answer->states[0].decision.allowed);
}

TEST_F(LimiterTest, AShadowsCapacityMakesNoCallInvalid) {
  Limiter& limiter = With({{.name = "shadow", .spec = kSpec, .shadow = true}});
  store_.answers["shadow"] = {.allowed = true, .remaining = 4, .reset_after = 2s};
  const auto answer = limiter.Allow({.user_id = "user", .cost = 6}, kDeadline);
  EXPECT_TRUE(answer->allowed);
  EXPECT_EQ(store_.asked.back().cost, 0U);
  EXPECT_EQ(answer->states[0].decision, (Decision{.remaining = 4, .reset_after = 2s}));
}

TEST_F(LimiterTest, AStoreThatFailsShadowsAloneFailsNoCall) {
  Limiter& limiter = With({{.name = "shadow", .spec = kSpec, .shadow = true},
                           {.name = "login", .path = PathPattern("/login"), .spec = kSpec}});
  store_.status = absl::UnavailableError("the store is away");
  const auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(answer->allowed);
  EXPECT_THAT(answer->states, IsEmpty());
  const std::vector<Request> others = {{.user_id = "user", .path = "/login"},
                                       {.user_id = "user", .path = "/login", .cost = 6}};
  for (const auto& failed : AllowAll(limiter, others)) EXPECT_FALSE(failed.ok());
}

TEST_F(LimiterTest, ALimitOfCapacityZeroRefusesWithoutTheStore) {
  Limiter& limiter = With({{.name = "rest", .spec = kSpec},
                           {.name = "blocked", .spec = {}},
                           {.name = "slow", .spec = kSpec}});
  store_.answers["slow"] = Refusal(1h);
  const auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  EXPECT_FALSE(answer->allowed);
  EXPECT_EQ(Deciding(answer), "blocked");
  EXPECT_EQ(answer->deciding_state()->decision, Decision{});
  EXPECT_EQ(store_.calls, 0);
  // Details evaluate the other limits as well, and still take nothing.
  const auto detailed = limiter.Allow({.user_id = "user", .details = true}, kDeadline);
  EXPECT_EQ(Deciding(detailed), "blocked");
  EXPECT_THAT(detailed->states, SizeIs(3));
  EXPECT_EQ(store_.asked_action, Action::kPeek);
  // A store failure does not matter then.
  store_.status = absl::UnavailableError("the store is away");
  const auto away = limiter.Allow({.user_id = "user", .details = true}, kDeadline);
  EXPECT_EQ(Deciding(away), "blocked");
  EXPECT_THAT(away->states, SizeIs(1));
  store_.status = absl::OkStatus();
  // Every limit allows a peek.
  EXPECT_TRUE(limiter.Allow({.user_id = "user", .cost = 0}, kDeadline).ok());
}

TEST_F(LimiterTest, AShadowOfCapacityZeroLetsPass) {
  Limiter& limiter =
      With({{.name = "blocked", .spec = {}, .shadow = true}, {.name = "rest", .spec = kSpec}});
  const auto answer = limiter.Allow({.user_id = "user"}, kDeadline);
  EXPECT_TRUE(answer->allowed);
  EXPECT_FALSE(answer->states[0].decision.allowed);
  EXPECT_EQ(store_.asked_action, Action::kTake);
}

TEST_F(LimiterTest, TheFirstMatchingOverrideGivesTheSpec) {
  Limiter& limiter =
      With({{.name = "default",
             .by = {.path = true},
             .spec = kSpec,
             .overrides = {{.user = "vip", .path = "/login", .spec = BucketSpec{2, 1, 1s}},
                           {.user = "vip", .spec = BucketSpec{50, 1, 1s}},
                           {.user = "free", .spec = {}},
                           {.user = "none", .spec = BucketSpec{}}}}});
  const auto capacity = [&](std::string_view user, std::string_view path) {
    return limiter.Allow({.user_id = user, .path = path}, kDeadline)->states[0].spec.capacity;
  };
  EXPECT_EQ(capacity("user", "/login"), 5U);
  EXPECT_EQ(capacity("vip", "/login"), 2U);
  EXPECT_EQ(capacity("vip", "/"), 50U);
  EXPECT_THAT(limiter.Allow({.user_id = "free"}, kDeadline)->states, IsEmpty());
  EXPECT_FALSE(limiter.Allow({.user_id = "none"}, kDeadline)->allowed);
}

TEST_F(LimiterTest, ABatchIsOneCallAndEachRequestIsDecidedAsIfAlone) {
  Limiter& limiter = With({{.name = "all", .spec = kSpec},
                           {.name = "login", .path = PathPattern("/login"), .spec = {2, 1, 1s}}});
  store_.answers["login"] = Refusal(1s);
  const std::vector<Request> requests = {
      {.user_id = "a"}, {.user_id = "b", .cost = 6}, {.user_id = "c", .path = "/login"}};
  const auto answers = AllowAll(limiter, requests);
  ASSERT_THAT(answers, SizeIs(3));
  EXPECT_TRUE(answers[0]->allowed);
  EXPECT_THAT(answers[1], FailsWith(kInvalidArgument, ::testing::HasSubstr("cost is 6")));
  EXPECT_FALSE(answers[2]->allowed);
  EXPECT_EQ(Deciding(answers[2]), "login");
  EXPECT_EQ(store_.calls, 1);
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"all", "{a}", 1, false},
                                        FakeStore::Asked{"all", "{c}", 1, false},
                                        FakeStore::Asked{"login", "{c}", 1, false}));
}

TEST_F(LimiterTest, StoreErrorsAreReturned) {
  Limiter& limiter = WithDefault();
  store_.status = absl::UnavailableError("the store is away");
  const auto fails = FailsWith(kUnavailable, "the store is away");
  const Request request = {.user_id = "user"};
  EXPECT_THAT(limiter.Allow(request, kDeadline), fails);
  EXPECT_THAT(AllowAll(limiter, {&request, 1}).at(0), fails);
  EXPECT_THAT(limiter.GetUsage(request, "", kDeadline), fails);
  EXPECT_THAT(limiter.Reset(request, "", kDeadline), fails);
  EXPECT_THAT(limiter.Refund(request, "", kDeadline), fails);
}

TEST_F(LimiterTest, UsageIsOfTheTightestLimitOrTheOneNamed) {
  Limiter& limiter = With({{.name = "a", .spec = {9, 1, 1s}},
                           {.name = "b", .spec = kSpec},
                           {.name = "shadow", .spec = {1, 1, 1s}, .shadow = true}});
  const auto tightest = limiter.GetUsage({.user_id = "user", .cost = 7}, "", kDeadline);
  EXPECT_EQ(Deciding(tightest), "b");
  EXPECT_THAT(tightest->states, SizeIs(3));
  EXPECT_EQ(store_.asked_action, Action::kPeek);
  EXPECT_EQ(store_.asked[0].cost, 1U);
  EXPECT_EQ(Deciding(limiter.GetUsage({.user_id = "user"}, "a", kDeadline)), "a");
  EXPECT_EQ(Deciding(limiter.GetUsage({.user_id = "user"}, "shadow", kDeadline)), "shadow");
  EXPECT_THAT(
      limiter.GetUsage({.user_id = "user"}, "c\n", kDeadline),
      FailsWith(kNotFound,
                "no limit \"c\uFFFD\" applies to this request; applicable limits: a, b, shadow"));
}

TEST_F(LimiterTest, ARefundReturnsWhatTheRequestPaid) {
  Limiter& limiter = With({{.name = "heavy", .spec = {100, 1, 1s}, .cost = 30},
                           {.name = "small", .spec = kSpec},
                           {.name = "blocked", .spec = {}}});
  ASSERT_TRUE(limiter.Refund({.user_id = "user", .cost = 3}, "", kDeadline).ok());
  EXPECT_EQ(store_.asked_action, Action::kRefund);
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"heavy", "{user}", 90, false},
                                        FakeStore::Asked{"small", "{user}", 3, false}));
  store_.asked.clear();
  ASSERT_TRUE(limiter.Refund({.user_id = "user", .cost = 9}, "small", kDeadline).ok());
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"small", "{user}", 5, false}));
  EXPECT_THAT(limiter.Refund({.user_id = "user"}, "other", kDeadline),
              FailsWith(kNotFound, ::testing::_));
}

TEST_F(LimiterTest, AResetFillsTheUsersBucketsOrTheNamedOne) {
  Limiter& limiter =
      With({{.name = "user", .spec = kSpec},
            {.name = "path", .by = {.user = false, .path = true}, .spec = {9, 1, 1s}}},
           HashBy::kGlobal);
  ASSERT_TRUE(limiter.Reset({.user_id = "user", .path = "/a"}, "", kDeadline).ok());
  EXPECT_EQ(store_.asked_action, Action::kRefund);
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"user", "{%all}:user", 5, false}));
  store_.asked.clear();
  ASSERT_TRUE(limiter.Reset({.user_id = "user", .path = "/a"}, "path", kDeadline).ok());
  EXPECT_THAT(store_.asked, ElementsAre(FakeStore::Asked{"path", "{%all}:/a", 9, false}));
}

TEST_F(LimiterTest, ExplainsWhichLimitsApplyAndWhy) {
  const LimitSet limits(
      {{.name = "login", .path = PathPattern("/login"), .spec = kSpec},
       {.name = "api",
        .path = PathPattern("/api/*"),
        .attributes = {{"plan", "free"}},
        .spec = kSpec},
       {.name = "tenant", .by = {.user = false, .attributes = {"tenant"}}, .spec = kSpec},
       {.name = "all", .spec = kSpec, .overrides = {{.user = "vip", .spec = {}}}}},
      HashBy::kGlobal);
  const std::vector<AttributeView> attributes = {{"plan", "gold"}};
  const auto explained =
      Limiter::Explain(limits, {.user_id = "vip", .path = "/api/x", .attributes = attributes});
  ASSERT_THAT(explained, SizeIs(4));
  EXPECT_FALSE(explained[0].applies);
  EXPECT_EQ(explained[0].why, "path is \"/api/x\"; the limit applies to \"/login\"");
  EXPECT_EQ(explained[1].why, "attribute plan is \"gold\"; the limit applies where it is \"free\"");
  EXPECT_EQ(explained[2].why, "attribute tenant is missing; the limit counts by it");
  EXPECT_TRUE(explained[3].applies);
  EXPECT_EQ(explained[3].why, "any path; override 1 applies");
  EXPECT_EQ(explained[3].spec, std::nullopt);
  EXPECT_EQ(explained[3].bucket_key, "{%all}:vip");
}

TEST_F(LimiterTest, CallsAreDecidedByTheCurrentLimits) {
  Limiter& limiter = WithDefault();
  const auto before = limiter.Allow({.user_id = "user"}, kDeadline);
  limiter.SetLimits(std::make_shared<const LimitSet>(
      std::vector<Limit>{{.name = "other", .spec = kSpec}}, HashBy::kUser));
  EXPECT_EQ(Deciding(limiter.Allow({.user_id = "user"}, kDeadline)), "other");
  EXPECT_EQ(Deciding(before), "default");
}

}  // namespace
}  // namespace ratelimiter
