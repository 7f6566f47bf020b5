#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/redis/connection.h"

namespace ratelimiter {

// Where a Redis is now.
struct Endpoint {
  // Numeric, or the path of a Unix socket.
  std::vector<std::string> addresses;
  // 0: as its RedisServer says.
  std::uint16_t port = 0;
  // Who says so, for messages; may be empty.
  std::string source{};
  std::uint64_t epoch = 0;
};

// Knows where a Redis is. Thread-safe.
class EndpointResolver {
 public:
  EndpointResolver() = default;
  virtual ~EndpointResolver() = default;
  EndpointResolver(const EndpointResolver&) = delete;
  EndpointResolver& operator=(const EndpointResolver&) = delete;

  // Waits until `deadline` at most. Errors: UNAVAILABLE, with the reason;
  // DEADLINE_EXCEEDED.
  virtual absl::StatusOr<Endpoint> Find(Deadline deadline) = 0;

  // Is told that connecting failed, or that a connection broke: where it was found
  // last it may be no more.
  virtual void Refresh() {}

  // Goes up when it has moved: a connection to a location of an epoch before is not to
  // be used again.
  virtual std::uint64_t epoch() const { return 0; }
};

// `timeout`: how long sentinels are asked at most.
std::unique_ptr<EndpointResolver> MakeEndpointResolver(const RedisServer& server,
                                                       std::chrono::milliseconds timeout);

}  // namespace ratelimiter
