#include "ratelimiter/metrics/metrics.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using prometheus::MetricFamily;

// Every metric, its labels with the values that they can have, its type and help. What
// dashboards and alerts rely on: a name or a label that goes away breaks them.
constexpr std::string_view kGolden =
    R"(rate_limiter_requests_total{user,status=allowed|denied|error} counter: Requests decided, by user and status (allowed, denied, error)
rate_limiter_untracked_requests_total{} counter: Requests of users without a series of their own (METRICS_MAX_USERS)
rate_limiter_tracked_users{} gauge: Users with a series of their own (METRICS_MAX_USERS)
rate_limiter_heavy_user_requests{user,status=allowed|denied} gauge: Requests of the most active users (METRICS_TOP_USERS) in about the last 10 minutes, by status (allowed, denied)
rate_limiter_decisions_total{limit,status=allowed|denied|shadow_denied|error} counter: Decisions of each limit on the requests that it applies to, by limit and status (allowed, denied, shadow_denied, error)
rate_limiter_degraded_total{mode=open|local|closed|error} counter: Calls that the store failed, by fail mode (error, open, closed, local)
rate_limiter_shed_total{} counter: Calls rejected because MAX_IN_FLIGHT others were in flight
rate_limiter_in_flight_calls{} gauge: Calls in flight (MAX_IN_FLIGHT)
rate_limiter_ready{} gauge: 1 while gRPC health says SERVING, else 0
rate_limiter_log_dropped_total{kind=other|access|grpc|protobuf|connections|store|breaker|readiness|reload} counter: Log lines dropped, by kind (rate limit or full queue)
grpc_server_started_total{grpc_type=unary,grpc_service=limiter.RateLimiter,grpc_method=AllowRequest|GetUsage|AllowRequests} counter: Calls started, including shed and invalid ones
grpc_server_handled_total{grpc_type=unary,grpc_service=limiter.RateLimiter,grpc_method=AllowRequest|GetUsage|AllowRequests,grpc_code=OK|InvalidArgument|DeadlineExceeded|NotFound|ResourceExhausted|Internal|Unavailable|Unknown} counter: Calls ended, by status code
grpc_server_handling_seconds{grpc_type=unary,grpc_service=limiter.RateLimiter,grpc_method=AllowRequest|GetUsage|AllowRequests} histogram: Duration of calls, from their start on a server thread to the answer
redis_latency_seconds{} histogram: Duration of round trips to Redis, from writing the command to its reply or failure
redis_errors_total{kind=timeout|connect|connection|protocol|readonly|loading|masterdown|clusterdown|noreplicas|moved|ask|tryagain|crossslot|oom|misconf|noauth|wrongpass|noperm|maxclients|busy|noscript|wrongtype|err|other} counter: Failed round trips to Redis and its error replies, including probes, by kind
redis_connections_opened_total{} counter: Connections to Redis opened for calls
redis_connections{} gauge: Open connections to Redis for calls (REDIS_POOL_SIZE)
redis_waiting_calls{} gauge: Calls waiting for a shared connection to Redis
redis_wait_seconds{} histogram: Longest queueing delay among the calls batched into a round trip to Redis
redis_round_trip_calls{} histogram: Transactions batched into a round trip to Redis
redis_may_evict{} gauge: 1 if Redis may evict buckets (an evicted bucket resets to full), else 0
rate_limiter_deny_cache_hits_total{} counter: Denials served from cache (DENY_CACHE_MAX_AGE)
rate_limiter_breaker_open{} gauge: Number of open circuit breakers (one per master in a Cluster)
rate_limiter_breaker_opened_total{} counter: Times that a circuit breaker opened
rate_limiter_memory_buckets{} gauge: Buckets held in memory (MEMORY_MAX_BUCKETS)
rate_limiter_memory_rejected_total{} counter: Requests rejected because all buckets in memory were in use
rate_limiter_config_reloads_total{result=success|failure} counter: Reloads of the limits file (LIMITS_FILE), by result (success, failure)
rate_limiter_config_last_reload_successful{} gauge: 1 if the last reload of the limits file succeeded, 0 if it was rejected
rate_limiter_config_loaded_timestamp_seconds{} gauge: Time when the active limits were loaded
rate_limiter_tls_last_reload_successful{} gauge: 1 if the last reload of TLS_CERT, TLS_KEY and TLS_CLIENT_CA succeeded, 0 if it was rejected
rate_limiter_tls_certificate_not_before_timestamp_seconds{} gauge: Start of validity of the served certificate (TLS_CERT)
rate_limiter_tls_certificate_not_after_timestamp_seconds{} gauge: End of validity of the served certificate (TLS_CERT)
rate_limiter_build_info{version} gauge: Always 1; the label is the version
process_cpu_seconds_total{} counter: CPU time of the process, user and system
process_resident_memory_bytes{} gauge: Resident memory of the process
process_virtual_memory_bytes{} gauge: Address space of the process
process_open_fds{} gauge: Open file descriptors
process_max_fds{} gauge: Maximum number of open file descriptors (ulimit -n)
process_start_time_seconds{} gauge: Start time of the process
process_threads{} gauge: Threads of the process
)";

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

