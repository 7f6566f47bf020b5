#include "admin_api.h"

#include <charconv>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <absl/strings/escaping.h>
#include <fmt/format.h>

#include "api_json.h"
#include "api_requests.h"
#include "page.h"
#include "ratelimiter/service/await.h"

namespace ratelimiter {
namespace {

constexpr std::chrono::seconds kStoreTime{2};
constexpr std::size_t kTopUsers = 20;

constexpr std::string_view kCheckFields[] = {"user_id", "path", "attributes", "cost", "dry_run"};
constexpr std::string_view kExplainFields[] = {"user_id", "path", "attributes", "cost"};
constexpr std::string_view kResetFields[] = {"user_id", "path", "attributes", "limit"};
constexpr std::string_view kRefundFields[] = {"user_id", "path", "attributes", "limit", "cost"};

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kUnimplemented:
      return 405;
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

Reply OkReply(const Json& json) { return {.body = Dump(json)}; }

// The buckets that were changed, after the change.
Reply ToReply(const absl::StatusOr<Answer>& answer) {
  if (!answer.ok()) return ErrorReply(answer.status());
  Json limits = Json::array();
  for (const LimitState& state : answer->states) {
    limits.push_back({{"name", state.limit->name},
                      {"remaining", state.decision.remaining},
                      {"limit", state.spec.capacity}});
  }
  return OkReply({{"limits", limits}});
}

// The hash of an inline script or style, as a content security policy names it.
std::string HashSource(std::string_view sha256_in_hex) {
  // Abseil's HexStringToBytes has another return type from one release to the next.
  std::string sha256;
  for (; sha256_in_hex.size() >= 2; sha256_in_hex.remove_prefix(2)) {
    unsigned char byte = 0;
    std::from_chars(sha256_in_hex.data(), sha256_in_hex.data() + 2, byte, 16);
    sha256 += static_cast<char>(byte);
  }
  return fmt::format("'sha256-{}'", absl::Base64Escape(sha256));
}

// The page requests only this server, no other page may frame it, and only its own script runs.
std::string PolicyOf(const LivePage& page) {
  return fmt::format(
      "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
      "require-trusted-types-for 'script'; trusted-types 'none'",
      HashSource(page.script_sha256), HashSource(page.style_sha256));
}

Deadline StoreDeadline() { return std::chrono::steady_clock::now() + kStoreTime; }

}  // namespace

Reply ErrorReply(int status, const absl::Status& error) {
  return {.status = status, .body = Dump({{"error", ToJson(error)}})};
}

Reply ErrorReply(const absl::Status& error) { return ErrorReply(HttpStatus(error.code()), error); }

AdminApi::AdminApi(AdminBackend backend, const Settings& settings)
    : backend_(backend),
      limits_file_(settings.limits_file),
      fail_mode_(settings.fail_mode),
      settings_(Dump({{"settings", ToJson(settings.shown)}})) {}

Reply AdminApi::Page(std::string_view /*body*/) const {
  const LivePage page = GetLivePage();
  return {.body = std::string(page.html),
          .type = "text/html; charset=utf-8",
          .headers = {{"Content-Security-Policy", PolicyOf(page)},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cross-Origin-Opener-Policy", "same-origin"},
                      {"Cross-Origin-Resource-Policy", "same-origin"}}};
}

Reply AdminApi::Health(std::string_view /*body*/) const { return OkReply({{"status", "ok"}}); }

Reply AdminApi::Readiness(std::string_view /*body*/) const {
  const ratelimiter::Health health = backend_.service.health();
  return {.status = health.serving ? 200 : 503, .body = Dump(ToJson(health))};
}

Reply AdminApi::Version(std::string_view /*body*/) const {
  return OkReply({{"version", RATELIMITER_VERSION}});
}

Reply AdminApi::Limits(std::string_view /*body*/) const {
  // Read the file's state first: then the limits are never older than it says.
  Json json = {{"hash_by", nullptr}, {"file", nullptr}, {"loaded_at", nullptr}};
  ReloadState state;
  if (!limits_file_.empty()) json["file"] = limits_file_;
  if (backend_.reloader != nullptr) {
    state = backend_.reloader->state();
    json["loaded_at"] = ToUtc(state.loaded_at);
  }
  json["reloads"] = ToJson(state);
  const std::shared_ptr<const LimitSet> limits = backend_.limiter.limits();
  json["hash_by"] = limits->hash_by() == HashBy::kUser ? "user" : "global";
  json["limits"] = Json::array();
  for (const Limit& limit : limits->limits()) json["limits"].push_back(ToJson(limit));
  return OkReply(json);
}

Reply AdminApi::AllSettings(std::string_view /*body*/) const { return {.body = settings_}; }

Reply AdminApi::Stats(std::string_view /*body*/) const {
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
  Metrics& metrics = backend_.metrics;
  const auto count = [&](Metric metric) { return Whole(metrics.Value(metric)); };

  Json json = {{"version", RATELIMITER_VERSION},
               {"uptime_seconds", uptime.count()},
               {"readiness", ToJson(backend_.service.health())},
               {"fail_mode", NameOf(fail_mode_)},
               {"in_flight", count(Metric::kInFlight)},
               {"requests", Json::object()},
               {"shed", count(Metric::kShed)},
               {"degraded", ToJson(metrics.ByLabel(Metric::kDegraded))},
               {"redis", nullptr},
               {"memory", nullptr},
               {"limits", Json::array()}};
  const RequestCounter& requests = metrics.requests();
  AddCounts(requests, requests.Totals(), json["requests"]);
  if (metrics.Publishes(Metric::kBreakerOpen)) {
    const Histogram& latency = metrics.redis().latency();
    json["redis"] = {{"breakers_open", count(Metric::kBreakerOpen)},
                     {"breaker_openings", count(Metric::kBreakerOpened)},
                     {"errors", ToJson(metrics.ByLabel(Metric::kRedisErrors))},
                     {"latency", {{"bounds", latency.Edges()}, {"counts", latency.Counts()}}}};
  }
  if (metrics.Publishes(Metric::kMemoryBuckets)) {
    json["memory"] = {{"buckets", count(Metric::kMemoryBuckets)},
                      {"rejected", count(Metric::kMemoryRejected)}};
  }
  const std::shared_ptr<const LimitSet> limits = backend_.limiter.limits();
  const LimitCounter& decisions = metrics.decisions();
  for (const Limit& limit : limits->limits()) {
    const auto counts = decisions.CountsOf(limit.name);
    if (!counts.has_value()) continue;
    Json& shown = json["limits"].emplace_back();
    shown["name"] = limit.name;
    AddCounts(decisions, *counts, shown);
  }
  return OkReply(json);
}

Reply AdminApi::Top(std::string_view /*body*/) const {
  const auto top = [&](RequestStatus status) {
    return ToJson(backend_.metrics.heavy_users(status).Top(kTopUsers));
  };
  const std::chrono::seconds window = HeavyHitters::kFade;
  return OkReply({{"window_seconds", window.count()},
                  {"allowed", top(RequestStatus::kAllowed)},
                  {"denied", top(RequestStatus::kDenied)}});
}

Reply AdminApi::Check(std::string_view body) const {
  AskedRequest asked;
  asked.request.dry_run = true;
  asked.request.details = true;
  if (absl::Status valid = ReadRequest(body, kCheckFields, asked); !valid.ok()) {
    return ErrorReply(valid);
  }
  const auto answer = Await<absl::StatusOr<Answer>>([&](auto completion) {
    backend_.service.Allow(asked.request, StoreDeadline(), std::move(completion));
  });
  if (!answer.ok()) return ErrorReply(answer.status());
  return OkReply(ToJson(asked.request, *answer));
}

Reply AdminApi::Explain(std::string_view body) const {
  AskedRequest asked;
  if (absl::Status valid = ReadRequest(body, kExplainFields, asked); !valid.ok()) {
    return ErrorReply(valid);
  }
  const std::shared_ptr<const LimitSet> limits = backend_.limiter.limits();
  Json explanations = Json::array();
  for (const Explanation& explanation : Limiter::Explain(*limits, asked.request)) {
    const Limit& limit = *explanation.limit;
    Json& json = explanations.emplace_back(Json{{"name", limit.name},
                                                {"shadow", limit.shadow},
                                                {"applies", explanation.applies},
                                                {"why", explanation.why}});
    if (!explanation.applies) continue;
    json["unlimited"] = !explanation.spec.has_value();
    if (!explanation.spec.has_value()) continue;
    AddSpec(*explanation.spec, json);
    json["key"] = backend_.store.Key(limit.name, explanation.bucket_key);
    json["cost"] = asked.request.cost * limit.cost;
  }
  return OkReply({{"limits", explanations}});
}

Reply AdminApi::Reset(std::string_view body) const {
  AskedRequest asked;
  if (absl::Status valid = ReadRequest(body, kResetFields, asked); !valid.ok()) {
    return ErrorReply(valid);
  }
  return ToReply(backend_.limiter.Reset(asked.request, asked.limit, StoreDeadline()));
}

Reply AdminApi::Refund(std::string_view body) const {
  AskedRequest asked;
  if (absl::Status valid = ReadRequest(body, kRefundFields, asked); !valid.ok()) {
    return ErrorReply(valid);
  }
  return ToReply(backend_.limiter.Refund(asked.request, asked.limit, StoreDeadline()));
}

Reply AdminApi::Reload(std::string_view body) const {
  Json nothing;
  // The body has no members, and may be empty.
  if (!body.empty()) {
    if (absl::Status valid = ParseObject(body, {}, nothing); !valid.ok()) return ErrorReply(valid);
  }
  if (backend_.reloader == nullptr) {
    return ErrorReply(absl::FailedPreconditionError(
        "there is no limits file: the daemon was started without LIMITS_FILE"));
  }
  const ReloadState state = backend_.reloader->Reload();
  if (state.errors.empty()) return OkReply({{"reloads", ToJson(state)}});
  constexpr int kUnprocessable = 422;
  return {.status = kUnprocessable,
          .body = Dump({{"error", ToJson(absl::InvalidArgumentError(
                                      "the limits file was rejected, the previous limits stay "
                                      "active; reloads.errors says why"))},
                        {"reloads", ToJson(state)}})};
}

}  // namespace ratelimiter
