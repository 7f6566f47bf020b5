#pragma once

#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// Finds a host's numeric addresses on a thread of its own, for name resolution
// has no timeout that a caller could set.
//
// Thread-safe. Destroying it never waits for a resolution that hangs.
class Resolver {
 public:
  // Begins to resolve at once.
  explicit Resolver(std::string host);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // What was found last. Waits only while nothing is known yet, until
  // `deadline`. Errors: UNAVAILABLE with the resolver's reason;
  // DEADLINE_EXCEEDED.
  absl::StatusOr<std::vector<std::string>> Addresses(Deadline deadline) const;

  // Has the host resolved again soon, at most once a second; what was found
  // last stays until then, and if it fails.
  void Refresh();

 private:
  struct State;

  static void Run(const std::shared_ptr<State>& state);

  // Shared with the thread, which may outlive this while it hangs.
  const std::shared_ptr<State> state_;
};

}  // namespace ratelimiter
