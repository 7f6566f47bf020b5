#include "rlctl/zipf.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

constexpr int kDraws = 200'000;

// The share that each of the numbers should have.
std::vector<double> Shares(std::uint32_t count, double exponent) {
  std::vector<double> shares;
  double sum = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    shares.push_back(std::pow(i + 1, -exponent));
    sum += shares.back();
  }
  for (double& fraction : shares) fraction /= sum;
  return shares;
}

std::vector<int> Counts(std::uint32_t count, double exponent) {
  // NOLINTNEXTLINE(bugprone-random-generator-seed): so that it cannot flake.
  std::mt19937_64 random(1);
  const ZipfDistribution zipf(count, exponent);
  std::vector<int> counts(count);
  for (int i = 0; i < kDraws; ++i) ++counts.at(zipf(random));
  return counts;
}

TEST(ZipfDistributionTest, GivesEachNumberItsShare) {
  for (const double exponent : {0.0, 0.5, 0.99, 1.0, 1.1, 2.0, 10.0}) {
    for (const std::uint32_t count : {1U, 2U, 3U, 100U}) {
      const std::vector<double> shares = Shares(count, exponent);
      const std::vector<int> counts = Counts(count, exponent);
      for (std::uint32_t i = 0; i < count; ++i) {
        const double expected = shares[i] * kDraws;
        const double deviation = std::sqrt(expected * (1 - shares[i]));
        EXPECT_NEAR(counts[i], expected, (5 * deviation) + 1)
            << exponent << ' ' << count << ' ' << i;
      }
    }
  }
}

TEST(ZipfDistributionTest, IsRightOverAMillionToo) {
  constexpr std::uint32_t kCount = 1'000'000;
  const std::vector<double> shares = Shares(kCount, 1);
  const std::vector<int> counts = Counts(kCount, 1);
  std::uint32_t i = 0;
  for (std::uint32_t end = 1; end <= kCount; end *= 10) {  // 1, 2 to 10, 11 to 100, …
    double expected = 0;
    double drawn = 0;
    for (; i < end; ++i) {
      expected += shares[i] * kDraws;
      drawn += counts[i];
    }
    EXPECT_NEAR(drawn, expected, 5 * std::sqrt(expected)) << end;
  }
}

TEST(ZipfDistributionTest, ReachesTheLastOfABillion) {
  std::mt19937_64 random(1);  // NOLINT(bugprone-random-generator-seed)
  const ZipfDistribution uniform(1'000'000'000, 0);
  std::uint32_t least = 1'000'000'000;
  std::uint32_t most = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::uint32_t drawn = uniform(random);
    least = std::min(least, drawn);
    most = std::max(most, drawn);
  }
  EXPECT_LT(least, 1'000'000);
  EXPECT_GT(most, 999'000'000);
  EXPECT_LT(most, 1'000'000'000);
}

}  // namespace
}  // namespace ratelimiter
