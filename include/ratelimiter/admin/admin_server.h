#pragma once

#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>

#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/service/decision_service.h"

namespace ratelimiter {

// What the admin server shows and changes. All must outlive the server.
struct AdminBackend {
  DecisionService& service;
  Limiter& limiter;
  const TokenBucketStore& store;
  Metrics& metrics;
  // nullptr: without a limits file.
  LimitsReloader* reloader = nullptr;
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
