#include "ratelimiter/service/decision_service.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/service/await.h"
#include "support/manual_clock.h"
#include "support/status.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using testing::FailsWith;
using testing::Succeeds;

// Limit "small" of two tokens, and its shadow "shadow" of one.
std::shared_ptr<const LimitSet> Limits() {
  std::vector<Limit> limits;
  limits.push_back({.name = "small", .spec = {2, 1, 1h}});
  limits.push_back({.name = "shadow", .spec = {1, 1, 1h}, .shadow = true});
  return std::make_shared<LimitSet>(std::move(limits), HashBy::kUser);
}

class FailingStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline /*deadline*/) override {
    for (Transaction& transaction : transactions) {
      transaction.status = absl::UnavailableError("gone");
    }
  }
  std::string Describe() const override { return "failing"; }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }
};

class DecisionServiceTest : public ::testing::Test {
 protected:
  absl::StatusOr<Answer> Allow(const Request& request) {
    return Await<absl::StatusOr<Answer>>(
        [&](auto completion) { service_.Allow(request, Deadline::max(), std::move(completion)); });
  }

  // Counted requests of a user: allowed, denied, error.
  std::vector<std::uint64_t> Totals() {
    const auto totals = metrics_.requests().Totals();
    return {totals.begin(), totals.begin() + 3};
  }
  // Counted decisions of a limit: allowed, denied, shadow_denied, error.
  std::vector<std::uint64_t> Decisions(std::string_view limit) {
    const auto counts = metrics_.decisions().CountsOf(limit);
    if (!counts.has_value()) return {};
    return {counts->begin(), counts->end()};
  }

  testing::ManualClock clock_{1h};
  MemoryTokenBucket store_{100, clock_};
  Limiter limiter_{Limits(), store_};
  Metrics metrics_{10, "test"};
  DecisionService service_{limiter_, store_, metrics_, nullptr, {.max_in_flight = 2}};
};

TEST_F(DecisionServiceTest, DecidesAndCountsByUserAndLimit) {
  for (const bool allowed : {true, true, false}) {
    const auto answer = Allow({.user_id = "u"});
    ASSERT_THAT(answer, Succeeds());
    EXPECT_EQ(answer->allowed, allowed);
  }
  EXPECT_THAT(Totals(), ElementsAre(2, 1, 0));
  EXPECT_THAT(Decisions("small"), ElementsAre(2, 1, 0, 0));
}

TEST_F(DecisionServiceTest, CountsNeitherLooksNorDryRuns) {
  EXPECT_THAT(Allow({.user_id = "u", .cost = 0}), Succeeds());
  EXPECT_THAT(Allow({.user_id = "u", .dry_run = true}), Succeeds());
  EXPECT_THAT(Totals(), ElementsAre(0, 0, 0));
}

TEST_F(DecisionServiceTest, RefusesInvalidRequestsAndCountsThemAsErrorsOfNoLimit) {
  EXPECT_THAT(Allow({.user_id = ""}),
              FailsWith(absl::StatusCode::kInvalidArgument, HasSubstr("user_id")));
  EXPECT_THAT(Allow({.user_id = "u", .cost = 3}),
              FailsWith(absl::StatusCode::kInvalidArgument, HasSubstr("cost is 3")));
  EXPECT_THAT(Totals(), ElementsAre(0, 0, 2));
  EXPECT_EQ(metrics_.requests().tracked(), 1U);
  EXPECT_THAT(Decisions("small"), ::testing::Each(0));
}

TEST_F(DecisionServiceTest, CountsTheStoresErrorsByUserAndLimit) {
  FailingStore store;
  Limiter limiter(Limits(), store);
  Metrics metrics(10, "test");
  DecisionService service(limiter, store, metrics, nullptr, {});
  const Request request = {.user_id = "u"};
  const auto answer = Await<absl::StatusOr<Answer>>(
      [&](auto completion) { service.Allow(request, Deadline::max(), std::move(completion)); });
  EXPECT_THAT(answer, FailsWith(absl::StatusCode::kUnavailable, "gone"));
  EXPECT_EQ(metrics.requests().Totals()[2], 1U);
  EXPECT_EQ((*metrics.decisions().CountsOf("small"))[3], 1U);
  EXPECT_EQ((*metrics.decisions().CountsOf("shadow"))[3], 1U);
}

TEST_F(DecisionServiceTest, UsageIsNotCounted) {
  const Request request = {.user_id = "u"};
  const auto usage = Await<absl::StatusOr<Answer>>([&](auto completion) {
    service_.GetUsage(request, "small", Deadline::max(), std::move(completion));
  });
  ASSERT_THAT(usage, Succeeds());
  EXPECT_EQ(usage->deciding_state()->decision.remaining, 2U);
  const Request invalid = {};
  EXPECT_THAT(Await<absl::StatusOr<Answer>>([&](auto completion) {
                service_.GetUsage(invalid, "", Deadline::max(), std::move(completion));
              }),
              FailsWith(absl::StatusCode::kInvalidArgument, HasSubstr("user_id")));
  EXPECT_THAT(Totals(), ElementsAre(0, 0, 0));
}

TEST_F(DecisionServiceTest, AnswersABatchInOrderInvalidRequestsIncluded) {
  const std::string long_id(kMaxUserIdBytes + 1, 'u');
  for (const auto& users :
       {std::vector<std::string>{"a", "a", "a", "b"},
        std::vector<std::string>{"", "c", "", "c", "c"}, std::vector<std::string>{"d", long_id},
        std::vector<std::string>{"", ""}, std::vector<std::string>{}}) {
    std::vector<Request> requests;
    for (const std::string& user : users) requests.push_back({.user_id = user});
    std::vector<std::size_t> order;
    int completions = 0;
    service_.AllowAll(
        requests, Deadline::max(),
        [&](std::size_t i, const absl::StatusOr<Answer>& answer) {
          order.push_back(i);
          EXPECT_EQ(answer.ok(), users[i] != "" && users[i] != long_id) << i;
        },
        [&] { ++completions; });
    EXPECT_EQ(completions, 1);
    ASSERT_EQ(order.size(), users.size());
    for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], i);
  }
  EXPECT_THAT(Totals(), ElementsAre(6, 2, 5));
}

TEST_F(DecisionServiceTest, AdmitsNoMoreCallsThanMayBeInFlight) {
  const auto first = service_.Admit();
  {
    const auto second = service_.Admit();
    EXPECT_TRUE(first && second);
    EXPECT_EQ(metrics_.Value(Metric::kInFlight), 2);
    EXPECT_FALSE(service_.Admit());
  }
  const Overload overload = service_.Refuse();
  EXPECT_EQ(overload.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GE(overload.retry_delay, 1s);
  EXPECT_EQ(metrics_.Value(Metric::kShed), 1);
  EXPECT_TRUE(service_.Admit());
}

TEST_F(DecisionServiceTest, IsThreadSafe) {
  testing::OnThreads(4, [&](std::size_t thread) {
    const std::string user = fmt::format("user {}", thread);
    for (int i = 0; i < 500; ++i) {
      const auto permit = service_.Admit();
      if (!permit) {
        service_.CountError(user);
        service_.Refuse();
        continue;
      }
      EXPECT_THAT(Allow({.user_id = user}), Succeeds());
    }
  });
  EXPECT_EQ(Totals()[0] + Totals()[1] + Totals()[2], 2'000U);
}

}  // namespace
}  // namespace ratelimiter
