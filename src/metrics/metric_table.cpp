#include "ratelimiter/metrics/metric_table.h"

#include <string>

#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/metrics/call_metrics.h"
#include "ratelimiter/metrics/redis_metrics.h"

namespace ratelimiter {
namespace {

using Type = prometheus::MetricType;

using Values = std::span<const std::string_view>;

constexpr auto kRequestStatuses = std::to_array<std::string_view>({"allowed", "denied", "error"});
constexpr auto kLimitStatuses =
    std::to_array<std::string_view>({"allowed", "denied", "shadow_denied", "error"});
constexpr auto kResults = std::to_array<std::string_view>({"success", "failure"});
constexpr auto kCallTypes = std::to_array<std::string_view>({"unary"});
constexpr auto kServices = std::to_array<std::string_view>({"limiter.RateLimiter"});

constexpr MetricLabel kCallType = {.name = "grpc_type", .values = kCallTypes};
constexpr MetricLabel kService = {.name = "grpc_service", .values = kServices};
constexpr MetricLabel kMethod = {.name = "grpc_method", .values = kCallMethodNames};

constexpr auto kTable = std::to_array<MetricDefinition>({
    {.metric = Metric::kRequests,
     .name = "rate_limiter_requests_total",
     .type = Type::Counter,
     .help = "Requests decided, by user and status (allowed, denied, error)",
     .labels = {{{.name = "user"}, {.name = "status", .values = kRequestStatuses}}}},
    {.metric = Metric::kUntrackedRequests,
     .name = "rate_limiter_untracked_requests_total",
     .type = Type::Counter,
     .help = "Requests of users without a series of their own (METRICS_MAX_USERS)"},
    {.metric = Metric::kTrackedUsers,
     .name = "rate_limiter_tracked_users",
     .type = Type::Gauge,
     .help = "Users with a series of their own (METRICS_MAX_USERS)"},
    {.metric = Metric::kHeavyUserRequests,
     .name = "rate_limiter_heavy_user_requests",
     .type = Type::Gauge,
     .help = "Requests of the most active users (METRICS_TOP_USERS) in about the last 10 "
             "minutes, by status (allowed, denied)",
     .labels = {{{.name = "user"},
                 {.name = "status", .values = Values(kRequestStatuses).first(2)}}}},
    {.metric = Metric::kDecisions,
     .name = "rate_limiter_decisions_total",
     .type = Type::Counter,
     .help = "Decisions of each limit on the requests that it applies to, by limit and status "
             "(allowed, denied, shadow_denied, error)",
     .labels = {{{.name = "limit"}, {.name = "status", .values = kLimitStatuses}}}},
    {.metric = Metric::kDegraded,
     .name = "rate_limiter_degraded_total",
     .type = Type::Counter,
     .help = "Calls that the store failed, by fail mode (error, open, closed, local)",
     .labels = {{{.name = "mode", .values = kFailModes}}}},
    {.metric = Metric::kShed,
     .name = "rate_limiter_shed_total",
     .type = Type::Counter,
     .help = "Calls rejected because MAX_IN_FLIGHT others were in flight"},
    {.metric = Metric::kInFlight,
     .name = "rate_limiter_in_flight_calls",
     .type = Type::Gauge,
     .help = "Calls in flight (MAX_IN_FLIGHT)"},
    {.metric = Metric::kReady,
     .name = "rate_limiter_ready",
     .type = Type::Gauge,
     .help = "1 while gRPC health says SERVING, else 0"},
    {.metric = Metric::kLogDropped,
     .name = "rate_limiter_log_dropped_total",
     .type = Type::Counter,
     .help = "Log lines dropped, by kind (rate limit or full queue)",
     .labels = {{{.name = "kind", .values = kLogKindNames}}}},
    {.metric = Metric::kCallsStarted,
     .name = "grpc_server_started_total",
     .type = Type::Counter,
     .help = "Calls started, including shed and invalid ones",
     .labels = {{kCallType, kService, kMethod}}},
    {.metric = Metric::kCallsHandled,
     .name = "grpc_server_handled_total",
     .type = Type::Counter,
     .help = "Calls ended, by status code",
     .labels = {{kCallType, kService, kMethod, {.name = "grpc_code", .values = kCallCodeNames}}}},
    {.metric = Metric::kCallsHandling,
     .name = "grpc_server_handling_seconds",
     .type = Type::Histogram,
     .help = "Duration of calls, from their start on a server thread to the answer",
     .labels = {{kCallType, kService, kMethod}}},
    {.metric = Metric::kRedisLatency,
     .name = "redis_latency_seconds",
     .type = Type::Histogram,
     .help = "Duration of round trips to Redis, from writing the command to its reply or failure"},
    {.metric = Metric::kRedisErrors,
     .name = "redis_errors_total",
     .type = Type::Counter,
     .help = "Failed round trips to Redis and its error replies, including probes, by kind",
     .labels = {{{.name = "kind", .values = kRedisErrorNames}}}},
    {.metric = Metric::kRedisConnectionsOpened,
     .name = "redis_connections_opened_total",
     .type = Type::Counter,
     .help = "Connections to Redis opened for calls"},
    {.metric = Metric::kRedisConnections,
     .name = "redis_connections",
     .type = Type::Gauge,
     .help = "Open connections to Redis for calls (REDIS_POOL_SIZE)"},
    {.metric = Metric::kRedisWaitingCalls,
     .name = "redis_waiting_calls",
     .type = Type::Gauge,
     .help = "Calls waiting for a shared connection to Redis"},
    {.metric = Metric::kRedisWait,
     .name = "redis_wait_seconds",
     .type = Type::Histogram,
     .help = "Longest queueing delay among the calls batched into a round trip to Redis"},
    {.metric = Metric::kRedisRoundTripCalls,
     .name = "redis_round_trip_calls",
     .type = Type::Histogram,
     .help = "Transactions batched into a round trip to Redis"},
    {.metric = Metric::kRedisMayEvict,
     .name = "redis_may_evict",
     .type = Type::Gauge,
     .help = "1 if Redis may evict buckets (an evicted bucket resets to full), else 0"},
    {.metric = Metric::kDenyCacheHits,
     .name = "rate_limiter_deny_cache_hits_total",
     .type = Type::Counter,
     .help = "Denials served from cache (DENY_CACHE_MAX_AGE)"},
    {.metric = Metric::kBreakerOpen,
     .name = "rate_limiter_breaker_open",
     .type = Type::Gauge,
     .help = "Number of open circuit breakers (one per master in a Cluster)"},
    {.metric = Metric::kBreakerOpened,
     .name = "rate_limiter_breaker_opened_total",
     .type = Type::Counter,
     .help = "Times that a circuit breaker opened"},
    {.metric = Metric::kMemoryBuckets,
     .name = "rate_limiter_memory_buckets",
     .type = Type::Gauge,
     .help = "Buckets held in memory (MEMORY_MAX_BUCKETS)"},
    {.metric = Metric::kMemoryRejected,
     .name = "rate_limiter_memory_rejected_total",
     .type = Type::Counter,
     .help = "Requests rejected because all buckets in memory were in use"},
    {.metric = Metric::kConfigReloads,
     .name = "rate_limiter_config_reloads_total",
     .type = Type::Counter,
     .help = "Reloads of the limits file (LIMITS_FILE), by result (success, failure)",
     .labels = {{{.name = "result", .values = kResults}}}},
    {.metric = Metric::kConfigLastReload,
     .name = "rate_limiter_config_last_reload_successful",
     .type = Type::Gauge,
     .help = "1 if the last reload of the limits file succeeded, 0 if it was rejected"},
    {.metric = Metric::kConfigLoaded,
     .name = "rate_limiter_config_loaded_timestamp_seconds",
     .type = Type::Gauge,
     .help = "Time when the active limits were loaded"},
    {.metric = Metric::kTlsLastReload,
     .name = "rate_limiter_tls_last_reload_successful",
     .type = Type::Gauge,
     .help = "1 if the last reload of TLS_CERT, TLS_KEY and TLS_CLIENT_CA succeeded, 0 if it was "
             "rejected"},
    {.metric = Metric::kTlsNotBefore,
     .name = "rate_limiter_tls_certificate_not_before_timestamp_seconds",
     .type = Type::Gauge,
     .help = "Start of validity of the served certificate (TLS_CERT)"},
    {.metric = Metric::kTlsNotAfter,
     .name = "rate_limiter_tls_certificate_not_after_timestamp_seconds",
     .type = Type::Gauge,
     .help = "End of validity of the served certificate (TLS_CERT)"},
    {.metric = Metric::kBuildInfo,
     .name = "rate_limiter_build_info",
     .type = Type::Gauge,
     .help = "Always 1; the label is the version",
     .labels = {{{.name = "version"}}}},
    {.metric = Metric::kProcessCpu,
     .name = "process_cpu_seconds_total",
     .type = Type::Counter,
     .help = "CPU time of the process, user and system"},
    {.metric = Metric::kProcessResidentMemory,
     .name = "process_resident_memory_bytes",
     .type = Type::Gauge,
     .help = "Resident memory of the process"},
    {.metric = Metric::kProcessVirtualMemory,
     .name = "process_virtual_memory_bytes",
     .type = Type::Gauge,
     .help = "Address space of the process"},
    {.metric = Metric::kProcessOpenFds,
     .name = "process_open_fds",
     .type = Type::Gauge,
     .help = "Open file descriptors"},
    {.metric = Metric::kProcessMaxFds,
     .name = "process_max_fds",
     .type = Type::Gauge,
     .help = "Maximum number of open file descriptors (ulimit -n)"},
    {.metric = Metric::kProcessStart,
     .name = "process_start_time_seconds",
     .type = Type::Gauge,
     .help = "Start time of the process"},
    {.metric = Metric::kProcessThreads,
     .name = "process_threads",
     .type = Type::Gauge,
     .help = "Threads of the process"},
});

constexpr bool IsInOrder() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].metric) != i) return false;
  }
  return kTable.size() == static_cast<std::size_t>(Metric::kProcessThreads) + 1;
}
static_assert(IsInOrder());

}  // namespace

std::span<const MetricDefinition> MetricTable() { return kTable; }

const MetricDefinition& DefinitionOf(Metric metric) {
  return kTable[static_cast<std::size_t>(metric)];
}

prometheus::MetricFamily FamilyOf(Metric metric) {
  const MetricDefinition& definition = DefinitionOf(metric);
  return {.name = std::string(definition.name),
          .help = std::string(definition.help),
          .type = definition.type,
          .metric = {}};
}

void SetLabels(prometheus::ClientMetric& sample, Metric metric,
               std::initializer_list<std::string_view> values) {
  const auto* label = DefinitionOf(metric).labels.begin();
  sample.label.reserve(values.size());
  for (const std::string_view value : values) {
    sample.label.push_back({std::string((label++)->name), std::string(value)});
  }
}

prometheus::ClientMetric SampleOf(Metric metric, std::initializer_list<std::string_view> labels,
                                  double value) {
  prometheus::ClientMetric sample;
  SetLabels(sample, metric, labels);
  if (DefinitionOf(metric).type == Type::Counter) {
    sample.counter.value = value;
  } else {
    sample.gauge.value = value;
  }
  return sample;
}

}  // namespace ratelimiter
