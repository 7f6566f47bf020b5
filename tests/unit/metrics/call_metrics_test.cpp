#include "ratelimiter/metrics/call_metrics.h"

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kLabels = R"(grpc_type="unary",grpc_service="limiter.RateLimiter",grpc_method=)";

std::string Scrape(const CallMetrics& calls) {
  return prometheus::TextSerializer().Serialize(calls.Collect());
}

std::string Line(const std::string& name, const std::string& rest) {
  return fmt::format("\n{}{{{}{}\n", name, kLabels, rest);
}

// What a call of gRPC's ends with, as far as it matters.
struct Status {
  int code;
  int error_code() const { return code; }
};

TEST(CallMetricsTest, ACallIsCountedWhenItBeginsAndWhenItEnds) {
  CallMetrics calls;
  {
    ObservedCall call(calls, CallMethod::kGetUsage);
    EXPECT_THAT(Scrape(calls),
                AllOf(HasSubstr(Line("grpc_server_started_total", R"("GetUsage"} 1)")),
                      HasSubstr(Line("grpc_server_handling_seconds_count", R"("GetUsage"} 0)"))));
    EXPECT_EQ(call.EndWith(Status{5}).code, 5);
  }
  EXPECT_THAT(
      Scrape(calls),
      AllOf(HasSubstr(Line("grpc_server_started_total", R"("GetUsage"} 1)")),
            HasSubstr(Line("grpc_server_started_total", R"("AllowRequest"} 0)")),
            HasSubstr(Line("grpc_server_handled_total", R"("GetUsage",grpc_code="NotFound"} 1)")),
            HasSubstr(Line("grpc_server_handled_total", R"("GetUsage",grpc_code="OK"} 0)")),
            HasSubstr(Line("grpc_server_handling_seconds_count", R"("GetUsage"} 1)"))));
}

TEST(CallMetricsTest, EachCodeHasItsNameAndOthersAreUnknown) {
  const std::map<int, std::string> names = {
      {0, "OK"},       {2, "Unknown"},           {3, "InvalidArgument"}, {4, "DeadlineExceeded"},
      {5, "NotFound"}, {8, "ResourceExhausted"}, {13, "Internal"},       {14, "Unavailable"},
      {1, "Unknown"},  {16, "Unknown"},          {99, "Unknown"}};
  for (const auto& [code, name] : names) {
    CallMetrics calls;
    calls.CountHandled(CallMethod::kAllowRequests, code, 1ms);
    EXPECT_THAT(Scrape(calls),
                HasSubstr(Line("grpc_server_handled_total",
                               fmt::format(R"("AllowRequests",grpc_code="{}"}} 1)", name))));
  }
}

TEST(CallMetricsTest, OneThatThrowsIsUnknown) {
  CallMetrics calls;
  {
    const ObservedCall call(calls, CallMethod::kAllowRequest);
  }
  EXPECT_THAT(Scrape(calls), HasSubstr(Line("grpc_server_handled_total",
                                            R"("AllowRequest",grpc_code="Unknown"} 1)")));
}

TEST(CallMetricsTest, ATimeIsInTheBucketUpToWhichItGoes) {
  CallMetrics calls;
  for (const auto time : {0us, 50us, 51us, std::chrono::microseconds(2s)}) {
    calls.CountHandled(CallMethod::kAllowRequest, 0, time);
  }
  calls.CountHandled(CallMethod::kAllowRequest, 0, -1us);
  const std::string bucket = "grpc_server_handling_seconds_bucket";
  EXPECT_THAT(
      Scrape(calls),
      AllOf(HasSubstr(Line(bucket, R"("AllowRequest",le="5e-05"} 3)")),
            HasSubstr(Line(bucket, R"("AllowRequest",le="0.0001"} 4)")),
            HasSubstr(Line(bucket, R"("AllowRequest",le="1"} 4)")),
            HasSubstr(Line(bucket, R"("AllowRequest",le="+Inf"} 5)")),
            HasSubstr(Line("grpc_server_handling_seconds_sum", R"("AllowRequest"} 2.000101)")),
            Not(HasSubstr("nan"))));
}

TEST(CallMetricsTest, IsExactFromManyThreads) {
  constexpr std::size_t kThreads = 20;  // More than there are stripes.
  constexpr int kCalls = 1'000;
  CallMetrics calls;
  testing::OnThreads(kThreads, [&](std::size_t) {
    for (int i = 0; i < kCalls; ++i) {
      ObservedCall call(calls, CallMethod::kAllowRequest);
      call.EndWith(Status{i % 2 == 0 ? 0 : 8});
    }
  });
  EXPECT_THAT(
      Scrape(calls),
      AllOf(HasSubstr(Line("grpc_server_started_total", R"("AllowRequest"} 20000)")),
            HasSubstr(Line("grpc_server_handled_total", R"("AllowRequest",grpc_code="OK"} 10000)")),
            HasSubstr(Line("grpc_server_handled_total",
                           R"("AllowRequest",grpc_code="ResourceExhausted"} 10000)")),
            HasSubstr(Line("grpc_server_handling_seconds_count", R"("AllowRequest"} 20000)"))));
}

}  // namespace
}  // namespace ratelimiter
