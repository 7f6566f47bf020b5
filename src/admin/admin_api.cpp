#include "admin_api.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <absl/container/inlined_vector.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_join.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "page.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/service/await.h"

namespace ratelimiter {
namespace {

// Members stay in the order in which they are written.
using Json = nlohmann::ordered_json;

constexpr std::chrono::seconds kStoreTime{2};
constexpr std::size_t kTopUsers = 20;
// As wide as on the wire of gRPC.
constexpr std::uint64_t kMaxCost = std::numeric_limits<std::uint32_t>::max();

// What is not UTF-8 does not throw: it is replaced.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

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

Json ToJson(const absl::Status& error) {
  return {{"code", absl::StatusCodeToString(error.code())},
          {"message", std::string(error.message())}};
}

Reply OkReply(const Json& json) { return {.body = Dump(json)}; }

// --- What is asked ---

constexpr std::string_view kCheckFields[] = {"user_id", "path", "attributes", "cost", "dry_run"};
constexpr std::string_view kExplainFields[] = {"user_id", "path", "attributes", "cost"};
constexpr std::string_view kResetFields[] = {"user_id", "path", "attributes", "limit"};
constexpr std::string_view kRefundFields[] = {"user_id", "path", "attributes", "limit", "cost"};

// A request as a body describes it.
struct AskedRequest {
  AskedRequest() = default;
  AskedRequest(const AskedRequest&) = delete;
  AskedRequest& operator=(const AskedRequest&) = delete;

  Json body{};  // What the others point into.
  absl::InlinedVector<AttributeView, kMaxAttributes> attributes{};
  Request request{};
  std::string_view limit{};
};

absl::Status WrongType(std::string_view what, const Json& value, std::string_view accepted) {
  return absl::InvalidArgumentError(
      fmt::format("{} is of type {}; accepted: {}", what, value.type_name(), accepted));
}

// The object that a body is, with no members but `accepted`.
absl::Status ParseObject(std::string_view text, std::span<const std::string_view> accepted,
                         Json& object) {
  try {
    object = Json::parse(text);
  } catch (const Json::exception& error) {
    // Of its form, or of a number that is out of range. Behind the library's own number of the
    // error.
    std::string_view what = error.what();
    what.remove_prefix(what.find("] ") + 2);
    return absl::InvalidArgumentError(fmt::format(
        "the body is not JSON: {}; accepted: a JSON object", Printable(what, kMaxShownBytes)));
  }
  if (!object.is_object()) return WrongType("the body", object, "a JSON object");
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(accepted, name) == accepted.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "there is no field \"{}\" here; accepted: {}", Printable(name, kMaxShownBytes),
          accepted.empty() ? "none" : fmt::format("{}", fmt::join(accepted, ", "))));
    }
  }
  return absl::OkStatus();
}

// A member that is a string; `result` stays as it is if it is missing.
absl::Status ReadString(const Json& object, const char* name, std::string_view& result) {
  const auto value = object.find(name);
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_string()) return WrongType(name, *value, "a string");
  result = value->get_ref<const std::string&>();
  return absl::OkStatus();
}

absl::Status ReadCost(const Json& object, std::uint64_t& result) {
  const auto value = object.find("cost");
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() > kMaxCost) {
    return absl::InvalidArgumentError(fmt::format("cost is {}; accepted: a whole number, 0 to {}",
                                                  Printable(Dump(*value), kMaxShownBytes),
                                                  kMaxCost));
  }
  result = value->get<std::uint64_t>();
  return absl::OkStatus();
}

absl::Status ReadBool(const Json& object, const char* name, bool& result) {
  const auto value = object.find(name);
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_boolean()) return WrongType(name, *value, "true or false");
  result = value->get<bool>();
  return absl::OkStatus();
}

absl::Status ReadAttributes(AskedRequest& asked) {
  const auto attributes = asked.body.find("attributes");
  if (attributes == asked.body.end()) return absl::OkStatus();
  if (!attributes->is_object()) {
    return WrongType("attributes", *attributes, "an object of strings");
  }
  for (const auto& [key, value] : attributes->items()) {
    if (!value.is_string()) {
      return WrongType(fmt::format("attribute \"{}\"", Printable(key, kMaxShownBytes)), value,
                       "a string");
    }
    asked.attributes.push_back({key, value.get_ref<const std::string&>()});
  }
  asked.request.attributes = asked.attributes;
  return absl::OkStatus();
}