// Every metric as a line: name{labels} type: help, with the values that a label can have.
std::string Describe(const MetricDefinition& definition) {
  std::string labels;
  for (const MetricLabel& label : definition.labels) {
    if (label.name.empty()) continue;
    labels += fmt::format("{}{}{}{}", labels.empty() ? "" : ",", label.name,
                          label.values.empty() ? "" : "=", fmt::join(label.values, "|"));
  }
  return fmt::format("{}{{{}}} {}: {}\n", definition.name, labels, TypeName(definition.type),
                     definition.help);
}

const prometheus::ClientMetric& Only(const MetricFamily& family) { return family.metric.at(0); }

TEST(MetricTableTest, HasThese) {
  std::string table;
  for (const MetricDefinition& definition : MetricTable()) table += Describe(definition);
  EXPECT_EQ(table, kGolden);
}

// Those of the table that a Metrics of which nothing was published has not.
constexpr auto kPublishedByOthers =
    std::to_array<Metric>({Metric::kInFlight,         Metric::kLogDropped,
                           Metric::kRedisErrors,      Metric::kRedisConnectionsOpened,
                           Metric::kRedisConnections, Metric::kRedisWaitingCalls,
                           Metric::kRedisWait,        Metric::kRedisRoundTripCalls,
                           Metric::kRedisMayEvict,    Metric::kDenyCacheHits,
                           Metric::kBreakerOpen,      Metric::kBreakerOpened,
                           Metric::kMemoryBuckets,    Metric::kMemoryRejected,
                           Metric::kConfigReloads,    Metric::kConfigLastReload,
                           Metric::kConfigLoaded,     Metric::kTlsLastReload,
                           Metric::kTlsNotBefore,     Metric::kTlsNotAfter});

// That a family has the type, the help, the labels and their values that the table gives it.
void ExpectAsDefined(const MetricFamily& family, const MetricDefinition& definition) {
  EXPECT_EQ(family.type, definition.type) << family.name;
  EXPECT_EQ(family.help, definition.help) << family.name;
  for (const prometheus::ClientMetric& metric : family.metric) {
    std::size_t i = 0;
    for (const prometheus::ClientMetric::Label& label : metric.label) {
      const MetricLabel& defined = definition.labels.at(i++);
      EXPECT_EQ(label.name, defined.name) << family.name;
      EXPECT_TRUE(defined.values.empty() ||
                  std::ranges::find(defined.values, label.value) != defined.values.end())
          << family.name << ": " << label.value;
    }
    EXPECT_TRUE(i == definition.labels.size() || definition.labels.at(i).name.empty())
        << family.name;
  }
}

