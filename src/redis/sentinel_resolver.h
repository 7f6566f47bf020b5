#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <absl/status/statusor.h>

#include "dns_resolver.h"
#include "endpoint_resolver.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/host_port.h"
#include "ratelimiter/redis/connection.h"

namespace ratelimiter {

// Asks sentinels where the master is, on a thread of its own: before each connection,
// and every `interval`, so that connections to a master that was replaced are given up
// though they work.
//
// Thread-safe. Destroying it waits for a question that is under way, for `timeout` at
// most.
class SentinelResolver final : public EndpointResolver {
 public:
  // `timeout`: how long one question may take, over all sentinels.
  SentinelResolver(RedisServer server, std::chrono::milliseconds timeout,
                   std::chrono::milliseconds interval = std::chrono::seconds(1));

  // What sentinels answered to a question that was put after this was called.
  absl::StatusOr<Endpoint> Find(Deadline deadline) override;

  std::uint64_t epoch() const override { return epoch_.load(std::memory_order_acquire); }

 private:
  struct Sentinel {
    HostPort address;
    std::unique_ptr<DnsResolver> resolver;
  };
  struct Announcement {
    HostPort master;
    std::string sentinel;  // Who made it.
  };

  void Run(const std::stop_token& stop);
  // Asks one sentinel after the other, and begins with it the next time.
  absl::StatusOr<Announcement> Ask(Deadline deadline);
  absl::StatusOr<HostPort> AskOne(const Sentinel& sentinel, Deadline deadline) const;
  // Where that is: a sentinel may announce a name.
  absl::StatusOr<Endpoint> Locate(const Announcement& announcement, Deadline deadline);

  // Constant after construction.
  const RedisServer server_;
  const std::chrono::milliseconds timeout_;
  const std::chrono::milliseconds interval_;

  // Of the thread. The sentinel that answered last comes first.
  std::vector<Sentinel> sentinels_;
  HostPort master_;  // Announced last.
  std::unique_ptr<DnsResolver> master_resolver_;

  std::atomic<std::uint64_t> epoch_ = 0;  // Written by the thread.

  std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  std::uint64_t wanted_ = 0;    // Questions that callers wait for, by number.
  std::uint64_t answered_ = 0;  // Up to this one.
  absl::StatusOr<Endpoint> found_;

  std::jthread thread_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