absl::Status ReadRequest(std::string_view text, std::span<const std::string_view> accepted,
                         AskedRequest& asked) {
  absl::Status valid = ParseObject(text, accepted, asked.body);
  if (valid.ok()) valid = ReadString(asked.body, "user_id", asked.request.user_id);
  if (valid.ok()) valid = ReadString(asked.body, "path", asked.request.path);
  if (valid.ok()) valid = ReadString(asked.body, "limit", asked.limit);
  if (valid.ok()) valid = ReadCost(asked.body, asked.request.cost);
  if (valid.ok()) valid = ReadBool(asked.body, "dry_run", asked.request.dry_run);
  if (valid.ok()) valid = ReadAttributes(asked);
  if (valid.ok()) valid = Validate(asked.request);
  return valid;
}

// --- What is answered ---

// The members "capacity" and "refill" of a limit or an override.
void AddSpec(const BucketSpec& spec, Json& json) {
  json["capacity"] = spec.capacity;
  if (spec.capacity == 0) {
    json["refill"] = nullptr;
  } else {
    json["refill"] = {{"tokens", spec.refill_tokens},
                      {"interval", FormatDuration(spec.refill_interval)}};
  }
}

Json ToJson(const std::map<std::string, std::string, std::less<>>& attributes) {
  Json json = Json::object();
  for (const auto& [key, value] : attributes) json[key] = value;
  return json;
}

Json ToJson(const CountBy& by) {
  Json json = Json::array();
  if (by.user) json.push_back("user");
  if (by.path) json.push_back("path");
  for (const std::string& key : by.attributes) json.push_back("attributes." + key);
  return json;
}

Json ToJson(const Override& override) {
  Json json = Json::object();
  if (override.user.has_value()) json["user"] = *override.user;
  if (override.path.has_value()) json["path"] = *override.path;
  if (!override.attributes.empty()) json["attributes"] = ToJson(override.attributes);
  if (override.spec.has_value()) {
    AddSpec(*override.spec, json);
  } else {
    json["unlimited"] = true;
  }
  return json;
}

Json ToJson(const Limit& limit) {
  Json json = {{"name", limit.name},
               {"path", limit.path.text()},
               {"attributes", ToJson(limit.attributes)},
               {"by", ToJson(limit.by)}};
  AddSpec(limit.spec, json);
  json["cost"] = limit.cost;
  json["shadow"] = limit.shadow;
  json["fail_mode"] = nullptr;
  if (limit.fail_mode.has_value()) json["fail_mode"] = NameOf(*limit.fail_mode);
  json["overrides"] = Json::array();
  for (const Override& override : limit.overrides) json["overrides"].push_back(ToJson(override));
  return json;
}

Json ToJson(const ReloadState& state) {
  return {{"succeeded", state.succeeded}, {"failed", state.failed}, {"errors", state.errors}};
}

