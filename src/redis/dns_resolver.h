#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include "endpoint_resolver.h"
#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// A host's numeric addresses. May take any time. Errors: UNAVAILABLE, with the
// reason.
using Resolve = std::function<absl::StatusOr<std::vector<std::string>>(const std::string& host)>;

// As the system resolves names.
absl::StatusOr<std::vector<std::string>> ResolveBySystem(const std::string& host);

// Finds a host's numeric addresses on a thread of its own, for name resolution
// has no timeout that a caller could set.
//
// Thread-safe. Destroying it never waits for a resolution that hangs.
class DnsResolver final : public EndpointResolver {
 public:
  // Begins to resolve at once, and rests for `min_interval` after each time.
  explicit DnsResolver(std::string host, Resolve resolve = ResolveBySystem,
                       std::chrono::milliseconds min_interval = std::chrono::seconds(1));
  ~DnsResolver() override;

  // What was found last. Waits only while nothing is known yet, until
  // `deadline`. Errors: UNAVAILABLE with the resolver's reason;
  // DEADLINE_EXCEEDED.
  absl::StatusOr<std::vector<std::string>> Addresses(Deadline deadline) const;

  // The addresses by a lookup no older than `min_interval`. One that hangs or fails costs
  // half of the time left; then the addresses found last are used, if there are any.
  absl::StatusOr<Endpoint> Find(Deadline deadline) override;

  // Has the host resolved again as soon as it may be; what was found last stays
  // until then, and if it fails.
  void Refresh() override;

 private:
  struct State;

  static void Run(const std::shared_ptr<State>& state);

  // Shared with the thread, which may outlive this while it hangs.
  const std::shared_ptr<State> state_;
};

}  // namespace ratelimiter
