#include "error_policy.h"

#include <algorithm>
#include <array>

namespace ratelimiter {
namespace {

constexpr bool kOfTheCommand = true;
constexpr bool kOfTheStore = false;
constexpr bool kRedirects = true;
constexpr bool kFinal = false;
constexpr bool kReconnect = true;
constexpr bool kStay = false;

using enum RedisError;

constexpr std::string_view kCluster =
    "REDIS_URL leads to a node of a Redis Cluster: name it by redis-cluster://";
constexpr std::string_view kRights =
    "the user in REDIS_URL lacks rights; see docs/operate/failures.md";

constexpr auto kPolicies = std::to_array<ErrorPolicy>({
    {"READONLY", kOfTheStore, kFinal, kReconnect, kReadonly, "REDIS_URL leads to a replica"},
    {"LOADING", kOfTheStore, kFinal, kReconnect, kLoading, "Redis still reads its data from disk"},
    {"MASTERDOWN", kOfTheStore, kFinal, kReconnect, kMasterdown,
     "REDIS_URL leads to a replica without its master"},
    {"CLUSTERDOWN", kOfTheStore, kFinal, kReconnect, kClusterdown,
     "the Redis Cluster lacks slots, or most of its masters"},
    {"NOREPLICAS", kOfTheStore, kFinal, kReconnect, kNoreplicas,
     "Redis has fewer replicas than its min-replicas-to-write"},
    {"MOVED", kOfTheStore, kRedirects, kStay, kMoved, kCluster},
    {"ASK", kOfTheStore, kRedirects, kStay, kAsk, kCluster},
    {"TRYAGAIN", kOfTheStore, kRedirects, kStay, kTryagain, kCluster},
    {"CROSSSLOT", kOfTheStore, kFinal, kStay, kCrossslot, kCluster},
    {"ERR Script attempted to access a non local key", kOfTheStore, kRedirects, kStay, kCrossslot,
     kCluster},
    {"OOM", kOfTheStore, kFinal, kStay, kOom, "Redis is full: raise its maxmemory"},
    {"MISCONF", kOfTheStore, kFinal, kStay, kMisconf,
     "Redis cannot save to its disk: make room there, or turn saving off"},
    {"NOAUTH", kOfTheStore, kFinal, kReconnect, kNoauth,
     "Redis asks for a password: set it in REDIS_URL or REDIS_PASSWORD_FILE"},
    {"WRONGPASS", kOfTheStore, kFinal, kReconnect, kWrongpass,
     "Redis refuses the user or password of REDIS_URL or REDIS_PASSWORD_FILE"},
    {"NOPERM", kOfTheStore, kFinal, kReconnect, kNoperm, kRights},
    {"ERR The user executing the script can't", kOfTheStore, kFinal, kReconnect, kNoperm, kRights},
    {"ERR ACL failure in script:", kOfTheStore, kFinal, kReconnect, kNoperm, kRights},
    {"ERR max number of clients reached", kOfTheStore, kFinal, kReconnect, kMaxclients,
     "raise Redis's maxclients"},
    {"BUSY", kOfTheStore, kFinal, kStay, kBusy, "a script blocks Redis: SCRIPT KILL ends it"},
    {"NOSCRIPT", kOfTheStore, kFinal, kStay, kNoscript,
     "Redis lost the script as soon as it was loaded"},
    {"WRONGTYPE", kOfTheCommand, kFinal, kStay, kWrongtype,
     "the key is not a bucket: delete it, or choose another KEY_PREFIX"},
    {"ERR", kOfTheCommand, kFinal, kStay, kErr, ""},
    {"", kOfTheStore, kFinal, kReconnect, kOther, ""},
});

bool BeginsWith(std::string_view error, std::string_view code) {
  return error.starts_with(code) &&
         (code.empty() || error.size() == code.size() || error[code.size()] == ' ');
}

}  // namespace

std::span<const ErrorPolicy> ErrorPolicies() { return kPolicies; }

const ErrorPolicy& ErrorPolicyFor(std::string_view error) {
  return *std::ranges::find_if(
      kPolicies, [&](const ErrorPolicy& policy) { return BeginsWith(error, policy.code); });
}

}  // namespace ratelimiter
