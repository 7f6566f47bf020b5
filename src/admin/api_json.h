#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>
#include <nlohmann/json.hpp>

#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/heavy_hitters.h"
#include "ratelimiter/metrics/status_counter.h"
#include "ratelimiter/service/readiness.h"

namespace ratelimiter {

// Keeps members in the order in which they are added.
using Json = nlohmann::ordered_json;

// The text of `json`; invalid UTF-8 is replaced.
std::string Dump(const Json& json);

// The JSON of the admin API's responses, as docs/use/admin-api.yaml describes them.
Json ToJson(const absl::Status& error);
Json ToJson(const Limit& limit);
Json ToJson(const ReloadState& state);
Json ToJson(const Request& request, const Answer& answer);
Json ToJson(const std::vector<ShownSetting>& settings);
Json ToJson(const Health& health);
Json ToJson(const std::vector<HeavyUser>& users);
// Counts by label.
Json ToJson(const std::vector<std::pair<std::string, double>>& counts);

// Adds the members "capacity" and "refill".
void AddSpec(const BucketSpec& spec, Json& json);
// Adds a member for each status.
void AddCounts(const StatusCounter& counter, const StatusCounter::Counts& counts, Json& json);

std::string ToUtc(std::chrono::system_clock::time_point time);

// A count of a metric, which is a double there.
inline std::uint64_t Whole(double count) { return static_cast<std::uint64_t>(count); }

}  // namespace ratelimiter
