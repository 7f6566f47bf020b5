#include "api_json.h"

#include <cstddef>
#include <map>
#include <span>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "ratelimiter/base/duration.h"

namespace ratelimiter {
namespace {

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

// As in protobuf's JSON: "2s", "1.500s", "1.875365s".
std::string ToSeconds(std::chrono::microseconds time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = (time - seconds).count();
  if (rest == 0) return fmt::format("{}s", seconds.count());
  if (rest % 1000 == 0) return fmt::format("{}.{:03}s", seconds.count(), rest / 1000);
  return fmt::format("{}.{:06}s", seconds.count(), rest);
}

// A bucket's state, as in AllowRequest's response.
void AddState(const LimitState& state, Json& json) {
  json["remaining"] = state.decision.remaining;
  json["limit"] = state.spec.capacity;
  if (const auto retry_after = state.retry_after(); retry_after.has_value()) {
    json["retry_after"] = ToSeconds(*retry_after);
  }
  json["reset_after"] = ToSeconds(state.decision.reset_after);
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

}  // namespace

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json ToJson(const absl::Status& error) {
  return {{"code", absl::StatusCodeToString(error.code())},
          {"message", std::string(error.message())}};
}

void AddSpec(const BucketSpec& spec, Json& json) {
  json["capacity"] = spec.capacity;
  if (spec.capacity == 0) {
    json["refill"] = nullptr;
  } else {
    json["refill"] = {{"tokens", spec.refill_tokens},
                      {"interval", FormatDuration(spec.refill_interval)}};
  }
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

Json ToJson(const Request& request, const Answer& answer) {
  Json json = {{"allowed", answer.allowed}, {"reason", ReasonOf(request, answer)}};
  if (const LimitState* const deciding = answer.deciding_state(); deciding != nullptr) {
    AddState(*deciding, json);
    json["limit_name"] = deciding->limit->name;
  }
  json["limits"] = Json::array();
  for (const LimitState& state : answer.states) {
    Json& limit = json["limits"].emplace_back(Json{{"name", state.limit->name},
                                                   {"shadow", state.limit->shadow},
                                                   {"allowed", state.decision.allowed}});
    AddState(state, limit);
  }
  if (answer.fail_mode.has_value()) json["fail_mode"] = NameOf(*answer.fail_mode);
  return json;
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

}  // namespace ratelimiter
