#include "error_treatment.h"

#include <algorithm>
#include <array>

namespace ratelimiter {
namespace {

constexpr bool kOfTheCommand = true;
constexpr bool kOfTheStore = false;
constexpr bool kReconnect = true;
constexpr bool kStay = false;

constexpr std::string_view kCluster = "REDIS_URL leads to a node of a Redis Cluster";
constexpr std::string_view kRights =
    "the user in REDIS_URL lacks rights, which docs/failures.md lists";

constexpr auto kTreatments = std::to_array<ErrorTreatment>({
    {"READONLY", kOfTheStore, kReconnect, "REDIS_URL leads to a replica"},
    {"LOADING", kOfTheStore, kReconnect, "Redis still reads its data from disk"},
    {"MASTERDOWN", kOfTheStore, kReconnect, "REDIS_URL leads to a replica without its master"},
    {"CLUSTERDOWN", kOfTheStore, kReconnect, "REDIS_URL leads to a Redis Cluster that lacks slots"},
    {"NOREPLICAS", kOfTheStore, kReconnect,
     "Redis has fewer replicas than its min-replicas-to-write"},
    {"MOVED", kOfTheStore, kStay, kCluster},
    {"ASK", kOfTheStore, kStay, kCluster},
    {"TRYAGAIN", kOfTheStore, kStay, kCluster},
    {"CROSSSLOT", kOfTheStore, kStay, kCluster},
    {"OOM", kOfTheStore, kStay, "Redis is full: raise its maxmemory"},
    {"MISCONF", kOfTheStore, kStay,
     "Redis cannot save to its disk: make room there, or turn saving off"},
    {"NOAUTH", kOfTheStore, kReconnect,
     "Redis asks for a password: set it in REDIS_URL or REDIS_PASSWORD_FILE"},
    {"WRONGPASS", kOfTheStore, kReconnect,
     "Redis refuses the user or password of REDIS_URL or REDIS_PASSWORD_FILE"},
    {"NOPERM", kOfTheStore, kReconnect, kRights},
    {"ERR The user executing the script can't", kOfTheStore, kReconnect, kRights},
    {"ERR ACL failure in script:", kOfTheStore, kReconnect, kRights},
    {"ERR max number of clients reached", kOfTheStore, kReconnect, "raise Redis's maxclients"},
    {"BUSY", kOfTheStore, kStay, "somebody's script holds Redis up: SCRIPT KILL ends it"},
    {"NOSCRIPT", kOfTheStore, kStay, "Redis lost the script as soon as it was loaded"},
    {"WRONGTYPE", kOfTheCommand, kStay,
     "the key is no bucket: delete it, or choose another KEY_PREFIX"},
    {"ERR", kOfTheCommand, kStay, ""},
    {"", kOfTheStore, kReconnect, ""},
});

bool BeginsWith(std::string_view error, std::string_view code) {
  return error.starts_with(code) &&
         (code.empty() || error.size() == code.size() || error[code.size()] == ' ');
}

}  // namespace

std::span<const ErrorTreatment> ErrorTreatments() { return kTreatments; }

const ErrorTreatment& TreatmentOf(std::string_view error) {
  return *std::ranges::find_if(kTreatments, [&](const ErrorTreatment& treatment) {
    return BeginsWith(error, treatment.code);
  });
}

}  // namespace ratelimiter
