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
     .help = "Requests that count under no user of their own (METRICS_MAX_USERS)"},
    {.metric = Metric::kTrackedUsers,
     .name = "rate_limiter_tracked_users",
     .type = Type::Gauge,
     .help = "Users that have series of their own (METRICS_MAX_USERS)"},
    {.metric = Metric::kHeavyUserRequests,
     .name = "rate_limiter_heavy_user_requests",
     .type = Type::Gauge,
     .help = "Requests of those users who sent most lately (METRICS_TOP_USERS), about as many as "
             "in the last 10 minutes, by status (allowed, denied)",
     .labels = {{{.name = "user"},
                 {.name = "status", .values = Values(kRequestStatuses).first(2)}}}},
    {.metric = Metric::kDecisions,
     .name = "rate_limiter_decisions_total",
     .type = Type::Counter,
     .help = "What each limit said of the requests that it applies to, by limit and status "
             "(allowed, denied, shadow_denied, error)",
     .labels = {{{.name = "limit"}, {.name = "status", .values = kLimitStatuses}}}},
    {.metric = Metric::kDegraded,
     .name = "rate_limiter_degraded_total",
     .type = Type::Counter,
     .help = "Calls that the store failed, by what decided them (error, open, closed, local)",
     .labels = {{{.name = "mode", .values = kFailModes}}}},
    {.metric = Metric::kShed,
     .name = "rate_limiter_shed_total",
     .type = Type::Counter,
     .help = "Calls refused at once because MAX_IN_FLIGHT others were worked on"},
    {.metric = Metric::kInFlight,
     .name = "rate_limiter_in_flight_calls",
     .type = Type::Gauge,
     .help = "Calls worked on now (MAX_IN_FLIGHT)"},
    {.metric = Metric::kReady,
     .name = "rate_limiter_ready",
     .type = Type::Gauge,
     .help = "1 while gRPC health says SERVING, else 0"},
    {.metric = Metric::kLogDropped,
     .name = "rate_limiter_log_dropped_total",
     .type = Type::Counter,
     .help = "Lines that are not in the log, by kind: too many came, or nobody read them",
     .labels = {{{.name = "kind", .values = kLogKindNames}}}},
    {.metric = Metric::kCallsStarted,
     .name = "grpc_server_started_total",
     .type = Type::Counter,
     .help = "Calls begun, those that are shed and those that are not valid included",
     .labels = {{kCallType, kService, kMethod}}},
    {.metric = Metric::kCallsHandled,
     .name = "grpc_server_handled_total",
     .type = Type::Counter,
     .help = "Calls ended, by their status code",
     .labels = {{kCallType, kService, kMethod, {.name = "grpc_code", .values = kCallCodeNames}}}},
    {.metric = Metric::kCallsHandling,
     .name = "grpc_server_handling_seconds",
     .type = Type::Histogram,
     .help = "How long calls took, from when a thread had them to their answer",
     .labels = {{kCallType, kService, kMethod}}},
    {.metric = Metric::kRedisLatency,
     .name = "redis_latency_seconds",
     .type = Type::Histogram,
     .help = "Round trips to Redis, from writing the command to its reply or failure"},
    {.metric = Metric::kRedisErrors,
     .name = "redis_errors_total",
     .type = Type::Counter,
     .help = "Round trips to Redis that failed and errors that it answered, those of probes "
             "included, by kind",
     .labels = {{{.name = "kind", .values = kRedisErrorNames}}}},
    {.metric = Metric::kRedisConnectionsOpened,
     .name = "redis_connections_opened_total",
     .type = Type::Counter,
     .help = "Connections to Redis opened for calls"},
    {.metric = Metric::kRedisConnections,
     .name = "redis_connections",
     .type = Type::Gauge,
     .help = "Connections to Redis for calls that are open now (REDIS_POOL_SIZE)"},
    {.metric = Metric::kRedisWaitingCalls,
     .name = "redis_waiting_calls",
     .type = Type::Gauge,
     .help = "Calls that wait now for a turn on a connection to Redis"},
    {.metric = Metric::kRedisWait,
     .name = "redis_wait_seconds",
     .type = Type::Histogram,
     .help = "How long the call that waited longest for a round trip to Redis had waited when it "
             "was sent"},
    {.metric = Metric::kRedisRoundTripCalls,
     .name = "redis_round_trip_calls",
     .type = Type::Histogram,
     .help = "Transactions that went together in a round trip to Redis"},
    {.metric = Metric::kRedisMayEvict,
     .name = "redis_may_evict",
     .type = Type::Gauge,
     .help = "1 while Redis may evict buckets, which are full when they come back, else 0"},
    {.metric = Metric::kDenyCacheHits,
     .name = "rate_limiter_deny_cache_hits_total",
     .type = Type::Counter,
     .help = "Requests refused without asking Redis, for it had just refused (DENY_CACHE_MAX_AGE)"},
    {.metric = Metric::kBreakerOpen,
     .name = "rate_limiter_breaker_open",
     .type = Type::Gauge,
     .help = "Redis servers that are not asked now, for they fail; in a Cluster each master "
             "counts"},
    {.metric = Metric::kBreakerOpened,
     .name = "rate_limiter_breaker_opened_total",
     .type = Type::Counter,
     .help = "How often Redis was given up because it failed"},
    {.metric = Metric::kMemoryBuckets,
     .name = "rate_limiter_memory_buckets",
     .type = Type::Gauge,
     .help = "Buckets held in memory (MEMORY_MAX_BUCKETS)"},
    {.metric = Metric::kMemoryRejected,
     .name = "rate_limiter_memory_rejected_total",
     .type = Type::Counter,
     .help = "Requests answered with an error because all buckets in memory were in use"},
    {.metric = Metric::kConfigReloads,
     .name = "rate_limiter_config_reloads_total",
     .type = Type::Counter,
     .help = "Reloads of the limits file (LIMITS_FILE), by result (success, failure)",
     .labels = {{{.name = "result", .values = kResults}}}},
    {.metric = Metric::kConfigLastReload,
     .name = "rate_limiter_config_last_reload_successful",
     .type = Type::Gauge,
     .help = "1, or 0 while the limits file is not what is in force"},
    {.metric = Metric::kConfigLoaded,
     .name = "rate_limiter_config_loaded_timestamp_seconds",
     .type = Type::Gauge,
     .help = "When the limits in force were read"},
    {.metric = Metric::kTlsLastReload,
     .name = "rate_limiter_tls_last_reload_successful",
     .type = Type::Gauge,
     .help =
         "1, or 0 while the certificate's files (TLS_CERT, TLS_KEY, TLS_CLIENT_CA) are not what "
         "is in force"},
    {.metric = Metric::kTlsNotBefore,
     .name = "rate_limiter_tls_certificate_not_before_timestamp_seconds",
     .type = Type::Gauge,
     .help = "From when on the certificate that is served is valid (TLS_CERT)"},
    {.metric = Metric::kTlsNotAfter,
     .name = "rate_limiter_tls_certificate_not_after_timestamp_seconds",
     .type = Type::Gauge,
     .help = "Until when the certificate that is served is valid (TLS_CERT)"},
    {.metric = Metric::kBuildInfo,
     .name = "rate_limiter_build_info",
     .type = Type::Gauge,
     .help = "Always 1; the label tells the version",
     .labels = {{{.name = "version"}}}},
    {.metric = Metric::kProcessCpu,
     .name = "process_cpu_seconds_total",
     .type = Type::Counter,
     .help = "CPU time that the process has used, of user and system"},
    {.metric = Metric::kProcessResidentMemory,
     .name = "process_resident_memory_bytes",
     .type = Type::Gauge,
     .help = "Memory of the process that is in RAM"},
    {.metric = Metric::kProcessVirtualMemory,
     .name = "process_virtual_memory_bytes",
     .type = Type::Gauge,
     .help = "Address space of the process"},
    {.metric = Metric::kProcessOpenFds,
     .name = "process_open_fds",
     .type = Type::Gauge,
     .help = "File descriptors that are open"},
    {.metric = Metric::kProcessMaxFds,
     .name = "process_max_fds",
     .type = Type::Gauge,
     .help = "File descriptors that may be open (ulimit -n)"},
    {.metric = Metric::kProcessStart,
     .name = "process_start_time_seconds",
     .type = Type::Gauge,
     .help = "When the process began"},
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