TEST(MetricsTest, AreThoseOfTheTableAsItHasThem) {
  Metrics metrics(10, "1.2.3");
  metrics.CountRequest("user", RequestStatus::kAllowed);
  metrics.CountRequest("user", RequestStatus::kDenied);
  std::size_t published = 0;
  for (const bool all : {false, true}) {
    if (all) {
      metrics.PublishRedis();
      for (const Metric metric : kPublishedByOthers) {
        if (Families(metrics).contains(std::string(DefinitionOf(metric).name))) continue;
        const bool by_label = !DefinitionOf(metric).labels[0].name.empty();
        if (by_label) {
          metrics.Publish(metric, [](std::size_t) { return 1; });
        } else {
          metrics.Publish(metric, [] { return 1; });
        }
      }
    }
    const auto families = Families(metrics);
    published = families.size();
    for (const MetricDefinition& definition : MetricTable()) {
      const auto family = families.find(std::string(definition.name));
      const bool by_others =
          std::ranges::find(kPublishedByOthers, definition.metric) != kPublishedByOthers.end();
      EXPECT_EQ(family != families.end(), all || !by_others) << definition.name;
      if (family != families.end()) ExpectAsDefined(family->second, definition);
    }
  }
  EXPECT_EQ(published, MetricTable().size());
}

TEST(MetricsTest, TellTheVersion) {
  const Metrics metrics(10, "1.2.3");
  const auto info = Only(Families(metrics).at("rate_limiter_build_info"));
  EXPECT_EQ(info.label.at(0).value, "1.2.3");
  EXPECT_EQ(info.gauge.value, 1);
}

TEST(MetricsTest, ReadWhatIsPublishedAtEachScrape) {
  Metrics metrics(10, "1.2.3");
  std::size_t buckets = 1;
  std::uint64_t rejected = 2;
  metrics.Publish(Metric::kMemoryBuckets, [&] { return buckets; });
  metrics.Publish(Metric::kMemoryRejected, [&] { return rejected; });
  buckets = 3;
  rejected = 4;
  const auto families = Families(metrics);
  EXPECT_EQ(Only(families.at("rate_limiter_memory_buckets")).gauge.value, 3);
  EXPECT_EQ(Only(families.at("rate_limiter_memory_rejected_total")).counter.value, 4);
}

TEST(MetricsTest, ReadEachValueOfALabel) {
  Metrics metrics(10, "1.2.3");
  metrics.Publish(Metric::kConfigReloads, [](std::size_t result) { return result == 0 ? 3 : 1; });
  const MetricFamily counts = Families(metrics).at("rate_limiter_config_reloads_total");
  ASSERT_EQ(counts.metric.size(), 2U);
  EXPECT_EQ(counts.metric[0].label.at(0).value, "success");
  EXPECT_EQ(counts.metric[0].counter.value, 3);
  EXPECT_EQ(counts.metric[1].label.at(0).value, "failure");
  EXPECT_EQ(counts.metric[1].counter.value, 1);
}

TEST(MetricsTest, TellWhetherTheDaemonIsReady) {
  Metrics metrics(10, "1.2.3");
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_ready")).gauge.value, 0);
  metrics.SetReady(true);
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_ready")).gauge.value, 1);
}

TEST(MetricsTest, CountWhatWasDegradedAndShed) {
  Metrics metrics(10, "1.2.3");
  metrics.CountShed();
  metrics.CountDegraded(FailMode::kClosed);
  const auto families = Families(metrics);
  EXPECT_EQ(Only(families.at("rate_limiter_shed_total")).counter.value, 1);
  const auto& degraded = families.at("rate_limiter_degraded_total").metric;
  ASSERT_EQ(degraded.size(), 4U);
  for (const auto& metric : degraded) {
    EXPECT_EQ(metric.counter.value, metric.label.at(0).value == "closed" ? 1 : 0);
  }
}

