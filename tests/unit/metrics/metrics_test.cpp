#include "ratelimiter/metrics/metrics.h"

#include <map>
#include <set>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using prometheus::MetricFamily;

std::string_view TypeName(prometheus::MetricType type) {
  if (type == prometheus::MetricType::Counter) return "counter";
  if (type == prometheus::MetricType::Gauge) return "gauge";
  if (type == prometheus::MetricType::Histogram) return "histogram";
  return "something else";
}

std::map<std::string, MetricFamily> Families(const Metrics& metrics) {
  std::map<std::string, MetricFamily> families;
  for (const auto& collectable : metrics.collectables()) {
    for (const MetricFamily& family : collectable->Collect()) {
      EXPECT_TRUE(families.emplace(family.name, family).second) << family.name;
    }
  }
  return families;
}

// Every metric as a line: name{labels} type: help.
std::string Describe(const Metrics& metrics) {
  std::string text;
  for (const auto& [name, family] : Families(metrics)) {
    std::set<std::string> labels;
    for (const prometheus::ClientMetric& metric : family.metric) {
      for (const auto& label : metric.label) labels.insert(label.name);
    }
    text += fmt::format("{}{{{}}} {}: {}\n", name, fmt::join(labels, ","), TypeName(family.type),
                        family.help);
  }
  return text;
}

const prometheus::ClientMetric& Only(const MetricFamily& family) { return family.metric.at(0); }

TEST(MetricsTest, AreTheseWithTheRedisStore) {
  EXPECT_EQ(
      Describe(Metrics(10, "1.2.3")),
      "rate_limiter_build_info{version} gauge: Always 1; the label tells the version\n"
      "rate_limiter_decisions_total{limit,status} counter: What each limit said of the requests "
      "that it applies to, by limit and status (allowed, denied, shadow_denied)\n"
      "rate_limiter_requests_total{status,user} counter: Requests decided, by user and status "
      "(allowed, denied, error)\n"
      "rate_limiter_shed_total{} counter: Calls refused at once because MAX_IN_FLIGHT others were "
      "worked on, or waited\n"
      "rate_limiter_tracked_users{} gauge: Users that have series of their own "
      "(METRICS_MAX_USERS)\n"
      "redis_latency_seconds{} histogram: Round trips to Redis, from writing the command to its "
      "reply or failure\n");
}

TEST(MetricsTest, AreTheseWithTheMemoryStore) {
  Metrics metrics(10, "1.2.3");
  metrics.PublishMemoryStore([] { return 0; }, [] { return 0; });
  EXPECT_EQ(
      Describe(metrics),
      "rate_limiter_build_info{version} gauge: Always 1; the label tells the version\n"
      "rate_limiter_decisions_total{limit,status} counter: What each limit said of the requests "
      "that it applies to, by limit and status (allowed, denied, shadow_denied)\n"
      "rate_limiter_memory_buckets{} gauge: Buckets held in memory (MEMORY_MAX_BUCKETS)\n"
      "rate_limiter_memory_rejected_total{} counter: Requests answered with an error because all "
      "buckets in memory were in use\n"
      "rate_limiter_requests_total{status,user} counter: Requests decided, by user and status "
      "(allowed, denied, error)\n"
      "rate_limiter_shed_total{} counter: Calls refused at once because MAX_IN_FLIGHT others were "
      "worked on, or waited\n"
      "rate_limiter_tracked_users{} gauge: Users that have series of their own "
      "(METRICS_MAX_USERS)\n"
      "redis_latency_seconds{} histogram: Round trips to Redis, from writing the command to its "
      "reply or failure\n");
}

TEST(MetricsTest, TellTheVersion) {
  const Metrics metrics(10, "1.2.3");
  const auto info = Only(Families(metrics).at("rate_limiter_build_info"));
  EXPECT_EQ(info.label.at(0).value, "1.2.3");
  EXPECT_EQ(info.gauge.value, 1);
}

TEST(MetricsTest, ReadTheMemoryStoreAtEachScrape) {
  Metrics metrics(10, "1.2.3");
  std::size_t buckets = 1;
  std::uint64_t rejected = 2;
  metrics.PublishMemoryStore([&] { return buckets; }, [&] { return rejected; });
  buckets = 3;
  rejected = 4;
  const auto families = Families(metrics);
  EXPECT_EQ(Only(families.at("rate_limiter_memory_buckets")).gauge.value, 3);
  EXPECT_EQ(Only(families.at("rate_limiter_memory_rejected_total")).counter.value, 4);
}

TEST(MetricsTest, ReadTheCallsInFlightAtEachScrape) {
  Metrics metrics(10, "1.2.3");
  std::size_t calls = 1;
  metrics.PublishInFlight([&] { return calls; });
  calls = 2;
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_in_flight_calls")).gauge.value, 2);
}

TEST(MetricsTest, TellHowReloadsWent) {
  Metrics metrics(10, "1.2.3");
  Reloads reloads;
  metrics.PublishReloads([&] { return reloads; });
  reloads = {.succeeded = 3,
             .failed = 1,
             .last_succeeded = false,
             .loaded_at = std::chrono::system_clock::time_point(1'700'000'000'500ms)};
  const auto families = Families(metrics);
  const MetricFamily& counts = families.at("rate_limiter_config_reloads_total");
  EXPECT_EQ(counts.type, prometheus::MetricType::Counter);
  ASSERT_EQ(counts.metric.size(), 2U);
  EXPECT_EQ(counts.metric[0].label.at(0).value, "success");
  EXPECT_EQ(counts.metric[0].counter.value, 3);
  EXPECT_EQ(counts.metric[1].label.at(0).value, "failure");
  EXPECT_EQ(counts.metric[1].counter.value, 1);
  EXPECT_EQ(Only(families.at("rate_limiter_config_last_reload_successful")).gauge.value, 0);
  EXPECT_EQ(Only(families.at("rate_limiter_config_loaded_timestamp_seconds")).gauge.value,
            1'700'000'000.5);
}

TEST(MetricsTest, CountTrackedUsersUpToTheBound) {
  Metrics metrics(2, "1.2.3");
  for (const char* user : {"a", "b", "c"}) metrics.requests().Count(user, RequestStatus::kAllowed);
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_tracked_users")).gauge.value, 2);
}

TEST(MetricsTest, PutALatencyInItsBucket) {
  Metrics metrics(10, "1.2.3");
  metrics.ObserveRedisLatency(50us);
  metrics.ObserveRedisLatency(3ms);
  metrics.ObserveRedisLatency(2s);
  const auto histogram = Only(Families(metrics).at("redis_latency_seconds")).histogram;
  EXPECT_EQ(histogram.sample_count, 3U);
  EXPECT_DOUBLE_EQ(histogram.sample_sum, 2.00305);

  const double edges[] = {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                          0.01,    0.025,  0.05,    0.1,    0.25,  1};
  ASSERT_EQ(histogram.bucket.size(), std::size(edges) + 1);
  for (std::size_t i = 0; i < std::size(edges); ++i) {
    const double edge = histogram.bucket[i].upper_bound;
    EXPECT_DOUBLE_EQ(edge, edges[i]);
    EXPECT_EQ(histogram.bucket[i].cumulative_count, edge < 0.003 ? 1U : 2U) << edge;
  }
}

}  // namespace
}  // namespace ratelimiter
