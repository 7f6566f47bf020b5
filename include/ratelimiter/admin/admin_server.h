#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <absl/status/statusor.h>

#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// What the admin server shows and changes. The functions are called from many
// threads at once, and must be callable for as long as the server lives.
struct AdminBackend {
  Limiter& limiter;
  Metrics& metrics;
  // Decides and counts a request as the API does that this one stands beside.
  std::function<absl::StatusOr<Answer>(const Request& request, Deadline deadline)> allow;
  // Whether the daemon takes calls, and why it does not, or does without its store.
  struct Readiness {
    bool ready = false;
    std::string reason{};
  };
  std::function<Readiness()> readiness;
  // What the store calls a bucket.
  std::function<std::string(std::string_view limit, std::string_view bucket_key)> key;
  // Reads the limits file, and how that went up to now. Both empty: there is none.
  std::function<ReloadState()> reload{};
  std::function<ReloadState()> reload_state{};
};

// The admin API in JSON over HTTP, which docs/use/admin-api.yaml describes, the page that
// shows it live, and the probes /healthz and /readyz: from threads of its own until it is
// destroyed, which waits for requests in flight.
//
// Whoever can connect may use it, or, with settings.admin_token_file, whoever bears the
// token; what a browser can be made to send by another site's page is refused. A
// connection is bounded in time and in bytes, and serves one request.
class AdminServer {
 public:
  // Listens on settings.admin_bind and settings.admin_port, which must have a
  // value; 0 picks a free port. With `tls`, which must outlive it, or without TLS where
  // that is nullptr. UNAVAILABLE if it cannot listen there.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const Settings& settings,
                                                            const ServerTls* tls,
                                                            AdminBackend backend);

  virtual ~AdminServer() = default;

  virtual std::uint16_t port() const = 0;
};

}  // namespace ratelimiter