TEST(MetricsTest, ShowTheHeaviestUsersByStatus) {
  Metrics metrics(0, "1.2.3", {.top = 1});
  for (const char* user : {"a", "a", "b"}) metrics.CountRequest(user, RequestStatus::kAllowed);
  for (const char* user : {"a", "b", "b"}) metrics.CountRequest(user, RequestStatus::kDenied);
  for (int i = 0; i < 9; ++i) metrics.CountRequest("c", RequestStatus::kError);
  const auto heavy = Families(metrics).at("rate_limiter_heavy_user_requests").metric;
  ASSERT_EQ(heavy.size(), 2U);
  EXPECT_EQ(heavy[0].label.at(0).value, "a");
  EXPECT_EQ(heavy[0].label.at(1).value, "allowed");
  EXPECT_EQ(heavy[0].gauge.value, 2);
  EXPECT_EQ(heavy[1].label.at(0).value, "b");
  EXPECT_EQ(heavy[1].label.at(1).value, "denied");
  EXPECT_EQ(heavy[1].gauge.value, 2);
}

TEST(MetricsTest, WithoutTopUsersShowNone) {
  Metrics metrics(10, "1.2.3", {.top = 0});
  metrics.CountRequest("a", RequestStatus::kAllowed);
  EXPECT_FALSE(Families(metrics).contains("rate_limiter_heavy_user_requests"));
  EXPECT_EQ(metrics.heavy_users(RequestStatus::kAllowed).Top(1).size(), 1U);
}

// What is shown of users, and how many requests each.
std::map<std::string, double> Users(const Metrics& metrics, const char* name) {
  std::map<std::string, double> users;
  const MetricFamily family = Families(metrics).at(name);
  for (const auto& metric : family.metric) {
    users[metric.label.at(0).value] += metric.counter.value + metric.gauge.value;
  }
  return users;
}

TEST(MetricsTest, CanCallUsersByTheirHashes) {
  Metrics metrics(1, "1.2.3", {.label = UserLabel::kHash});
  for (const char* user : {"a", "a", "b"}) metrics.CountRequest(user, RequestStatus::kAllowed);
  const std::string a = LabelOf("a", UserLabel::kHash);
  const std::string b = LabelOf("b", UserLabel::kHash);
  EXPECT_THAT(Users(metrics, "rate_limiter_requests_total"),
              UnorderedElementsAre(Pair(a, 2), Pair("__other__", 1)));
  EXPECT_THAT(Users(metrics, "rate_limiter_heavy_user_requests"),
              UnorderedElementsAre(Pair(a, 2), Pair(b, 1)));
}

TEST(MetricsTest, CanCallAllUsersTheSame) {
  Metrics metrics(10, "1.2.3", {.label = UserLabel::kOff});
  for (const char* user : {"a", "a", "b"}) metrics.CountRequest(user, RequestStatus::kAllowed);
  metrics.requests().CountOther(RequestStatus::kError);
  EXPECT_THAT(Users(metrics, "rate_limiter_requests_total"),
              UnorderedElementsAre(Pair("__all__", 4)));
  EXPECT_THAT(Users(metrics, "rate_limiter_heavy_user_requests"),
              UnorderedElementsAre(Pair("__all__", 3)));
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_tracked_users")).gauge.value, 0);
}

TEST(MetricsTest, CountWhatIsNotTracked) {
  Metrics metrics(1, "1.2.3");
  for (const char* user : {"a", "a", "b", "c"}) metrics.CountRequest(user, RequestStatus::kDenied);
  metrics.requests().CountOther(RequestStatus::kError);
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_untracked_requests_total")).counter.value, 3);
}

