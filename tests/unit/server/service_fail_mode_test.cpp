#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status_code_enum.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/server/rate_limiter_service.h"
#include "ratelimiter/service/degradation_report.h"
#include "server/call_log.h"
#include "support/manual_clock.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

class GoneStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline deadline) override {
    for (Transaction& transaction : transactions) transaction.status = Check(deadline);
  }
  std::string Describe() const override { return "gone"; }
  absl::Status Check(Deadline /*deadline*/) override { return absl::UnavailableError("gone"); }
};

// A service whose store is gone, with one limit of two tokens.
class Service {
 public:
  explicit Service(FailMode mode)
      : fallback_(
            {.mode = mode,
             .local_fraction = {},
             .make_local = [this] { return std::make_unique<MemoryTokenBucket>(10, clock_); }},
            clock_, report_) {}

  static limiter::AllowRequestRequest Request() {
    limiter::AllowRequestRequest request;
    request.set_user_id("u");
    request.set_details(true);
    return request;
  }

  grpc::Status Allow(limiter::AllowRequestResponse& response) {
    grpc::ServerContext context;
    const limiter::AllowRequestRequest request = Request();
    return service_.AllowRequest(&context, &request, &response);
  }
  limiter::AllowRequestResponse Allow() {
    limiter::AllowRequestResponse response;
    EXPECT_TRUE(Allow(response).ok());
    return response;
  }

  // The value of a sample, as it is written.
  std::string Counted(std::string_view sample) const {
    for (const auto& collectable : metrics_.collectables()) {
      const std::string text = prometheus::TextSerializer().Serialize(collectable->Collect());
      const std::size_t at = text.find(sample);
      if (at == std::string::npos) continue;
      const std::size_t value = at + sample.size() + 1;
      return text.substr(value, text.find('\n', value) - value);
    }
    return "none";
  }
  std::string Degraded(std::string_view mode) const {
    return Counted(fmt::format("rate_limiter_degraded_total{{mode=\"{}\"}}", mode));
  }
  std::string Requests(std::string_view status) const {
    return Counted(fmt::format("rate_limiter_requests_total{{user=\"u\",status=\"{}\"}}", status));
  }

  RateLimiterService& service() { return service_; }

 private:
  const testing::ManualClock clock_{1h};
  GoneStore store_;
  Metrics metrics_{10, "test"};
  const std::shared_ptr<Logger> logger_ = MakeLogger(spdlog::level::off, LogFormat::kText);
  DegradationReport report_{metrics_, logger_};
  CallLog call_log_{std::nullopt, logger_};
  Fallback fallback_;
  Limiter limiter_{DefaultLimits({2, 1, 1h}), store_, &fallback_};
  DecisionService decisions_{limiter_, store_, metrics_, logger_, {.max_in_flight = 1}};
  RateLimiterService service_{decisions_, metrics_, call_log_, true};
};

TEST(ServiceFailModeTest, ErrorIsUnavailable) {
  Service service(FailMode::kError);
  limiter::AllowRequestResponse response;
  EXPECT_EQ(service.Allow(response).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(service.Degraded("error"), "1");
  EXPECT_EQ(service.Requests("error"), "1");
  EXPECT_EQ(service.Counted("rate_limiter_decisions_total{limit=\"default\",status=\"error\"}"),
            "1");
}

TEST(ServiceFailModeTest, WhatIsNotValidIsNoLimitsError) {
  Service service(FailMode::kError);
  limiter::AllowRequestRequest request = Service::Request();
  request.set_cost(3);
  grpc::ServerContext context;
  limiter::AllowRequestResponse response;
  EXPECT_EQ(service.service().AllowRequest(&context, &request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(service.Requests("error"), "1");
  EXPECT_EQ(service.Counted("rate_limiter_decisions_total{limit=\"default\""), "none");
}

TEST(ServiceFailModeTest, OpenSaysThatItAllowsAndKnowsNoNumbers) {
  Service service(FailMode::kOpen);
  EXPECT_EQ(service.Allow().ShortDebugString(),
            "allowed: true reason: \"Request allowed: the store is not available "
            "(FAIL_MODE=open)\" fail_mode: \"open\"");
  EXPECT_EQ(service.Degraded("open"), "1");
  EXPECT_EQ(service.Degraded("error"), "0");
  EXPECT_EQ(service.Requests("allowed"), "1");
  EXPECT_EQ(service.Counted("rate_limiter_decisions_total{limit=\"default\""), "none");
}

TEST(ServiceFailModeTest, ClosedSaysThatItRefusesAndKnowsNoNumbers) {
  Service service(FailMode::kClosed);
  EXPECT_EQ(service.Allow().ShortDebugString(),
            "allowed: false reason: \"Request refused: the store is not available "
            "(FAIL_MODE=closed)\" fail_mode: \"closed\"");
  EXPECT_EQ(service.Degraded("closed"), "1");
  EXPECT_EQ(service.Requests("denied"), "1");
}

TEST(ServiceFailModeTest, LocalHasTheNumbersOfItsBucket) {
  Service service(FailMode::kLocal);
  const auto allowed = service.Allow();
  EXPECT_EQ(allowed.reason(), "Request allowed: the store is not available (FAIL_MODE=local)");
  EXPECT_EQ(allowed.fail_mode(), "local");
  EXPECT_EQ(allowed.remaining(), 1U);
  EXPECT_EQ(allowed.limit(), 2U);
  EXPECT_EQ(allowed.limits_size(), 1);
  service.Allow();
  const auto refused = service.Allow();
  EXPECT_EQ(refused.reason(),
            "Limit \"default\" exceeded: cost 1, 0 of 2 tokens left: the store is not available "
            "(FAIL_MODE=local)");
  EXPECT_EQ(refused.retry_after().seconds(), 3'600);
  EXPECT_EQ(service.Degraded("local"), "3");
  EXPECT_EQ(service.Requests("allowed"), "2");
  EXPECT_EQ(service.Requests("denied"), "1");
}

TEST(ServiceFailModeTest, EachResultOfABatchSaysIt) {
  Service service(FailMode::kLocal);
  limiter::AllowRequestsRequest request;
  for (int i = 0; i < 3; ++i) *request.add_requests() = Service::Request();
  grpc::ServerContext context;
  limiter::AllowRequestsResponse response;
  ASSERT_TRUE(service.service().AllowRequests(&context, &request, &response).ok());
  ASSERT_EQ(response.results_size(), 3);
  for (const auto& result : response.results()) {
    EXPECT_EQ(result.response().fail_mode(), "local");
  }
  EXPECT_FALSE(response.results(2).response().allowed());
  EXPECT_EQ(service.Degraded("local"), "3");
}

TEST(ServiceFailModeTest, UsageIsAFact) {
  Service service(FailMode::kOpen);
  limiter::GetUsageRequest request;
  request.set_user_id("u");
  grpc::ServerContext context;
  limiter::GetUsageResponse response;
  EXPECT_EQ(service.service().GetUsage(&context, &request, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace ratelimiter
