#include "ratelimiter/metrics/metrics.h"

#include <map>
#include <utility>

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include "process.h"

namespace ratelimiter {
namespace {

// For those who are shown, and for those who might be: the more counters, the less any
// count is too high.
constexpr std::size_t kHeavyCounters = 4'096;

double ValueOf(const prometheus::ClientMetric& sample, Metric metric) {
  return DefinitionOf(metric).type == prometheus::MetricType::Counter ? sample.counter.value
                                                                      : sample.gauge.value;
}

}  // namespace

// Metrics that are read when they are scraped.
class Metrics::Families final : public prometheus::Collectable {
 public:
  using Read = std::function<std::vector<prometheus::ClientMetric>()>;

  void Add(Metric metric, Read read) { reads_.insert_or_assign(metric, std::move(read)); }

  bool Has(Metric metric) const { return reads_.contains(metric); }

  // Empty: there is none.
  std::vector<prometheus::ClientMetric> Samples(Metric metric) const {
    const auto found = reads_.find(metric);
    return found == reads_.end() ? std::vector<prometheus::ClientMetric>{} : found->second();
  }

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    for (const auto& [metric, read] : reads_) {
      families.push_back(FamilyOf(metric));
      families.back().metric = read();
    }
    return families;
  }

 private:
  std::map<Metric, Read> reads_;
};

Metrics::Metrics(std::size_t max_users, const std::string& version, const UserMetrics& users)
    : families_(std::make_shared<Families>()),
      requests_(std::make_shared<RequestCounter>(max_users, users.label)),
      decisions_(std::make_shared<LimitCounter>()),
      calls_(std::make_shared<CallMetrics>()),
      top_users_(users.top),
      heavy_allowed_(kHeavyCounters, users.label),
      heavy_denied_(kHeavyCounters, users.label),
      collectables_{families_, requests_, decisions_, calls_, std::make_shared<ProcessMetrics>()} {
  families_->Add(Metric::kBuildInfo,
                 [version] { return std::vector{SampleOf(Metric::kBuildInfo, {version}, 1)}; });
  if (top_users_ > 0) {
    families_->Add(Metric::kHeavyUserRequests, [this] { return HeavySamples(); });
  }
  families_->Add(Metric::kRedisLatency, [this] { return std::vector{redis_.latency().Sample()}; });
  Publish(Metric::kTrackedUsers, [this] { return requests_->tracked(); });
  Publish(Metric::kUntrackedRequests, [this] { return requests_->untracked(); });
  Publish(Metric::kShed, [this] { return shed_.load(std::memory_order_relaxed); });
  Publish(Metric::kDegraded, [this](std::size_t mode) {
    return static_cast<double>(degraded_[mode].load(std::memory_order_relaxed));
  });
  Publish(Metric::kReady, [this] { return ready_.load(std::memory_order_relaxed) ? 1 : 0; });
}

Metrics::~Metrics() = default;

void Metrics::Publish(Metric metric, std::function<double()> read) {
  families_->Add(metric, [metric, read = std::move(read)] {
    return std::vector{SampleOf(metric, {}, read())};
  });
}

void Metrics::Publish(Metric metric, std::function<double(std::size_t value)> read) {
  families_->Add(metric, [metric, read = std::move(read)] {
    std::vector<prometheus::ClientMetric> samples;
    for (const std::string_view value : DefinitionOf(metric).labels[0].values) {
      samples.push_back(SampleOf(metric, {value}, read(samples.size())));
    }
    return samples;
  });
}

void Metrics::PublishRedis() {
  families_->Add(Metric::kRedisWait, [this] { return std::vector{redis_.wait().Sample()}; });
  families_->Add(Metric::kRedisRoundTripCalls,
                 [this] { return std::vector{redis_.round_trip_calls().Sample()}; });
  Publish(Metric::kRedisErrors,
          [this](std::size_t kind) { return static_cast<double>(redis_.errors(kind)); });
  Publish(Metric::kRedisConnectionsOpened, [this] { return redis_.connections_opened(); });
  Publish(Metric::kRedisConnections, [this] { return redis_.connections(); });
  Publish(Metric::kDenyCacheHits, [this] { return redis_.deny_cache_hits(); });
}

bool Metrics::Publishes(Metric metric) const { return families_->Has(metric); }

double Metrics::Value(Metric metric) const {
  const auto samples = families_->Samples(metric);
  return samples.empty() ? 0 : ValueOf(samples.front(), metric);
}

std::vector<std::pair<std::string, double>> Metrics::ByLabel(Metric metric) const {
  std::vector<std::pair<std::string, double>> values;
  for (const prometheus::ClientMetric& sample : families_->Samples(metric)) {
    values.emplace_back(sample.label.front().value, ValueOf(sample, metric));
  }
  return values;
}

std::vector<prometheus::ClientMetric> Metrics::HeavySamples() const {
  std::vector<prometheus::ClientMetric> samples;
  const auto append = [&](const HeavyHitters& users, std::string_view status) {
    for (const HeavyUser& heavy : users.Top(top_users_)) {
      samples.push_back(SampleOf(Metric::kHeavyUserRequests, {heavy.user, status},
                                 static_cast<double>(heavy.count)));
    }
  };
  const auto statuses = DefinitionOf(Metric::kHeavyUserRequests).labels[1].values;
  append(heavy_allowed_, statuses[0]);
  append(heavy_denied_, statuses[1]);
  return samples;
}

}  // namespace ratelimiter