TEST(MetricsTest, TellWhatTheProcessUses) {
  const Metrics metrics(10, "1.2.3");
  const auto families = Families(metrics);
  const auto gauge = [&](const char* name) { return Only(families.at(name)).gauge.value; };
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_GE(Only(families.at("process_cpu_seconds_total")).counter.value, 0);
  EXPECT_GT(gauge("process_resident_memory_bytes"), 100'000);
  EXPECT_GT(gauge("process_virtual_memory_bytes"), gauge("process_resident_memory_bytes"));
  EXPECT_GE(gauge("process_threads"), 1);
  EXPECT_LT(gauge("process_start_time_seconds"), now + 1);
  EXPECT_GT(gauge("process_start_time_seconds"), now - 3'600);
  EXPECT_GT(gauge("process_max_fds"), gauge("process_open_fds"));
  const double before = gauge("process_open_fds");
  const std::ifstream opened("/dev/null");
  EXPECT_EQ(Only(Families(metrics).at("process_open_fds")).gauge.value, before + 1);
}

TEST(MetricsTest, CountTheErrorsAndConnectionsOfRedis) {
  Metrics metrics(10, "1.2.3");
  metrics.PublishRedis();
  metrics.redis().CountOpened();
  metrics.redis().CountOpened();
  metrics.redis().CountClosed();
  metrics.redis().CountError(RedisError::kTimeout);
  metrics.redis().CountError(RedisError::kOther);
  const auto families = Families(metrics);
  EXPECT_EQ(Only(families.at("redis_connections_opened_total")).counter.value, 2);
  EXPECT_EQ(Only(families.at("redis_connections")).gauge.value, 1);
  const auto& errors = families.at("redis_errors_total").metric;
  EXPECT_EQ(errors.size(), kRedisErrorNames.size());
  for (const auto& metric : errors) {
    const std::string& kind = metric.label.at(0).value;
    EXPECT_EQ(metric.counter.value, kind == "timeout" || kind == "other" ? 1 : 0) << kind;
  }
}

TEST(MetricsTest, CountTrackedUsersUpToTheBound) {
  Metrics metrics(2, "1.2.3");
  for (const char* user : {"a", "b", "c"}) metrics.requests().Count(user, RequestStatus::kAllowed);
  EXPECT_EQ(Only(Families(metrics).at("rate_limiter_tracked_users")).gauge.value, 2);
}

TEST(MetricsTest, TellTheValueOfOneThatIsPublished) {
  Metrics metrics(10, "1.2.3");
  metrics.CountShed();
  metrics.CountShed();
  metrics.Publish(Metric::kInFlight, [] { return 7; });
  EXPECT_EQ(metrics.Value(Metric::kShed), 2);
  EXPECT_EQ(metrics.Value(Metric::kInFlight), 7);
  EXPECT_EQ(metrics.Value(Metric::kMemoryBuckets), 0);
}

TEST(MetricsTest, TellTheValuesByALabel) {
  Metrics metrics(10, "1.2.3");
  metrics.CountDegraded(FailMode::kOpen);
  using Values = std::vector<std::pair<std::string, double>>;
  EXPECT_EQ(metrics.ByLabel(Metric::kDegraded),
            (Values{{"open", 1}, {"local", 0}, {"closed", 0}, {"error", 0}}));
  EXPECT_TRUE(metrics.ByLabel(Metric::kRedisErrors).empty());
}

TEST(MetricsTest, TellHowManyLatenciesLieBetweenTheEdges) {
  Metrics metrics(10, "1.2.3");
  for (const auto latency : {50us, 51us, 100us}) metrics.redis().Observe({.latency = latency});
  metrics.redis().Observe({.latency = 2s});
  const Histogram& latency = metrics.redis().latency();
  const std::vector<double> edges = latency.Edges();
  const std::vector<std::uint64_t> counts = latency.Counts();
  ASSERT_EQ(counts.size(), edges.size() + 1);
  EXPECT_EQ(edges.front(), 0.00005);
  EXPECT_EQ(edges.back(), 1);
  EXPECT_EQ(counts[0], 1U);
  EXPECT_EQ(counts[1], 2U);
  EXPECT_EQ(counts[2], 0U);
  EXPECT_EQ(counts.back(), 1U);
}

TEST(MetricsTest, PutALatencyInItsBucket) {
  Metrics metrics(10, "1.2.3");
  metrics.redis().Observe({.latency = 50us});
  metrics.redis().Observe({.latency = 3ms});
  metrics.redis().Observe({.latency = 2s});
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
