// A million users, far more than metrics have room for.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/metrics/metrics.h"
#include "rlctl/zipf.h"

namespace ratelimiter {
namespace {

constexpr std::uint32_t kUsers = 1'000'000;
constexpr std::size_t kMaxUsers = 1'000;
constexpr std::size_t kTop = 100;

// Each user once, allowed; and as many requests that are allowed and that are denied, of
// users by a Zipf distribution, others each time.
class MillionUsersTest : public ::testing::Test {
 protected:
  using Counts = std::vector<std::uint32_t>;

  MillionUsersTest() {
    // NOLINTNEXTLINE(bugprone-random-generator-seed): so that it cannot flake.
    std::mt19937_64 random(1);
    const ZipfDistribution zipf(kUsers, 1.1);
    for (std::uint32_t i = 0; i < kUsers; ++i) {
      // Far apart, so that the heavy ones are not those who come first.
      Count(i, RequestStatus::kAllowed, allowed_);
      Count(zipf(random) * 7'919ULL % kUsers, RequestStatus::kAllowed, allowed_);
      Count(zipf(random) * 104'729ULL % kUsers, RequestStatus::kDenied, denied_);
    }
  }

  void Count(std::uint64_t user, RequestStatus status, Counts& counts) {
    metrics_.CountRequest(fmt::format("user-{:07}", user), status);
    ++counts[user];
  }

  // How many of the kTop heaviest are found among as many.
  std::size_t Found(RequestStatus status, const Counts& counts) {
    Counts sorted = counts;
    std::ranges::nth_element(sorted, sorted.begin() + kTop - 1, std::ranges::greater());
    const std::uint32_t least = sorted[kTop - 1];
    std::size_t found = 0;
    for (const HeavyUser& heavy : metrics_.heavy_users(status).Top(kTop)) {
      found += counts[std::stoul(heavy.user.substr(5))] >= least ? 1U : 0U;
    }
    return found;
  }

  Metrics metrics_{kMaxUsers, "test"};
  Counts allowed_ = Counts(kUsers);
  Counts denied_ = Counts(kUsers);
};

TEST_F(MillionUsersTest, SeriesAreBoundedTheirSumIsExactAndTheHeaviestAreFound) {
  const auto family = metrics_.requests().Collect().at(0);
  EXPECT_EQ(family.metric.size(), 3 * (kMaxUsers + 1));
  std::map<std::string, double> sums;
  for (const auto& metric : family.metric) {
    sums[metric.label.at(1).value] += metric.counter.value;
  }
  EXPECT_EQ(sums["allowed"], 2 * kUsers);
  EXPECT_EQ(sums["denied"], kUsers);
  EXPECT_EQ(sums["error"], 0);

  const std::size_t allowed = Found(RequestStatus::kAllowed, allowed_);
  const std::size_t denied = Found(RequestStatus::kDenied, denied_);
  std::cout << "found of the " << kTop << " heaviest: allowed " << allowed << ", denied " << denied
            << '\n';
  EXPECT_GE(allowed, kTop - 1);
  EXPECT_GE(denied, kTop - 1);
}

}  // namespace
}  // namespace ratelimiter
