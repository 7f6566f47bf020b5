#include "ratelimiter/admin/admin_server.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/service/degradation_report.h"
#include "support/manual_clock.h"
#include "support/status.h"
#include "support/tcp.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using testing::FailsWith;
using testing::ManualClock;
using testing::Socket;
using testing::Succeeds;

using Json = nlohmann::json;

struct HttpAnswer {
  int status = 0;
  std::string head{};  // Status line and headers.
  std::string text{};
  Json body{};
};

HttpAnswer Exchange(std::uint16_t port, std::string_view request) {
  const Socket socket = Socket::Connect("127.0.0.1", port);
  socket.Write(request);
  const std::string all = socket.ReadToEnd();
  const std::size_t end = all.find("\r\n\r\n");
  HttpAnswer answer = {.head = all.substr(0, end)};
  if (end == std::string::npos) return answer;
  answer.text = all.substr(end + 4);
  answer.status = std::stoi(answer.head.substr(answer.head.find(' ')));
  answer.body = Json::parse(answer.text, nullptr, false);
  return answer;
}

// A store that answers with an error, whatever it is asked.
class FailingStore final : public TokenBucketStore {
 public:
  explicit FailingStore(absl::Status status) : status_(std::move(status)) {}
  void Decide(std::span<Transaction> transactions, Deadline /*deadline*/) override {
    for (Transaction& transaction : transactions) transaction.status = status_;
  }
  std::string Describe() const override { return "failing"; }
  absl::Status Check(Deadline /*deadline*/) override { return status_; }

 private:
  const absl::Status status_;
};

class ThrowingStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> /*transactions*/, Deadline /*deadline*/) override {
    throw std::runtime_error("secret");
  }
  std::string Describe() const override { return "throwing"; }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }
};

std::shared_ptr<const LimitSet> TwoLimits() {
  std::vector<Limit> limits;
  limits.push_back({.name = "user",
                    .spec = {5, 1, 2s},
                    .fail_mode = FailMode::kClosed,
                    .overrides = {{.user = "root"}, {.user = "eve", .spec = BucketSpec{}}}});
  limits.push_back({.name = "tenant",
                    .path = PathPattern("/api/*"),
                    .attributes = {{"plan", "free"}},
                    .by = {.user = false, .attributes = {"tenant"}},
                    .spec = {10, 3, 1min},
                    .cost = 2,
                    .shadow = true});
  return std::make_shared<LimitSet>(std::move(limits), HashBy::kGlobal);
}

class AdminServerTest : public ::testing::Test {
 protected:
  AdminServerTest() {
    settings_.admin_bind = "127.0.0.1";
    settings_.admin_port = 0;
    settings_.admin_hosts = {"Admin.example", "10.0.0.7"};
    SetHealth(absl::OkStatus(), false);
  }

  AdminBackend Backend() {
    return {.service = *service_, .limiter = limiter_, .store = store_, .metrics = metrics_};
  }

  // Has the store pass or fail its check. `serves_without_store`: see Readiness.
  void SetHealth(const absl::Status& store, bool serves_without_store) {
    service_ = std::make_unique<DecisionService>(
        limiter_, store_, metrics_, logger_,
        DecisionService::Options{.max_in_flight = 5, .serves_without_store = serves_without_store});
    service_->readiness().Feed(store, {});
  }

  void Start(AdminBackend backend) {
    auto server = AdminServer::Start(settings_, nullptr, backend);
    ASSERT_THAT(server, Succeeds());
    server_ = *std::move(server);
  }
  void Start() { Start(Backend()); }

  std::uint16_t port() const { return server_->port(); }

  // `headers`: each with its line's end.
  HttpAnswer Get(std::string_view path, std::string_view headers = "Host: localhost\r\n") {
    return Exchange(port(), fmt::format("GET {} HTTP/1.1\r\n{}\r\n", path, headers));
  }
  HttpAnswer Post(std::string_view path, std::string_view body, std::string_view headers = "") {
    return Exchange(port(), fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                        "application/json\r\nContent-Length: {}\r\n{}\r\n{}",
                                        path, body.size(), headers, body));
  }

  void Take(std::string_view user, std::uint64_t cost) {
    ASSERT_THAT(limiter_.Allow({.user_id = user, .cost = cost}, Deadline::max()), Succeeds());
  }
  std::uint64_t Left(std::string_view user) {
    return limiter_.GetUsage({.user_id = user}, "", Deadline::max())->states[0].decision.remaining;
  }

  Settings settings_;
  ManualClock clock_{1h};
  MemoryTokenBucket store_{100, clock_};
  Limiter limiter_{TwoLimits(), store_};
  Metrics metrics_{10, "1.2.3"};
  const std::shared_ptr<Logger> logger_ = MakeLogger(spdlog::level::off, LogFormat::kText);
  std::unique_ptr<DecisionService> service_;
  std::unique_ptr<AdminServer> server_;
};

