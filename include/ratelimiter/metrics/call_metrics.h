#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/metrics/histogram.h"
#include "ratelimiter/metrics/striped_counts.h"

namespace ratelimiter {

// The methods of limiter.RateLimiter.
enum class CallMethod : std::uint8_t { kAllowRequest, kGetUsage, kAllowRequests };

inline constexpr auto kCallMethodNames =
    std::to_array<std::string_view>({"AllowRequest", "GetUsage", "AllowRequests"});

// What our methods end with. Anything else counts as Unknown. The names are those that
// gRPC's metrics have everywhere.
inline constexpr auto kCallCodeNames =
    std::to_array<std::string_view>({"OK", "InvalidArgument", "DeadlineExceeded", "NotFound",
                                     "ResourceExhausted", "Internal", "Unavailable", "Unknown"});

// The metrics that gRPC servers have by convention: calls begun, and ended by their code,
// and how long they took.
//
// Thread-safe. Counting takes no lock and allocates nothing.
class CallMetrics final : public prometheus::Collectable {
 public:
  void CountStarted(CallMethod method) { Of(method).calls.Add(kStarted); }

  // `code`: gRPC's number. `time`: from its start to its end.
  void CountHandled(CallMethod method, int code, std::chrono::nanoseconds time);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // Behind the calls handled, by code.
  static constexpr std::size_t kStarted = kCallCodeNames.size();

  struct Method {
    StripedCounts<kStarted + 1> calls;
    Histogram handling = Histogram::OfSeconds();
  };

  Method& Of(CallMethod method) { return methods_[static_cast<std::size_t>(method)]; }

  std::array<Method, kCallMethodNames.size()> methods_;
};

// One call, from when this is made until it is destroyed.
class ObservedCall {
 public:
  // `metrics` must outlive it.
  ObservedCall(CallMetrics& metrics, CallMethod method)
      : metrics_(metrics), method_(method), started_(std::chrono::steady_clock::now()) {
    metrics_.CountStarted(method_);
  }
  ~ObservedCall() {
    metrics_.CountHandled(method_, code_, std::chrono::steady_clock::now() - started_);
  }
  ObservedCall(const ObservedCall&) = delete;
  ObservedCall& operator=(const ObservedCall&) = delete;

  // What it ends with, a grpc::Status. Without it, as where it throws, it ends with Unknown.
  template <typename Status>
  Status EndWith(Status status) {
    code_ = static_cast<int>(status.error_code());
    return status;
  }

 private:
  static constexpr int kUnknown = 2;

  CallMetrics& metrics_;
  const CallMethod method_;
  const std::chrono::steady_clock::time_point started_;
  int code_ = kUnknown;
};

}  // namespace ratelimiter
