#include "ratelimiter/metrics/call_metrics.h"

#include <algorithm>
#include <utility>

#include <prometheus/client_metric.h>

#include "ratelimiter/metrics/metric_table.h"

namespace ratelimiter {
namespace {

constexpr std::string_view kType = "unary";
constexpr std::string_view kService = "limiter.RateLimiter";

// gRPC's numbers of kCallCodeNames.
constexpr auto kCodes = std::to_array<int>({0, 3, 4, 5, 8, 13, 14, 2});
static_assert(kCodes.size() == kCallCodeNames.size());

// The place of a code, of which the last is that of all others.
std::size_t IndexOf(int code) {
  const auto* const found = std::ranges::find(kCodes, code);
  return std::min(static_cast<std::size_t>(found - kCodes.begin()), kCodes.size() - 1);
}

}  // namespace

void CallMetrics::CountHandled(CallMethod method, int code, std::chrono::nanoseconds time) {
  Of(method).calls.Add(IndexOf(code));
  Of(method).handling.Observe(time);
}

std::vector<prometheus::MetricFamily> CallMetrics::Collect() const {
  prometheus::MetricFamily started = FamilyOf(Metric::kCallsStarted);
  prometheus::MetricFamily handled = FamilyOf(Metric::kCallsHandled);
  prometheus::MetricFamily handling = FamilyOf(Metric::kCallsHandling);
  for (std::size_t i = 0; i < methods_.size(); ++i) {
    const Method& method = methods_[i];
    const std::string_view name = kCallMethodNames[i];
    // Those handled first, so that there are never more of them than were started.
    for (std::size_t code = 0; code < kCallCodeNames.size(); ++code) {
      handled.metric.push_back(SampleOf(Metric::kCallsHandled,
                                        {kType, kService, name, kCallCodeNames[code]},
                                        static_cast<double>(method.calls.Total(code))));
    }
    started.metric.push_back(SampleOf(Metric::kCallsStarted, {kType, kService, name},
                                      static_cast<double>(method.calls.Total(kStarted))));
    prometheus::ClientMetric& times = handling.metric.emplace_back(method.handling.Sample());
    SetLabels(times, Metric::kCallsHandling, {kType, kService, name});
  }
  return {std::move(started), std::move(handled), std::move(handling)};
}

}  // namespace ratelimiter
