#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

namespace ratelimiter {

// Every metric of the daemon. metric_table.cpp has the table of their names.
enum class Metric : std::uint8_t {
  kRequests,
  kUntrackedRequests,
  kTrackedUsers,
  kHeavyUserRequests,
  kDecisions,
  kDegraded,
  kShed,
  kInFlight,
  kReady,
  kLogDropped,
  kCallsStarted,
  kCallsHandled,
  kCallsHandling,
  kRedisLatency,
  kRedisErrors,
  kRedisConnectionsOpened,
  kRedisConnections,
  kRedisWaitingCalls,
  kRedisWait,
  kRedisRoundTripCalls,
  kRedisMayEvict,
  kDenyCacheHits,
  kBreakerOpen,
  kBreakerOpened,
  kMemoryBuckets,
  kMemoryRejected,
  kConfigReloads,
  kConfigLastReload,
  kConfigLoaded,
  kTlsLastReload,
  kTlsNotBefore,
  kTlsNotAfter,
  kBuildInfo,
  kProcessCpu,
  kProcessResidentMemory,
  kProcessVirtualMemory,
  kProcessOpenFds,
  kProcessMaxFds,
  kProcessStart,
  kProcessThreads,
};

struct MetricLabel {
  std::string_view name{};
  // All that it can have. Empty: whatever is counted by.
  std::span<const std::string_view> values{};
};

struct MetricDefinition {
  Metric metric{};
  std::string_view name;
  prometheus::MetricType type{};
  std::string_view help;
  // Those without a name are none.
  std::array<MetricLabel, 4> labels{};
};

// In the order of Metric.
std::span<const MetricDefinition> MetricTable();

const MetricDefinition& DefinitionOf(Metric metric);

// As Prometheus's library has it, without samples.
prometheus::MetricFamily FamilyOf(Metric metric);

// Gives a sample its labels: their values, in the table's order.
void SetLabels(prometheus::ClientMetric& sample, Metric metric,
               std::initializer_list<std::string_view> values);

// A sample of a counter or a gauge.
prometheus::ClientMetric SampleOf(Metric metric, std::initializer_list<std::string_view> labels,
                                  double value);

}  // namespace ratelimiter