void ExpectError(const HttpAnswer& answer, int status, std::string_view code,
                 const ::testing::Matcher<std::string>& message) {
  EXPECT_EQ(answer.status, status) << answer.head << answer.text;
  ASSERT_TRUE(answer.body.is_object()) << answer.text;
  ASSERT_TRUE(answer.body.contains("error")) << answer.text;
  EXPECT_EQ(answer.body["error"]["code"], code);
  EXPECT_THAT(answer.body["error"]["message"].get<std::string>(), message);
}

// --- Answers ---

TEST_F(AdminServerTest, TheProbesAnswerAnyHostAndReadinessFollows) {
  const absl::Status failed = absl::UnavailableError("no answer");
  for (const auto& [check, serves_without_store, status, text] :
       {std::tuple{absl::OkStatus(), false, 200, R"({"status":"ready"})"},
        std::tuple{failed, true, 200, R"({"status":"degraded","reason":"no answer"})"},
        std::tuple{failed, false, 503, R"({"status":"not ready","reason":"no answer"})"}}) {
    SetHealth(check, serves_without_store);
    Start();
    for (const char* headers : {"Host: localhost\r\n", "Host: evil.com\r\n", "",
                                "Host: a\r\nHost: b\r\nOrigin: null\r\n"}) {
      EXPECT_EQ(Get("/healthz", headers).text, R"({"status":"ok"})") << headers;
      const HttpAnswer readiness = Get("/readyz", headers);
      EXPECT_EQ(readiness.status, status) << headers;
      EXPECT_EQ(readiness.text, text) << headers;
    }
    server_.reset();
  }
}

TEST_F(AdminServerTest, EveryAnswerIsJsonThatNobodyKeeps) {
  Start();
  for (const HttpAnswer& answer :
       {Get("/healthz"), Get("/api/v1/limits"), Get("/nothing"), Get("/", "Host: evil.com\r\n"),
        Post("/api/v1/reset", "{"), Exchange(port(), "nonsense\r\n\r\n")}) {
    EXPECT_THAT(answer.head, AllOf(HasSubstr("\r\nContent-Type: application/json"),
                                   HasSubstr("\r\nCache-Control: no-store"),
                                   HasSubstr("\r\nX-Content-Type-Options: nosniff"),
                                   HasSubstr("\r\nConnection: close")));
    EXPECT_TRUE(answer.body.is_object()) << answer.text;
  }
}

