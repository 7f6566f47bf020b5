#include "ratelimiter/metrics/metrics.h"

#include <exception>
#include <utility>

#include <fmt/format.h>
#include <prometheus/client_metric.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/base/listen.h"

namespace ratelimiter {
namespace {

const prometheus::Histogram::BucketBoundaries kLatencyBuckets = {
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1};

// A single value without labels, read when it is scraped.
class ReadAtScrape final : public prometheus::Collectable {
 public:
  ReadAtScrape(std::string name, std::string help, prometheus::MetricType type,
               std::function<double()> read)
      : name_(std::move(name)), help_(std::move(help)), type_(type), read_(std::move(read)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    prometheus::ClientMetric metric;
    metric.gauge.value = read_();
    metric.counter.value = metric.gauge.value;
    return {{name_, help_, type_, {metric}}};
  }

 private:
  const std::string name_;
  const std::string help_;
  const prometheus::MetricType type_;
  const std::function<double()> read_;
};

class ReloadsAtScrape final : public prometheus::Collectable {
 public:
  explicit ReloadsAtScrape(std::function<Reloads()> read) : read_(std::move(read)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const Reloads reloads = read_();
    const std::chrono::duration<double> loaded_at = reloads.loaded_at.time_since_epoch();
    return {{"rate_limiter_config_reloads_total",
             "Reloads of the limits file (LIMITS_FILE), by result (success, failure)",
             prometheus::MetricType::Counter,
             {Count("success", reloads.succeeded), Count("failure", reloads.failed)}},
            {"rate_limiter_config_last_reload_successful",
             "1, or 0 while the limits file is not what is in force",
             prometheus::MetricType::Gauge,
             {Value(reloads.last_succeeded ? 1 : 0)}},
            {"rate_limiter_config_loaded_timestamp_seconds",
             "When the limits in force were read",
             prometheus::MetricType::Gauge,
             {Value(loaded_at.count())}}};
  }

 private:
  static prometheus::ClientMetric Count(const char* result, std::uint64_t count) {
    prometheus::ClientMetric metric;
    metric.label = {{"result", result}};
    metric.counter.value = static_cast<double>(count);
    return metric;
  }
  static prometheus::ClientMetric Value(double value) {
    prometheus::ClientMetric metric;
    metric.gauge.value = value;
    return metric;
  }

  const std::function<Reloads()> read_;
};

class LogDropsAtScrape final : public prometheus::Collectable {
 public:
  explicit LogDropsAtScrape(std::function<std::uint64_t(LogKind)> read) : read_(std::move(read)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::ClientMetric> metrics;
    for (std::size_t i = 0; i < kLogKinds; ++i) {
      const auto kind = static_cast<LogKind>(i);
      prometheus::ClientMetric& metric = metrics.emplace_back();
      metric.label = {{"kind", std::string(NameOf(kind))}};
      metric.counter.value = static_cast<double>(read_(kind));
    }
    return {{"rate_limiter_log_dropped_total",
             "Lines that are not in the log, by kind: too many came, or nobody read them",
             prometheus::MetricType::Counter, metrics}};
  }

 private:
  const std::function<std::uint64_t(LogKind)> read_;
};

prometheus::Counter& BuildShed(prometheus::Registry& registry) {
  return prometheus::BuildCounter()
      .Name("rate_limiter_shed_total")
      .Help("Calls refused at once because MAX_IN_FLIGHT others were worked on")
      .Register(registry)
      .Add({});
}

std::array<prometheus::Counter*, 4> BuildDegraded(prometheus::Registry& registry) {
  auto& family =
      prometheus::BuildCounter()
          .Name("rate_limiter_degraded_total")
          .Help("Calls that the store failed, by what decided them (error, open, closed, local)")
          .Register(registry);
  return {&family.Add({{"mode", "error"}}), &family.Add({{"mode", "open"}}),
          &family.Add({{"mode", "closed"}}), &family.Add({{"mode", "local"}})};
}

prometheus::Histogram& BuildRedisLatency(prometheus::Registry& registry) {
  return prometheus::BuildHistogram()
      .Name("redis_latency_seconds")
      .Help("Round trips to Redis, from writing the command to its reply or failure")
      .Register(registry)
      .Add({}, kLatencyBuckets);
}

// A connection that sends nothing holds one of civetweb's threads: so many may at
// once, for so long, before a scrape waits.
constexpr int kHttpThreads = 16;
constexpr std::chrono::milliseconds kHttpTimeout{5000};

// civetweb's words for an address: "+port" is IPv4 and IPv6.
std::string ListenAddress(const std::string& bind, std::uint16_t port) {
  if (bind == "::") return fmt::format("{}{}", HasIpv6() ? "+" : "0.0.0.0:", port);
  if (bind.find(':') != std::string::npos) return fmt::format("[{}]:{}", bind, port);
  return fmt::format("{}:{}", bind, port);
}

}  // namespace

Metrics::Metrics(std::size_t max_users, const std::string& version)
    : registry_(std::make_shared<prometheus::Registry>()),
      requests_(std::make_shared<RequestCounter>(max_users)),
      decisions_(std::make_shared<LimitCounter>()),
      shed_(BuildShed(*registry_)),
      degraded_(BuildDegraded(*registry_)),
      redis_latency_(BuildRedisLatency(*registry_)),
      collectables_{registry_, requests_, decisions_} {
  prometheus::BuildGauge()
      .Name("rate_limiter_build_info")
      .Help("Always 1; the label tells the version")
      .Register(*registry_)
      .Add({{"version", version}})
      .Set(1);
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_tracked_users", "Users that have series of their own (METRICS_MAX_USERS)",
      prometheus::MetricType::Gauge,
      [requests = requests_] { return static_cast<double>(requests->tracked()); }));
}

