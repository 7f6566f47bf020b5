#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string_view>
#include <thread>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "endpoint_resolver.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/host_port.h"
#include "ratelimiter/base/snapshot.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/redis/script.h"
#include "redis_backend.h"
#include "script_invocation.h"
#include "slot_map.h"

namespace ratelimiter {

// A Redis Cluster: a ConnectionPool for each of its masters, so that one that fails does
// so for its own slots alone. A call goes to the master that has its slot, and where
// that says another, on to that one.
//
// Which master has which slots is asked on a thread of its own: every `interval`, and
// when a call was sent on or a connection failed. Calls wait for it only while nothing
// is known yet.
//
// A slot that is on its way from one master to another has keys at both. A call of one
// key is run by whichever has it, and by the new one if neither has. One of several is
// run only where all of them are, and a full bucket has no key: so those that the old
// one has are moved, and those that neither has are made, before the new one runs it.
//
// Thread-safe. Destroying it waits for a question or a probe that is under way.
class Cluster final : public RedisBackend {
 public:
  // What it is given by reference must outlive it, and the prefix.
  Cluster(RedisOptions options, std::string_view key_prefix, const Script& script, Metrics& metrics,
          const Clock& clock, std::chrono::milliseconds interval = std::chrono::seconds(1));
  ~Cluster() override;

  // A call is sent on until the timeout after it came, and no longer.
  void Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) override;

  // OK if one master can decide.
  absl::Status Check(Deadline deadline) override;

  std::size_t open_breakers() const override;
  std::uint64_t breaker_openings() const override;
  std::size_t waiting_calls() const override;
  bool may_evict() const override;

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  class NodeResolver;

  // Which node has which slot.
  struct Table {
    std::vector<NodePtr> nodes;  // Each once.
    // By slot: a place in `nodes`, or kNobody.
    std::array<std::uint16_t, kSlots> owners{};
  };
  static constexpr std::uint16_t kNobody = kSlots;

  // What a node tells. The epoch grows with each change that masters agreed upon.
  struct Announcement {
    std::uint64_t epoch = 0;
    std::vector<SlotRange> ranges;
  };

  // Where calls are sent on to, and whether they must ask to be run there.
  struct Next {
    NodePtr node;
    bool asking = false;
  };

  // Once it is known. Errors: UNAVAILABLE; DEADLINE_EXCEEDED.
  absl::StatusOr<std::shared_ptr<const Table>> Known(Deadline deadline);
  // The node there, which may be a new one. Errors: UNAVAILABLE, where there can be no
  // more.
  absl::StatusOr<NodePtr> At(const HostPort& address);
  absl::StatusOr<Next> NextAt(const HostPort& address, bool asking = false);

  // Runs calls that one master has.
  void RunAt(Node& node, std::span<ScriptCall> calls, Deadline deadline, Purpose purpose);
  // Sends on those calls that `from` did not run, `hops` times at most.
  void Follow(Node& from, std::span<ScriptCall> calls, int hops, Deadline until);
  // The same of calls of one slot that were answered the same.
  void FollowAlike(Node& from, std::span<ScriptCall> calls, int hops, Deadline until);
  absl::StatusOr<Next> FindNext(Node& from, std::span<const ScriptCall> calls, Deadline until);
  // Has those keys of calls that `from` has moved to where it says the others are to be.
  absl::StatusOr<Next> BringTogether(Node& from, std::span<const ScriptCall> calls, Deadline until);
  // Runs calls at a node that is being given their slot, none of whose keys are left at
  // the one that gives it.
  void RunAsking(Node& node, std::span<ScriptCall> calls, Deadline until);

  // Has the thread ask soon.
  void Refresh();
  void Watch(const std::stop_token& stop);
  // Asks one node after the other, and begins with it the next time.
  absl::StatusOr<Announcement> Ask(const std::stop_token& stop);
  absl::StatusOr<Announcement> AskOne(const HostPort& address, EndpointResolver& resolver) const;
  void Take(Announcement announcement);
  // Destroys the nodes that nobody uses any more.
  void Forget();

  absl::Status Unavailable(std::string_view why) const;
  // `of_the_call`: it was its own deadline that passed.
  absl::Status OutOfTime(bool of_the_call) const;

  // Constant after construction.
  const RedisOptions options_;
  const std::string_view key_prefix_;
  const Script& script_;
  const std::chrono::milliseconds interval_;

  // Self-synchronised.
  Metrics& metrics_;
  const Clock& clock_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_.
  bool wanted_ = false;
  bool asked_ = false;  // Once at least.
  absl::Status error_;  // Of the last time that a node was asked.
  std::vector<NodePtr> nodes_;
  std::uint64_t forgotten_openings_ = 0;

  Snapshot<Table> table_;

  // Of the thread.
  struct Seed {
    HostPort address;
    std::unique_ptr<EndpointResolver> resolver;
  };
  std::vector<Seed> seeds_;
  HostPort first_;  // Is asked first, for it answered last.
  Announcement announced_;

  std::jthread thread_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