std::string ToUtc(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

// The buckets that a change was made to, as they are now.
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

// As protobuf's JSON has it: "2s", "1.500s", "1.875365s".
std::string ToSeconds(std::chrono::microseconds time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = (time - seconds).count();
  if (rest == 0) return fmt::format("{}s", seconds.count());
  if (rest % 1000 == 0) return fmt::format("{}.{:03}s", seconds.count(), rest / 1000);
  return fmt::format("{}.{:06}s", seconds.count(), rest);
}

// The numbers of a bucket, as AllowRequest's answer has them.
void AddNumbers(const LimitState& state, Json& json) {
  json["remaining"] = state.decision.remaining;
  json["limit"] = state.spec.capacity;
  if (!state.decision.allowed && state.decision.retry_after > std::chrono::microseconds(0)) {
    json["retry_after"] = ToSeconds(state.decision.retry_after);
  }
  json["reset_after"] = ToSeconds(state.decision.reset_after);
}

Json ToJson(const Request& request, const Answer& answer) {
  Json json = {{"allowed", answer.allowed}, {"reason", ReasonOf(request, answer)}};
  if (const LimitState* const deciding = answer.deciding_state(); deciding != nullptr) {
    AddNumbers(*deciding, json);
    json["limit_name"] = deciding->limit->name;
  }
  json["limits"] = Json::array();
  for (const LimitState& state : answer.states) {
    Json& limit = json["limits"].emplace_back(Json{{"name", state.limit->name},
                                                   {"shadow", state.limit->shadow},
                                                   {"allowed", state.decision.allowed}});
    AddNumbers(state, limit);
  }
  if (answer.fail_mode.has_value()) json["fail_mode"] = NameOf(*answer.fail_mode);
  return json;
}

std::string_view NameOf(ShownSetting::Source source) {
  switch (source) {
    case ShownSetting::Source::kEnvironment:
      return "environment";
    case ShownSetting::Source::kFlag:
      return "flag";
    case ShownSetting::Source::kDefault:
      break;
  }
  return "default";
}

Json ToJson(const std::vector<ShownSetting>& settings) {
  Json json = Json::array();
  for (const ShownSetting& setting : settings) {
    json.push_back({{"name", setting.name},
                    {"value", setting.value},
                    {"default", setting.default_value},
                    {"source", NameOf(setting.source)},
                    {"meaning", setting.meaning}});
  }
  return json;
}

Json ToJson(const Health& health) {
  if (!health.serving) return {{"status", "not ready"}, {"reason", health.reason}};
  if (health.reason.empty()) return {{"status", "ready"}};
  return {{"status", "degraded"}, {"reason", health.reason}};
}

// Counts come as metrics have them, which know no whole numbers.
std::uint64_t Whole(double count) { return static_cast<std::uint64_t>(count); }

Json ToJson(const std::vector<std::pair<std::string, double>>& counts) {
  Json json = Json::object();
  for (const auto& [label, count] : counts) json[label] = Whole(count);
  return json;
}

void AddCounts(const StatusCounter& counter, const StatusCounter::Counts& counts, Json& json) {
  const std::span<const std::string_view> statuses = counter.statuses();
  for (std::size_t i = 0; i < statuses.size(); ++i) json[std::string(statuses[i])] = counts[i];
}

Json ToJson(const std::vector<HeavyUser>& users) {
  Json json = Json::array();
  for (const HeavyUser& user : users) {
    json.push_back({{"user", user.user}, {"count", user.count}, {"error", user.error}});
  }
  return json;
}

// --- The page ---

// The hash of an inline script or style, as a policy names it.
std::string HashSource(std::string_view sha256_in_hex) {
  // Abseil's function for it returns otherwise from one release to the next.
  std::string sha256;
  for (; sha256_in_hex.size() >= 2; sha256_in_hex.remove_prefix(2)) {
    unsigned char byte = 0;
    std::from_chars(sha256_in_hex.data(), sha256_in_hex.data() + 2, byte, 16);
    sha256 += static_cast<char>(byte);
  }
  return fmt::format("'sha256-{}'", absl::Base64Escape(sha256));
}

// It asks nobody but this server, no other page may show it, and what it did not
// come with is no script of its.
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
    : backend_(std::move(backend)),
      limits_file_(settings.limits_file),
      store_(settings.store),
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
  // In this order: limits may be a little newer than what is said of their file.
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
  if (store_ == StoreKind::kRedis) {
    const Histogram& latency = metrics.redis().latency();
    json["redis"] = {{"breakers_open", count(Metric::kBreakerOpen)},
                     {"breaker_openings", count(Metric::kBreakerOpened)},
                     {"errors", ToJson(metrics.ByLabel(Metric::kRedisErrors))},
                     {"latency", {{"bounds", latency.Edges()}, {"counts", latency.Counts()}}}};
  } else {
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
  // It has nothing to say, and so may be empty as well.
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
                                      "the limits file is not accepted, and the limits stay as "
                                      "they were; reloads.errors says why"))},
                        {"reloads", ToJson(state)}})};
}

}  // namespace ratelimiter