void Metrics::ObserveRedisLatency(std::chrono::steady_clock::duration latency) {
  redis_latency_.Observe(std::chrono::duration<double>(latency).count());
}

void Metrics::PublishMemoryStore(std::function<std::size_t()> buckets,
                                 std::function<std::uint64_t()> rejected) {
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_memory_buckets", "Buckets held in memory (MEMORY_MAX_BUCKETS)",
      prometheus::MetricType::Gauge,
      [read = std::move(buckets)] { return static_cast<double>(read()); }));
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_memory_rejected_total",
      "Requests answered with an error because all buckets in memory were in use",
      prometheus::MetricType::Counter,
      [read = std::move(rejected)] { return static_cast<double>(read()); }));
}

void Metrics::PublishBreakers(std::function<std::size_t()> open,
                              std::function<std::uint64_t()> openings) {
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_breaker_open",
      "Redis servers that are not asked now, for they fail; in a Cluster each master counts",
      prometheus::MetricType::Gauge,
      [read = std::move(open)] { return static_cast<double>(read()); }));
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_breaker_opened_total", "How often Redis was given up because it failed",
      prometheus::MetricType::Counter,
      [read = std::move(openings)] { return static_cast<double>(read()); }));
}

void Metrics::PublishInFlight(std::function<std::size_t()> calls) {
  collectables_.push_back(std::make_shared<ReadAtScrape>(
      "rate_limiter_in_flight_calls", "Calls worked on now (MAX_IN_FLIGHT)",
      prometheus::MetricType::Gauge,
      [read = std::move(calls)] { return static_cast<double>(read()); }));
}

void Metrics::PublishReloads(std::function<Reloads()> read) {
  collectables_.push_back(std::make_shared<ReloadsAtScrape>(std::move(read)));
}

void Metrics::PublishLogDrops(std::function<std::uint64_t(LogKind)> lines) {
  collectables_.push_back(std::make_shared<LogDropsAtScrape>(std::move(lines)));
}

absl::StatusOr<MetricsExposer> MetricsExposer::Start(const std::string& bind, std::uint16_t port,
                                                     const Metrics& metrics) {
  const auto failure = [&](const std::string& why) {
    return absl::UnavailableError(
        fmt::format("cannot listen on {} port {} for metrics: {}", bind, port, why));
  };
  // civetweb does not say why it cannot.
  if (const auto error = CheckListen(bind, port); error) return failure(error.message());
  std::unique_ptr<prometheus::Exposer> exposer;
  try {
    exposer = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", ListenAddress(bind, port), "num_threads", std::to_string(kHttpThreads),
        "request_timeout_ms", std::to_string(kHttpTimeout.count())});
  } catch (const std::exception& error) {
    return failure(error.what());
  }
  for (const auto& collectable : metrics.collectables()) exposer->RegisterCollectable(collectable);
  return MetricsExposer(std::move(exposer), metrics.collectables());
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               std::vector<std::shared_ptr<prometheus::Collectable>> collectables)
    : collectables_(std::move(collectables)), exposer_(std::move(exposer)) {}

std::uint16_t MetricsExposer::port() const {
  return static_cast<std::uint16_t>(exposer_->GetListeningPorts().front());
}

}  // namespace ratelimiter
