// The daemon's server over a store that answers at once: what gRPC alone costs,
// for bench.py to measure the daemon against. It takes the daemon's settings.

#include <unistd.h>

#include <iostream>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/request_counter.h"
#include "ratelimiter/server/server.h"

namespace ratelimiter {
namespace {

class NoopStore final : public TokenBucketStore {
 public:
  absl::StatusOr<Decision> Decide(const Limit& limit, std::string_view /*subject*/,
                                  Charge /*charge*/, Deadline /*deadline*/) override {
    return Decision{.allowed = true, .remaining = limit.capacity};
  }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }
};

int Serve(const Settings& settings) {
  const auto logger = MakeLogger(settings.log_level, settings.log_format);
  NoopStore store;
  Limiter limiter(settings.limit, store);
  RequestCounter requests(settings.metrics_max_users);
  auto server = Server::Start(settings, limiter, store, requests, logger);
  if (!server.ok()) {
    logger->error("{}", std::string(server.status().message()));
    return kExitRuntime;
  }
  logger->info("noop_server: gRPC on {} port {}, metrics at port 0, no store", settings.bind,
               (*server)->port());
  pause();  // Until a signal ends the process.
  return kExitOk;
}

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) {
  const ratelimiter::SettingsResult settings = ratelimiter::ReadSettings(argc, argv);
  if (settings.settings.has_value()) return ratelimiter::Serve(*settings.settings);
  std::cerr << settings.message;
  return settings.exit_code;
}
