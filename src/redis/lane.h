#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>

#include <absl/status/status.h>

#include "command_batch.h"
#include "endpoint_resolver.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/redis_reply.h"
#include "ratelimiter/redis/script.h"
#include "ratelimiter/resilience/breaker.h"
#include "redis_backend.h"
#include "script_invocation.h"
#include "turn_queue.h"

namespace ratelimiter {

// One connection to Redis that callers share: what they ask at the same time goes
// in one write, and one of them waits for the replies of all. It is opened when
// first needed and when it broke. The breaker is told how each round trip went; while
// it is open nobody but a probe waits.
//
// Thread-safe.
class Lane {
 public:
  // What they are given must outlive it. `timeout`: how long a caller waits until
  // its calls are sent, and a write for its replies. `on_connected` is told of each new
  // connection, on a caller's thread.
  Lane(
      const RedisServer& server, std::chrono::milliseconds timeout, const Script& script,
      EndpointResolver& resolver, Breaker& breaker, Metrics& metrics,
      std::function<void(const Connection&)> on_connected = [](const Connection&) {},
      std::chrono::milliseconds max_connection_age = std::chrono::milliseconds(0));

  // Has Redis run the calls, and gives each its answer or error, or, where the server
  // is one of a Cluster's, a redirection. Waits for min(`deadline`, timeout) until they
  // are sent, and then for timeout. Precondition: the calls have at most
  // CommandBatch::kMaxBuckets / 2 buckets.
  void Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose);

  // How many callers wait for a turn now.
  std::size_t waiting() const { return queue_.waiting(); }

 private:
  // Closes a connection, and counts it.
  struct Close {
    RedisMetrics* metrics;
    void operator()(Connection* connection) const;
  };

  // What one caller has to ask.
  struct Errand {
    std::span<ScriptCall> calls;
    std::chrono::steady_clock::time_point came;
    Deadline deadline;
    Deadline send_by;
    Purpose purpose = Purpose::kCall;
  };

  void Lead(Errand& own);
  // What it means that the round trip ended with `error`.
  RedisError KindOf(const absl::Status& error) const;
  // Gives all who wait in this turn, and its leader, the error.
  static void FailAll(const Errand& own, TurnQueue<Errand>::Turn& turn, const absl::Status& error);
  // Has the connection ready for use. One that is too old stays where another cannot be
  // opened.
  absl::Status Connect(Deadline deadline);
  // The errands of this turn, as a pipeline.
  void Gather(const Errand& own, TurnQueue<Errand>::Turn& turn);
  // Has Redis run the pipeline, and tells the breaker of it.
  absl::Status Exchange();
  // Waits for the reply to a command.
  absl::Status Receive(const CommandBatch::Command& command, Deadline deadline);
  // Takes the replies to it. `again`: whether some calls are to be run once more,
  // which are left unanswered.
  absl::Status ReceiveAll(Deadline deadline, bool& again);
  // Gives the calls of a command the reply that came. An error: it was no reply to
  // them, and none is to be taken after it.
  absl::Status Take(const CommandBatch::Command& command);
  // Runs those calls that are not answered once more, one by one.
  absl::Status Repeat(Deadline deadline);

  static void Fail(const Errand& errand, const absl::Status& status);
  // What a caller is told who was too late to be sent, and of an error.
  absl::Status TooLate(const Errand& errand) const;
  absl::Status Unavailable(const absl::Status& error) const;
  // While the breaker is open.
  absl::Status GivenUp() const;

  // Self-synchronised.
  TurnQueue<Errand> queue_;
  EndpointResolver& resolver_;
  Breaker& breaker_;
  Metrics& metrics_;

  // Constant after construction.
  const RedisServer& server_;
  const std::chrono::milliseconds timeout_;
  const Script& script_;
  const std::string load_script_;  // SCRIPT LOAD, formatted.
  const std::function<void(const Connection&)> on_connected_;
  const std::chrono::milliseconds max_connection_age_;

  // Of the one who leads.
  std::unique_ptr<Connection, Close> connection_{nullptr, Close{&metrics_.redis()}};
  std::chrono::steady_clock::time_point replace_at_;  // When the connection is too old.
  std::minstd_rand random_;
  std::uint64_t epoch_ = 0;  // Of where the connection leads to.
  CommandBatch batch_;
  // Whether the metrics are told of this round trip, and what: of those who wait since when.
  bool observed_ = false;
  std::chrono::steady_clock::time_point waited_since_;
  std::size_t calls_ = 0;
  bool script_missing_ = false;
  absl::Status refused_;  // What Redis answered that fails all.
  RedisReply reply_;
};

}  // namespace ratelimiter
