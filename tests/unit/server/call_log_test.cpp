#include "server/call_log.h"

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/server_context.h>
#include <grpcpp/test/server_context_test_spouse.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "ratelimiter/base/mix.h"
#include "support/log_file.h"

namespace ratelimiter {
namespace {

using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

using grpc::testing::ServerContextTestSpouse;
using testing::LogFile;

constexpr Fraction kAll = {Fraction::kAll};
constexpr std::string_view kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr std::string_view kSpan = "b7ad6b7169203331";

// The trace of this number, such as a tracer makes.
std::string TraceId(std::uint64_t number) {
  return fmt::format("{:016x}{:016x}", Mix(number), Mix(number + 1'000'000));
}

// How many of many calls are sampled, each of `trace`'s.
std::size_t SampledOf(CallLog& log, std::size_t calls,
                      const std::optional<TraceParent>& trace = std::nullopt) {
  std::size_t sampled = 0;
  for (std::size_t i = 0; i < calls; ++i) sampled += log.Samples(trace) ? 1U : 0U;
  return sampled;
}

TEST(CallLogTest, IsOffWithoutAShareOrWithTheLog) {
  const auto off = MakeLogger(spdlog::level::off, LogFormat::kText);
  const auto errors = MakeLogger(spdlog::level::err, LogFormat::kText);
  EXPECT_FALSE(CallLog(std::nullopt, errors).on());
  EXPECT_FALSE(CallLog(kAll, off).on());
  EXPECT_TRUE(CallLog(kAll, errors).on());
  EXPECT_TRUE(CallLog(Fraction{1}, errors).on());
}

TEST(CallLogTest, SamplesItsShareOfCalls) {
  const auto logger = MakeLogger(spdlog::level::info, LogFormat::kText);
  CallLog all(kAll, logger);
  EXPECT_EQ(SampledOf(all, 1'000), 1'000U);
  // Five standard deviations of what chance would give.
  CallLog tenth(Fraction{100'000}, logger);
  EXPECT_NEAR(static_cast<double>(SampledOf(tenth, 100'000)), 10'000, 475);
  CallLog hundredth(Fraction{10'000}, logger);
  EXPECT_NEAR(static_cast<double>(SampledOf(hundredth, 100'000)), 1'000, 158);
}

TEST(CallLogTest, SamplesAllOfATraceOrNothing) {
  const auto logger = MakeLogger(spdlog::level::info, LogFormat::kText);
  CallLog one(Fraction{100'000}, logger);
  CallLog other(Fraction{100'000}, logger);
  CallLog more(Fraction{300'000}, logger);
  std::size_t sampled = 0;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    const std::string id = TraceId(i);
    const TraceParent trace = {.trace_id = id, .span_id = kSpan, .sampled = true};
    const bool logs = one.Samples(trace);
    sampled += logs ? 1U : 0U;
    EXPECT_EQ(SampledOf(one, 3, trace), logs ? 3U : 0U);
    EXPECT_EQ(other.Samples(trace), logs);
    EXPECT_TRUE(!logs || more.Samples(trace));
  }
  EXPECT_NEAR(static_cast<double>(sampled), 1'000, 150);
}

TEST(CallLogTest, ATraceThatIsNotSampledIsAsNone) {
  CallLog log(Fraction{500'000}, MakeLogger(spdlog::level::info, LogFormat::kText));
  const TraceParent trace = {.trace_id = kTrace, .span_id = kSpan, .sampled = false};
  EXPECT_NEAR(static_cast<double>(SampledOf(log, 10'000, trace)), 5'000, 250);
}

TEST(CallLogTest, MakesIdsThatDiffer) {
  const auto logger = MakeLogger(spdlog::level::info, LogFormat::kText);
  CallLog one(kAll, logger);
  CallLog other(kAll, logger);
  std::set<std::string> ids;
  for (int i = 0; i < 1'000; ++i) {
    ids.insert(one.NewRequestId());
    ids.insert(other.NewRequestId());
  }
  EXPECT_THAT(ids, SizeIs(2'000));
  for (const std::string& id : ids) EXPECT_THAT(id, MatchesRegex("[0-9a-f]{32}"));
}

// --- Calls ---

// Calls that a log hears of, and what it wrote of them.
class LoggedCallTest : public ::testing::Test {
 protected:
  void Send(const std::string& key, const std::string& value) {
    metadata_.AddClientMetadata(key, value);
  }
  template <typename Response>
  grpc::Status End(const auto& message, const Response& response, std::optional<Fraction> fraction,
                   grpc::Status status = grpc::Status::OK) {
    CallLog log(fraction, log_.logger());
    LoggedCall call(log, context_);
    return call.EndWith(std::move(status), message, response);
  }
  std::vector<std::string> IdsGivenBack() const {
    std::vector<std::string> ids;
    for (const auto& [key, value] : metadata_.GetInitialMetadata()) {
      EXPECT_EQ(key, "x-request-id");
      ids.push_back(value);
    }
    return ids;
  }
  // The one line, without what differs from call to call.
  nlohmann::json Line() const {
    const std::string text = log_.text();
    EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
    auto line = nlohmann::json::parse(text);
    EXPECT_TRUE(line.at("duration_us").is_number_unsigned());
    EXPECT_EQ(line.at("level"), "info");
    EXPECT_EQ(line.at("message"), "call");
    EXPECT_EQ(line.at("kind"), "access");
    for (const char* key : {"time", "level", "message", "kind", "duration_us", "peer"}) {
      line.erase(key);
    }
    return line;
  }

  const LogFile log_{LogFormat::kJson};
  grpc::ServerContext context_;
  ServerContextTestSpouse metadata_{&context_};
  limiter::AllowRequestRequest message_;
  limiter::AllowRequestResponse response_;
};

TEST_F(LoggedCallTest, WithoutIdsAndWithTheLogOffNothingIsDone) {
  Send("user-agent", "test");
  Send("traceparent", fmt::format("00-{}-{}-01", kTrace, kSpan));
  EXPECT_TRUE(End(message_, response_, std::nullopt).ok());
  EXPECT_THAT(IdsGivenBack(), IsEmpty());
  EXPECT_EQ(log_.text(), "");
}

TEST_F(LoggedCallTest, GivesTheCallersIdBack) {
  Send("x-request-id", "abc-1");
  EXPECT_EQ(End(message_, response_, std::nullopt, {grpc::StatusCode::UNAVAILABLE, "gone"})
                .error_message(),
            "gone");
  EXPECT_THAT(IdsGivenBack(), ::testing::ElementsAre("abc-1"));
  EXPECT_EQ(log_.text(), "");
}

TEST_F(LoggedCallTest, GivesAnotherBackWhereItIsNotAcceptable) {
  Send("x-request-id", "<script>\"\n");
  End(message_, response_, std::nullopt);
  EXPECT_THAT(IdsGivenBack(), ::testing::ElementsAre(MatchesRegex("[0-9a-f]{32}")));
}

TEST_F(LoggedCallTest, ACallThatIsLoggedGetsAnId) {
  End(message_, response_, kAll);
  ASSERT_THAT(IdsGivenBack(), SizeIs(1));
  EXPECT_EQ(Line().at("request_id"), IdsGivenBack().front());
}

TEST_F(LoggedCallTest, TellsAnAnswer) {
  Send("x-request-id", "abc-1");
  Send("traceparent", fmt::format("00-{}-{}-01", kTrace, kSpan));
  message_.set_user_id("u");
  message_.set_path("/login");
  message_.set_cost(3);
  message_.set_dry_run(true);
  response_.set_allowed(false);
  response_.set_limit_name("per-user");
  response_.set_remaining(2);
  response_.mutable_retry_after()->set_seconds(1);
  response_.mutable_retry_after()->set_nanos(500'000'000);
  response_.set_fail_mode("local");
  End(message_, response_, kAll);
  EXPECT_EQ(Line(), nlohmann::json({{"method", "AllowRequest"},
                                    {"status", "denied"},
                                    {"code", "OK"},
                                    {"user_id", "u"},
                                    {"path", "/login"},
                                    {"cost", 3},
                                    {"dry_run", true},
                                    {"limit", "per-user"},
                                    {"remaining", 2},
                                    {"retry_after_us", 1'500'000},
                                    {"fail_mode", "local"},
                                    {"request_id", "abc-1"},
                                    {"trace_id", kTrace},
                                    {"span_id", kSpan}}));
}

TEST_F(LoggedCallTest, TellsAnError) {
  Send("x-request-id", "abc-1");
  message_.set_user_id(std::string(8'192, 'u'));
  End(message_, response_, kAll, {grpc::StatusCode::INVALID_ARGUMENT, "too long"});
  EXPECT_EQ(Line(), nlohmann::json({{"method", "AllowRequest"},
                                    {"status", "error"},
                                    {"code", "INVALID_ARGUMENT"},
                                    {"error", "too long"},
                                    {"user_id", std::string(kMaxLogFieldBytes, 'u')},
                                    {"path", ""},
                                    {"cost", 1},
                                    {"request_id", "abc-1"}}));
}

TEST_F(LoggedCallTest, TellsUsage) {
  Send("x-request-id", "abc-1");
  limiter::GetUsageRequest message;
  message.set_user_id("u");
  limiter::GetUsageResponse response;
  response.set_limit_name("per-user");
  response.set_requests_used(2);
  response.set_requests_allowed(5);
  End(message, response, kAll);
  EXPECT_EQ(Line(), nlohmann::json({{"method", "GetUsage"},
                                    {"code", "OK"},
                                    {"user_id", "u"},
                                    {"path", ""},
                                    {"limit", "per-user"},
                                    {"remaining", 3},
                                    {"request_id", "abc-1"}}));
}

TEST_F(LoggedCallTest, TellsABatchInOneLine) {
  Send("x-request-id", "abc-1");
  limiter::AllowRequestsRequest message;
  limiter::AllowRequestsResponse response;
  for (int i = 0; i < 6; ++i) {
    message.add_requests();
    auto& result = *response.add_results();
    if (i < 3) {
      result.mutable_response()->set_allowed(i < 2);
    } else {
      result.set_code(3);
    }
  }
  End(message, response, kAll);
  EXPECT_EQ(Line(), nlohmann::json({{"method", "AllowRequests"},
                                    {"code", "OK"},
                                    {"requests", 6},
                                    {"allowed", 2},
                                    {"denied", 1},
                                    {"errors", 3},
                                    {"request_id", "abc-1"}}));
}

}  // namespace
}  // namespace ratelimiter
