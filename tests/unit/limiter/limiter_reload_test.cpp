#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "support/manual_clock.h"
#include "support/status.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::Succeeds;

constexpr std::uint64_t kCapacity = 1'000'000'000;

// The names of the limits of two configurations.
const std::array<std::vector<std::string>, 2> kNames = {{{"a1", "a2"}, {"b"}}};

std::shared_ptr<const LimitSet> Limits(const std::vector<std::string>& names) {
  const BucketSpec spec = {.capacity = kCapacity, .refill_tokens = 1, .refill_interval = 1s};
  std::vector<Limit> limits;
  for (const std::string& name : names) limits.push_back({.name = name, .spec = spec});
  return std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser);
}

// The configuration that an answer comes from, if it is one of the two.
std::optional<std::size_t> Origin(const Answer& answer) {
  std::vector<std::string> names;
  for (const LimitState& state : answer.states) names.push_back(state.limit->name);
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (names == kNames[i]) return i;
  }
  return std::nullopt;
}

TEST(LimiterReloadTest, EveryAnswerComesFromOneConfiguration) {
  constexpr std::size_t kSwaps = 10'000;
  constexpr std::size_t kCallers = 4;
  const Request request = {.user_id = "user"};
  testing::ManualClock clock(1000s);
  MemoryTokenBucket store(10, clock);
  Limiter limiter(Limits(kNames[0]), store);

  std::array<std::atomic<std::uint64_t>, 2> answers{};
  std::atomic<std::uint64_t> wrong = 0;
  std::atomic<bool> over = false;
  testing::OnThreads(kCallers + 1, [&](std::size_t thread) {
    if (thread == kCallers) {
      for (std::size_t i = 0; i < kSwaps || answers[0] == 0 || answers[1] == 0; ++i) {
        limiter.SetLimits(Limits(kNames[(i + 1) % 2]));
      }
      over = true;
    }
    while (!over) {
      const auto answer = limiter.Allow(request, Deadline::max());
      const auto origin = answer.ok() ? Origin(*answer) : std::nullopt;
      ++(origin.has_value() && answer->allowed ? answers[*origin] : wrong);
    }
  });
  EXPECT_EQ(wrong, 0U);
  // Each call paid once, to the limits of its configuration.
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    limiter.SetLimits(Limits(kNames[i]));
    const auto usage = limiter.GetUsage(request, "", Deadline::max());
    ASSERT_THAT(usage, Succeeds());
    for (const LimitState& state : usage->states) {
      EXPECT_EQ(state.decision.remaining, kCapacity - answers[i]) << state.limit->name;
    }
  }
}

}  // namespace
}  // namespace ratelimiter