TEST_F(AdminServerTest, TheLimitsInForceAreShownWhole) {
  Start();
  EXPECT_EQ(
      Get("/api/v1/limits").text,
      R"({"hash_by":"global","file":null,"loaded_at":null,"reloads":{"succeeded":0,)"
      R"("failed":0,"errors":[]},"limits":[{"name":"user","path":"*","attributes":{},)"
      R"("by":["user"],"capacity":5,"refill":{"tokens":1,"interval":"2s"},"cost":1,)"
      R"("shadow":false,"fail_mode":"closed","overrides":[{"user":"root","unlimited":true},{"user":"eve",)"
      R"("capacity":0,"refill":null}]},{"name":"tenant","path":"/api/*","attributes":)"
      R"({"plan":"free"},"by":["attributes.tenant"],"capacity":10,"refill":{"tokens":3,)"
      R"("interval":"1m"},"cost":2,"shadow":true,"fail_mode":null,"overrides":[]}]})");
  limiter_.SetLimits(std::make_shared<LimitSet>(std::vector<Limit>{}, HashBy::kUser));
  EXPECT_EQ(Get("/api/v1/limits").body["limits"], Json::array());
}

TEST_F(AdminServerTest, SettingsAreShownAsTheyAreGiven) {
  settings_.shown = {{.name = "REDIS_URL",
                      .value = "redis://me:…@cache",
                      .default_value = "redis://127.0.0.1:6379",
                      .meaning = "the Redis",
                      .source = ShownSetting::Source::kEnvironment},
                     {.name = "PORT", .value = "1", .default_value = "1", .meaning = "m"},
                     {.name = "BIND",
                      .value = "::",
                      .default_value = "::",
                      .meaning = "b",
                      .source = ShownSetting::Source::kFlag}};
  Start();
  EXPECT_EQ(Get("/api/v1/settings").text,
            R"({"settings":[{"name":"REDIS_URL","value":"redis://me:…@cache","default":)"
            R"("redis://127.0.0.1:6379","source":"environment","meaning":"the Redis"},)"
            R"({"name":"PORT","value":"1","default":"1","source":"default","meaning":"m"},)"
            R"({"name":"BIND","value":"::","default":"::","source":"flag","meaning":"b"}]})");
}

TEST_F(AdminServerTest, StatsTellWhatMetricsCount) {
  metrics_.requests().Count("ann", RequestStatus::kAllowed);
  metrics_.requests().Count("bob", RequestStatus::kAllowed);
  metrics_.requests().Count("bob", RequestStatus::kDenied);
  metrics_.requests().CountOther(RequestStatus::kError);
  metrics_.decisions().Count("tenant", LimitStatus::kShadowDenied);
  metrics_.decisions().Count("of another time", LimitStatus::kAllowed);
  metrics_.CountShed();
  metrics_.CountDegraded(FailMode::kLocal);
  metrics_.PublishRedis();
  metrics_.Publish(Metric::kBreakerOpen, [] { return 1; });
  metrics_.Publish(Metric::kBreakerOpened, [] { return 2; });
  metrics_.redis().Observe({.latency = 60us, .calls = 1});
  metrics_.redis().CountError(RedisError::kTimeout);
  settings_.fail_mode = FailMode::kLocal;
  SetHealth(absl::UnavailableError("no answer"), true);
  const auto permits = std::to_array({service_->Admit(), service_->Admit(), service_->Admit()});
  Start();
  Json stats = Get("/api/v1/stats").body;
  EXPECT_GT(stats["uptime_seconds"], 0.0);
  EXPECT_LT(stats["uptime_seconds"], 100.0);
  EXPECT_EQ(stats["readiness"], (Json{{"status", "degraded"}, {"reason", "no answer"}}));
  EXPECT_EQ(stats["fail_mode"], "local");
  EXPECT_EQ(stats["in_flight"], 3);
  EXPECT_EQ(stats["requests"], (Json{{"allowed", 2}, {"denied", 1}, {"error", 1}}));
  EXPECT_EQ(stats["shed"], 1);
  EXPECT_EQ(stats["degraded"], (Json{{"error", 0}, {"open", 0}, {"closed", 0}, {"local", 1}}));
  EXPECT_EQ(stats["redis"]["breakers_open"], 1);
  EXPECT_EQ(stats["redis"]["breaker_openings"], 2);
  EXPECT_EQ(stats["redis"]["errors"]["timeout"], 1);
  EXPECT_EQ(stats["redis"]["errors"]["readonly"], 0);
  const Json& latency = stats["redis"]["latency"];
  EXPECT_EQ(latency["bounds"][1], 0.0001);
  EXPECT_EQ(latency["counts"][1], 1);
  EXPECT_EQ(latency["counts"].size(), latency["bounds"].size() + 1);
  EXPECT_EQ(stats["memory"], nullptr);
  ASSERT_EQ(stats["limits"].size(), 1U);  // Of which something was counted, and that are in force.
  EXPECT_EQ(stats["limits"][0]["name"], "tenant");
  EXPECT_EQ(stats["limits"][0]["shadow_denied"], 1);
  EXPECT_EQ(stats["limits"][0]["allowed"], 0);
}

TEST_F(AdminServerTest, StatsOfMemoryAreItsBuckets) {
  metrics_.Publish(Metric::kMemoryBuckets, [] { return 4; });
  metrics_.Publish(Metric::kMemoryRejected, [] { return 5; });
  settings_.store = StoreKind::kMemory;
  Start();
  const Json stats = Get("/api/v1/stats").body;
  EXPECT_EQ(stats["memory"], (Json{{"buckets", 4}, {"rejected", 5}}));
  EXPECT_EQ(stats["redis"], nullptr);
  EXPECT_EQ(stats["readiness"], (Json{{"status", "ready"}}));
}

TEST_F(AdminServerTest, TheHeaviestUsersComeFirst) {
  // NOLINTNEXTLINE(misc-misleading-bidirectional): what it is about.
  const std::string hostile = "</script>\n\"\u202E\U0001D11E" + std::string(1, '\0');
  for (int i = 0; i < 25; ++i) {
    metrics_.heavy_users(RequestStatus::kDenied).Count(fmt::format("user {}", i));
  }
  for (int i = 0; i < 3; ++i) metrics_.heavy_users(RequestStatus::kDenied).Count(hostile);
  metrics_.heavy_users(RequestStatus::kAllowed).Count("ann");
  Start();
  const HttpAnswer answer = Get("/api/v1/top");
  EXPECT_EQ(answer.body["allowed"], Json::array({{{"user", "ann"}, {"count", 1}, {"error", 0}}}));
  const Json& denied = answer.body["denied"];
  EXPECT_EQ(denied.size(), 20U);
  EXPECT_EQ(denied[0]["user"], "</script>\uFFFD\"\uFFFD\U0001D11E\uFFFD");
  EXPECT_EQ(denied[0]["count"], 3);
  EXPECT_EQ(answer.body["window_seconds"], 600);
}

TEST_F(AdminServerTest, ACheckTakesNothingUnlessItIsToldTo) {
  Start();
  Take("ann", 4);
  const std::string allowed =
      R"({"allowed":true,"reason":"Request allowed","remaining":1,"limit":5,"reset_after":"8s",)"
      R"("limit_name":"user","limits":[{"name":"user","shadow":false,"allowed":true,)"
      R"("remaining":1,"limit":5,"reset_after":"8s"}]})";
  EXPECT_EQ(Post("/api/v1/check", R"({"user_id":"ann"})").text, allowed);
  EXPECT_EQ(Post("/api/v1/check", R"({"user_id":"ann","dry_run":true})").text, allowed);
  EXPECT_EQ(Left("ann"), 1U);
  EXPECT_EQ(
      Post("/api/v1/check", R"({"user_id":"ann","dry_run":false})").body["limits"][0]["remaining"],
      0);
  EXPECT_EQ(Left("ann"), 0U);
}

TEST_F(AdminServerTest, ACheckTellsARefusal) {
  Start();
  Take("ann", 5);
  clock_.Advance(500ms);
  EXPECT_EQ(
      Post(
          "/api/v1/check",
          R"({"user_id":"ann","path":"/api/x","attributes":{"plan":"free","tenant":"t"},"cost":3})")
          .text,
      R"({"allowed":false,"reason":"Limit \"user\" exceeded: cost 3, 0 of 5 tokens left",)"
      R"("remaining":0,"limit":5,"retry_after":"5.500s","reset_after":"9.500s","limit_name":"user",)"
      R"("limits":[{"name":"user","shadow":false,"allowed":false,"remaining":0,"limit":5,)"
      R"("retry_after":"5.500s","reset_after":"9.500s"},{"name":"tenant","shadow":true,)"
      R"("allowed":true,"remaining":10,"limit":10,"reset_after":"0s"}]})");
  EXPECT_EQ(Post("/api/v1/check", R"({"user_id":"eve"})").body["reason"],
            R"(Limit "user" always refuses: its capacity is 0)");
  EXPECT_FALSE(Post("/api/v1/check", R"({"user_id":"eve"})").body.contains("retry_after"));
  EXPECT_EQ(Post("/api/v1/check", R"({"user_id":"root"})").text,
            R"({"allowed":true,"reason":"Request allowed","limits":[]})");
}

TEST_F(AdminServerTest, ACheckTellsWhatDecidedInsteadOfTheStore) {
  FailingStore store(absl::UnavailableError("gone"));
  DegradationReport report(metrics_, logger_);
  Fallback fallback({.mode = FailMode::kLocal,
                     .local_fraction = {},
                     .make_local = [&] { return std::make_unique<MemoryTokenBucket>(10, clock_); }},
                    clock_, report);
  Limiter limiter(DefaultLimits({5, 1, 2s}), store, &fallback);
  DecisionService service(limiter, store, metrics_, logger_, {});
  Start({.service = service, .limiter = limiter, .store = store, .metrics = metrics_});
  const Json answer = Post("/api/v1/check", R"({"user_id":"ann"})").body;
  EXPECT_EQ(answer["fail_mode"], "local");
  EXPECT_EQ(answer["reason"], "Request allowed: the store is not available (FAIL_MODE=local)");
}

TEST_F(AdminServerTest, ThePageIsWholeAndLetsNothingElseIn) {
  Start();
  const HttpAnswer page = Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.head + "\r\n",
              AllOf(HasSubstr("\r\nContent-Type: text/html; charset=utf-8\r\n"),
                    HasSubstr("\r\nCache-Control: no-store\r\n"),
                    HasSubstr("\r\nX-Content-Type-Options: nosniff\r\n"),
                    HasSubstr("\r\nReferrer-Policy: no-referrer\r\n"),
                    ContainsRegex("\r\nContent-Security-Policy: default-src 'none'; script-src "
                                  "'sha256-[^' ]{43}='; style-src 'sha256-[^' ]{43}='; "),
                    HasSubstr("frame-ancestors 'none'"), Not(HasSubstr("unsafe"))));
  EXPECT_THAT(page.text, AllOf(StartsWith("<!doctype html>"), EndsWith("</html>\n")));
}

TEST_F(AdminServerTest, AnExplanationTellsKeysAndNumbersAndTakesNothing) {
  Start();
  EXPECT_EQ(
      Post(
          "/api/v1/explain",
          R"({"user_id":"ann","path":"/api/x","attributes":{"plan":"free","tenant":"t"},"cost":3})")
          .text,
      R"({"limits":[{"name":"user","shadow":false,"applies":true,"why":"any path",)"
      R"("unlimited":false,"capacity":5,"refill":{"tokens":1,"interval":"2s"},)"
      R"("key":"user:{%all}:ann","cost":3},{"name":"tenant","shadow":true,)"
      R"("applies":true,"why":"path \"/api/*\", plan is \"free\"","unlimited":false,)"
      R"("capacity":10,"refill":{"tokens":3,"interval":"1m"},)"
      R"("key":"tenant:{%all}:t","cost":6}]})");
  const Json limits = Post("/api/v1/explain", R"({"user_id":"root"})").body["limits"];
  EXPECT_EQ(limits[0]["unlimited"], true);
  EXPECT_FALSE(limits[0].contains("key"));
  EXPECT_EQ(limits[1]["applies"], false);
  EXPECT_EQ(limits[1]["why"], R"(path is ""; the limit applies to "/api/*")");
  EXPECT_EQ(Left("ann"), 5U);
}

TEST_F(AdminServerTest, AResetMakesTheUsersBucketsFull) {
  Start();
  Take("ann", 5);
  Take("bob", 2);
  EXPECT_EQ(Post("/api/v1/reset", R"({"user_id":"ann"})").text,
            R"({"limits":[{"name":"user","remaining":5,"limit":5}]})");
  EXPECT_EQ(Left("ann"), 5U);
  EXPECT_EQ(Left("bob"), 3U);
}

TEST_F(AdminServerTest, ANamedLimitIsResetAloneWhateverItCountsBy) {
  Start();
  Take("ann", 5);
  EXPECT_EQ(Post("/api/v1/reset", R"({"user_id":"ann","path":"/api/x","limit":"tenant",)"
                                  R"("attributes":{"plan":"free","tenant":"t"}})")
                .text,
            R"({"limits":[{"name":"tenant","remaining":10,"limit":10}]})");
  EXPECT_EQ(Left("ann"), 0U);
}

TEST_F(AdminServerTest, ARefundGivesBackTheCostUpToTheCapacity) {
  Start();
  Take("ann", 5);
  EXPECT_EQ(Post("/api/v1/refund", R"({"user_id":"ann"})").body["limits"][0]["remaining"], 1);
  EXPECT_EQ(Post("/api/v1/refund", R"({"user_id":"ann","cost":3})").body["limits"][0]["remaining"],
            4);
  EXPECT_EQ(Post("/api/v1/refund", R"({"user_id":"ann","cost":4294967295})").body["limits"][0],
            (Json{{"name", "user"}, {"remaining", 5}, {"limit", 5}}));
}

TEST_F(AdminServerTest, ReloadsAreDoneAndShown) {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / fmt::format("admin_server_test.{}", getpid());
  std::filesystem::create_directory(directory);
  settings_.limits_file = directory / "limits.yaml";
  const auto write = [&](std::string_view text) { std::ofstream(settings_.limits_file) << text; };
  write("limits:\n- {name: user, capacity: 5, refill: 1 per 2s}\n");
  LimitsReloader reloader(
      settings_.limits_file, ReadLimitsFile(settings_.limits_file),
      [this](const auto& limits) { limiter_.SetLimits(limits); }, logger_);
  AdminBackend backend = Backend();
  backend.reloader = &reloader;
  Start(backend);

  EXPECT_EQ(Post("/api/v1/reload", "").body["reloads"]["errors"], Json::array());
  const Json limits = Get("/api/v1/limits").body;
  EXPECT_EQ(limits["file"], settings_.limits_file);
  EXPECT_THAT(limits["loaded_at"].get<std::string>(),
              ::testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"));
  EXPECT_GE(limits["reloads"]["succeeded"], 1);

  write("bad\xFF");
  const HttpAnswer failed = Post("/api/v1/reload", "{}");
  ExpectError(failed, 422, "INVALID_ARGUMENT", HasSubstr("the previous limits stay active"));
  EXPECT_GE(failed.body["reloads"]["failed"], 1);
  EXPECT_THAT(failed.body["reloads"]["errors"][0].get<std::string>(),
              HasSubstr(settings_.limits_file));
  server_.reset();
  std::filesystem::remove_all(directory);
}

TEST_F(AdminServerTest, WithoutALimitsFileThereIsNothingToReload) {
  Start();
  ExpectError(Post("/api/v1/reload", "{}"), 409, "FAILED_PRECONDITION", HasSubstr("LIMITS_FILE"));
}

TEST_F(AdminServerTest, TheStoresErrorsHaveTheirStatuses) {
  for (const auto& [error, status, code] :
       {std::tuple{absl::UnavailableError("why"), 503, "UNAVAILABLE"},
        std::tuple{absl::ResourceExhaustedError("why"), 503, "RESOURCE_EXHAUSTED"},
        std::tuple{absl::DeadlineExceededError("why"), 504, "DEADLINE_EXCEEDED"},
        std::tuple{absl::InternalError("why"), 500, "INTERNAL"}}) {
    FailingStore store(error);
    Limiter limiter(TwoLimits(), store);
    DecisionService service(limiter, store, metrics_, logger_, {});
    Start({.service = service, .limiter = limiter, .store = store, .metrics = metrics_});
    for (const char* path : {"/api/v1/check", "/api/v1/reset", "/api/v1/refund"}) {
      ExpectError(Post(path, R"({"user_id":"ann"})"), status, code, "why");
    }
    EXPECT_EQ(Post("/api/v1/explain", R"({"user_id":"ann"})").status, 200);
    server_.reset();
  }
}

TEST_F(AdminServerTest, AnExceptionIsAnInternalError) {
  ThrowingStore store;
  Limiter limiter(TwoLimits(), store);
  DecisionService service(limiter, store, metrics_, logger_, {});
  Start({.service = service, .limiter = limiter, .store = store, .metrics = metrics_});
  ExpectError(Post("/api/v1/check", R"({"user_id":"ann"})"), 500, "INTERNAL", "the request failed");
  EXPECT_EQ(Get("/healthz").status, 200);
}

// --- What is not accepted ---

TEST_F(AdminServerTest, ABodyThatIsNotAcceptedIsToldWhatIs) {
  Start();
  const std::string path = "/api/v1/refund";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON: parse error at line 1, column 1: "},
      {"{\"user_id\":\n x}", "parse error at line 2, column 2: "},
      {"{\"user_id\":\"\xFF\"}", "ill-formed UTF-8"},
      {"{\"user_id\":\"\xED\xA0\x80\"}", "ill-formed UTF-8"},
      {"[]", "the body is of type array; accepted: a JSON object"},
      {"{}", "user_id is empty; accepted: 1 to 256 bytes"},
      {R"({"user_id":""})", "user_id is empty; accepted: 1 to 256 bytes"},
      {R"({"user_id":7})", "user_id is of type number; accepted: a string"},
      {R"({"user_id":null})", "user_id is of type null; accepted: a string"},
      {R"({"user_id":")" + std::string(257, 'u') + R"("})",
       "user_id is 257 bytes long; accepted: 1 to 256 bytes"},
      {R"({"user_id":"u","path":")" + std::string(1025, 'p') + R"("})",
       "path is 1025 bytes long; accepted: at most 1024 bytes"},
      {R"({"user_id":"u","pth":"/"})",
       "no field \"pth\" here; accepted: user_id, path, attributes, limit, cost"},
      {R"({"user_id":"u","cost":-1})", "cost is -1; accepted: a whole number, 0 to 4294967295"},
      {R"({"user_id":"u","cost":1.0})", "cost is 1.0; accepted"},
      {R"({"user_id":"u","cost":"1"})", "cost is \"1\"; accepted"},
      {R"({"user_id":"u","cost":4294967296})", "cost is 4294967296; accepted"},
      {R"({"user_id":"u","cost":1e999})", "not JSON: number overflow parsing '1e999'; accepted"},
      {R"({"user_id":"u","limit":[]})", "limit is of type array; accepted: a string"},
      {R"({"user_id":"u","attributes":"a"})", "accepted: an object of strings"},
      {R"({"user_id":"u","attributes":{"a":1}})",
       "attribute \"a\" is of type number; accepted: a string"},
      {R"({"user_id":"u","attributes":{"":"1"}})", "key is 0 bytes long; accepted: 1 to 64 bytes"},
      {R"({"user_id":"u","attributes":{"a":")" + std::string(257, 'v') + R"("}})",
       "attribute \"a\" is 257 bytes long; accepted: at most 256 bytes"}};
  for (const auto& [body, message] : cases) {
    ExpectError(Post(path, body), 400, "INVALID_ARGUMENT", HasSubstr(message));
  }
  std::string many = R"({"user_id":"u","attributes":{)";
  for (int i = 0; i < 17; ++i) many += fmt::format("{}\"k{}\":\"\"", i == 0 ? "" : ",", i);
  ExpectError(Post(path, many + "}}"), 400, "INVALID_ARGUMENT",
              HasSubstr("there are 17 attributes; accepted: at most 16"));
  ExpectError(Post("/api/v1/reset", R"({"user_id":"u","cost":1})"), 400, "INVALID_ARGUMENT",
              HasSubstr("accepted: user_id, path, attributes, limit"));
  ExpectError(Post("/api/v1/check", R"({"user_id":"u","dry_run":0})"), 400, "INVALID_ARGUMENT",
              "dry_run is of type number; accepted: true or false");
  ExpectError(Post("/api/v1/reload", R"({"now":1})"), 400, "INVALID_ARGUMENT",
              HasSubstr("accepted: none"));
}

TEST_F(AdminServerTest, ALimitThatDoesNotApplyIsNotFound) {
  Start();
  for (const char* path : {"/api/v1/reset", "/api/v1/refund"}) {
    ExpectError(Post(path, R"({"user_id":"u","limit":"tenant"})"), 404, "NOT_FOUND",
                HasSubstr("applicable limits: user"));
  }
}

TEST_F(AdminServerTest, AnUnknownPathIsNotFoundAndAnotherMethodIsToldWhichOnesAre) {
  Start();
  for (const char* path : {"/index.html", "/metrics", "/api/v1", "/api/v1/limits/",
                           "/api/v1//limits", "http://localhost/api/v1/limits", "/healthz/x"}) {
    ExpectError(Get(path), 404, "NOT_FOUND", HasSubstr(path));
  }
  for (const char* method : {"DELETE", "PUT", "PATCH", "OPTIONS", "HEAD"}) {
    const HttpAnswer answer = Exchange(
        port(), fmt::format("{} /api/v1/reset HTTP/1.1\r\nHost: localhost\r\n\r\n", method));
    EXPECT_EQ(answer.status, 405) << method;
    EXPECT_THAT(answer.head + "\r\n", HasSubstr("\r\nAllow: POST\r\n"));
  }
  const HttpAnswer post = Post("/api/v1/limits", "{}");
  ExpectError(post, 405, "UNIMPLEMENTED", "the method is POST; accepted: GET, HEAD");
  EXPECT_THAT(post.head + "\r\n", HasSubstr("\r\nAllow: GET, HEAD\r\n"));
  const HttpAnswer head =
      Exchange(port(), "HEAD /api/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.text, "");
}

TEST_F(AdminServerTest, ABodyThatIsNotJsonByItsHeadersIsNotRead) {
  Start();
  for (const char* headers :
       {"", "Content-Type: text/plain\r\n", "Content-Type: application/jsonx\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: text/plain; application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n"}) {
    ExpectError(Exchange(port(), fmt::format("POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\n"
                                             "{}Content-Length: 17\r\n\r\n{{\"user_id\":\"ann\"}}",
                                             headers)),
                415, "INVALID_ARGUMENT", HasSubstr("accepted: application/json"));
  }
  for (const char* type : {"application/json", "APPLICATION/JSON ;charset=utf-8"}) {
    EXPECT_EQ(Exchange(port(), fmt::format("POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\n"
                                           "Content-Type: {}\r\nContent-Length: 17\r\n\r\n"
                                           "{{\"user_id\":\"ann\"}}",
                                           type))
                  .status,
              200);
  }
}

TEST_F(AdminServerTest, BodiesAreBounded) {
  Start();
  std::string body = R"({"user_id":"ann"})";
  body.resize(std::size_t{64} * 1024, ' ');
  EXPECT_EQ(Post("/api/v1/reset", body).status, 200);
  ExpectError(Post("/api/v1/reset", body + " "), 413, "INVALID_ARGUMENT",
              HasSubstr("at most 65536 bytes"));
  ExpectError(Exchange(port(),
                       "POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                       "application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
              411, "INVALID_ARGUMENT", HasSubstr("Content-Length"));
}

TEST_F(AdminServerTest, HeadersAreBounded) {
  Start();
  // Far more than a connection takes; the answer may be lost, the server may not.
  const Socket socket = Socket::Connect("127.0.0.1", port());
  const std::string much(std::size_t{1024} * 1024, 'x');
  socket.Write("GET /healthz HTTP/1.1\r\nX: ");
  for (int i = 0; i < 64 && socket.Write(much); ++i) {
  }
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Get("/" + std::string(10'000, 'x')).status, 414);
}

TEST_F(AdminServerTest, RangesAndCompressionAreNotServed) {
  Start();
  EXPECT_EQ(Get("/api/v1/limits",
                "Host: localhost\r\nRange: bytes=0-,0-,0-\r\n"
                "Accept-Encoding: gzip, br\r\n")
                .text,
            Get("/api/v1/limits").text);
}

// --- Other sites ---

TEST_F(AdminServerTest, HostsThatAreThisMachineAreServed) {
  Start();
  for (const char* host :
       {"localhost", "LocalHost:80", "localhost:65535", "127.0.0.1", "127.0.0.1:1", "127.9.8.7",
        "[::1]", "[::1]:8080", "admin.EXAMPLE", "Admin.example:443", "10.0.0.7:80"}) {
    EXPECT_EQ(Get("/api/v1/version", fmt::format("Host: {}\r\n", host)).status, 200) << host;
    for (const char* scheme : {"http", "https"}) {
      EXPECT_EQ(
          Get("/api/v1/version", fmt::format("Host: {}\r\nOrigin: {}://{}\r\n", host, scheme, host))
              .status,
          200)
          << host;
    }
  }
}

TEST_F(AdminServerTest, HostsThatMayBeAnotherSitesAreRefused) {
  Start();
  for (const std::string host : {"evil.com",
                                 "localhost.evil.com",
                                 "127.0.0.1.evil.com",
                                 "localhost.",
                                 "127.0.0.1.",
                                 "localhost@evil.com",
                                 "evil.com@localhost",
                                 "evil.com:80@localhost",
                                 "localhost:80:80",
                                 "localhost:",
                                 "localhost:port",
                                 "localhost:+80",
                                 "localhost:999999",
                                 "127.1",
                                 "2130706433",
                                 "0x7f.0.0.1",
                                 "0177.0.0.1",
                                 "127.0.0.1.1",
                                 "128.0.0.1",
                                 "0.0.0.0",
                                 "10.0.0.8",
                                 "::1",
                                 "[::1",
                                 "[::1]x",
                                 "[::1]evil.com",
                                 "[::1]:",
                                 "[::2]",
                                 "[::ffff:127.0.0.1]",
                                 "[::1%25lo]",
                                 "",
                                 ":80",
                                 "localhost evil.com",
                                 "localhost,evil.com",
                                 "localhost/",
                                 "xadmin.example",
                                 "admin.example.evil.com",
                                 "localhost%00.evil.com",
                                 "http://localhost"}) {
    for (const char* path : {"/api/v1/version", "/", "/api/v1/reset"}) {
      ExpectError(Get(path, fmt::format("Host: {}\r\n", host)), 403, "PERMISSION_DENIED",
                  StartsWith("Host is "));
    }
    ExpectError(
        Get("/api/v1/version", fmt::format("Host: localhost\r\nOrigin: http://{}\r\n", host)), 403,
        "PERMISSION_DENIED", StartsWith("Origin is "));
  }
  for (const char* headers : {"", "X-Host: localhost\r\n", "Host: localhost\r\nHost: localhost\r\n",
                              "Host: localhost\r\nHost: evil.com\r\n"}) {
    EXPECT_EQ(Get("/api/v1/version", headers).status, 403) << headers;
  }
}

TEST_F(AdminServerTest, OriginsThatMayBeAnotherSitesAreRefused) {
  Start();
  for (const char* origin :
       {"null", "localhost", "//localhost", "file://", "file://localhost", "ftp://localhost",
        "HTTP://localhost", "http://localhost/", "http://localhost/x", "http:// localhost",
        "chrome-extension://localhost", "http://localhost\r\nOrigin: http://localhost"}) {
    ExpectError(Get("/api/v1/version", fmt::format("Host: localhost\r\nOrigin: {}\r\n", origin)),
                403, "PERMISSION_DENIED", StartsWith("Origin is "));
  }
  for (const auto& [site, status] :
       {std::pair{"cross-site", 403}, std::pair{"CROSS-SITE", 403}, std::pair{"same-origin", 200},
        std::pair{"same-site", 200}, std::pair{"none", 200}}) {
    EXPECT_EQ(Get("/api/v1/version", fmt::format("Host: localhost\r\nSec-Fetch-Site: {}\r\n", site))
                  .status,
              status)
        << site;
  }
}

TEST_F(AdminServerTest, TheBodyOfARefusedRequestIsNoRequest) {
  Start();
  Take("ann", 5);
  const std::string hidden =
      "POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 17\r\n\r\n{\"user_id\":\"ann\"}";
  for (const char* type : {"text/plain", "application/json"}) {
    const HttpAnswer answer = Exchange(
        port(), fmt::format("POST /api/v1/reset HTTP/1.1\r\nHost: localhost\r\nOrigin: "
                            "http://evil.com\r\nConnection: keep-alive\r\nContent-Type: {}\r\n"
                            "Content-Length: {}\r\n\r\n{}",
                            type, hidden.size(), hidden));
    EXPECT_EQ(answer.status, 403);
    EXPECT_EQ(answer.text.find("HTTP/1.1"), std::string::npos);
  }
  EXPECT_EQ(Left("ann"), 0U);
}

// --- The server itself ---

TEST_F(AdminServerTest, SilentConnectionsHoldUpNobody) {
  Start();
  std::vector<Socket> silent;
  for (int i = 0; i < 6; ++i) {
    silent.push_back(Socket::Connect("127.0.0.1", port()));
    if (i % 2 == 0) silent.back().Write("GET /healthz HTTP/1.1\r\n");
  }
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 4s);
}

TEST_F(AdminServerTest, ATakenPortIsAnErrorThatNamesIt) {
  const Socket taken = Socket::Listen("127.0.0.1");
  settings_.admin_port = taken.port();
  for (const char* bind : {"127.0.0.1", "0.0.0.0"}) {
    settings_.admin_bind = bind;
    EXPECT_THAT(
        AdminServer::Start(settings_, nullptr, Backend()),
        FailsWith(absl::StatusCode::kUnavailable,
                  HasSubstr(fmt::format("{} port {} for the admin server", bind, taken.port()))));
  }
}

TEST_F(AdminServerTest, NeverSharesItsPortAndFreesItWhenItEnds) {
  Start();
  settings_.admin_port = port();
  EXPECT_THAT(AdminServer::Start(settings_, nullptr, Backend()),
              FailsWith(absl::StatusCode::kUnavailable, HasSubstr("already in use")));
  server_.reset();
  Start();
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminServerTest, AnAddressOfAnotherMachineIsAnError) {
  settings_.admin_bind = "192.0.2.1";
  EXPECT_THAT(AdminServer::Start(settings_, nullptr, Backend()),
              FailsWith(absl::StatusCode::kUnavailable, HasSubstr("192.0.2.1 port 0")));
}

}  // namespace
}  // namespace ratelimiter
