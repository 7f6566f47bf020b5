#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <absl/status/statusor.h>

#include "ratelimiter/base/host_port.h"
#include "ratelimiter/redis/redis_reply.h"

namespace ratelimiter {

// Keys of a Redis Cluster are spread over so many slots, each of which one master has.
inline constexpr std::uint16_t kSlots = 16384;

// The slot of a key: of what stands in its first braces, if that is anything, else of
// the whole key.
std::uint16_t SlotOf(std::string_view key);

// Slots from `first` to `last` and the master that has them.
struct SlotRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  HostPort master;

  friend bool operator==(const SlotRange&, const SlotRange&) = default;
};

// The reply to CLUSTER SLOTS of the node at `asked`, whose host stands for one that the
// reply leaves out. Errors: UNAVAILABLE, with what came.
absl::StatusOr<std::vector<SlotRange>> ReadSlots(const RedisReply& reply, const HostPort& asked);

// What a node answers to a call that another is to run.
struct Redirection {
  enum class Kind : std::uint8_t {
    kMoved,     // `to` has the slot.
    kAsk,       // `to` is being given the slot, and the node that says so lacks the keys.
    kTryAgain,  // Some of the keys are at one of the two, some not.
  };
  Kind kind = Kind::kTryAgain;
  HostPort to{};

  friend bool operator==(const Redirection&, const Redirection&) = default;
};

// Reads the error of the node at `from`. nullopt: it names no server.
std::optional<Redirection> ReadRedirection(std::string_view error, const HostPort& from);

}  // namespace ratelimiter
