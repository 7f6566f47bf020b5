#include "rlctl/latency_histogram.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using std::chrono::nanoseconds;

TEST(LatencyHistogramTest, IsZeroWhereNothingWasRecorded) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.mean(), 0ns);
  EXPECT_EQ(histogram.max(), 0ns);
  EXPECT_EQ(histogram.Quantile(0.5), 0ns);
  EXPECT_EQ(histogram.CountBelow(1h), 0);
}

TEST(LatencyHistogramTest, TellsMeanAndMaximumExactly) {
  LatencyHistogram histogram;
  for (const nanoseconds latency : {1'000'003ns, 2'000'001ns, 9'999'999ns}) {
    histogram.Record(latency);
  }
  EXPECT_EQ(histogram.count(), 3);
  EXPECT_EQ(histogram.mean(), 4'333'334ns);
  EXPECT_EQ(histogram.max(), 9'999'999ns);
  EXPECT_LE(histogram.Quantile(1), histogram.max());
}

TEST(LatencyHistogramTest, TellsShortLatenciesExactly) {
  LatencyHistogram histogram;
  for (nanoseconds latency = 1ns; latency <= 200ns; ++latency) histogram.Record(latency);
  EXPECT_EQ(histogram.Quantile(0), 1ns);
  EXPECT_EQ(histogram.Quantile(0.5), 100ns);
  EXPECT_EQ(histogram.Quantile(0.501), 101ns);
  EXPECT_EQ(histogram.CountBelow(100ns), 99);
}

TEST(LatencyHistogramTest, KeepsEveryLatencyToFourThousandths) {
  for (std::uint64_t value = 1; value < 1ULL << 56U; value += (value / 97) + 1) {
    const nanoseconds latency(value);
    LatencyHistogram histogram;
    histogram.Record(latency);
    histogram.Record(nanoseconds::max());
    const auto told = static_cast<double>(histogram.Quantile(0.5).count());
    ASSERT_LE(std::abs(told - static_cast<double>(value)), 0.004 * static_cast<double>(value))
        << value;
    ASSERT_EQ(histogram.CountBelow(latency * 101 / 100 + 1ns), 1) << value;
    ASSERT_EQ(histogram.CountBelow(latency), 0) << value;
  }
}

TEST(LatencyHistogramTest, AgreesWithSortedLatencies) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> latencies(13, 2);  // About 0.4 ms, over decades.
  LatencyHistogram histogram;
  std::vector<nanoseconds> sorted;
  for (int i = 0; i < 100'000; ++i) {
    sorted.emplace_back(std::llround(latencies(random)));
    histogram.Record(sorted.back());
  }
  std::ranges::sort(sorted);
  for (const double quantile : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999}) {
    const auto rank = static_cast<std::size_t>(std::ceil(quantile * 100'000));
    const auto exact = static_cast<double>(sorted[rank - 1].count());
    EXPECT_NEAR(static_cast<double>(histogram.Quantile(quantile).count()), exact, 0.004 * exact)
        << quantile;
  }
}

TEST(LatencyHistogramTest, TakesTheLongestAndANegativeLatency) {
  LatencyHistogram histogram;
  histogram.Record(nanoseconds::max());
  histogram.Record(-5ns);
  EXPECT_EQ(histogram.max(), nanoseconds::max());
  EXPECT_EQ(histogram.Quantile(0.5), 0ns);
  EXPECT_EQ(histogram.CountBelow(1ns), 1);
}

}  // namespace
}  // namespace ratelimiter
