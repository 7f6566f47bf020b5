// The daemon's server over a store that answers at once: what gRPC alone costs,
// for bench.py to measure the daemon against. It takes the daemon's settings.

#include <unistd.h>

#include <cstddef>
#include <iostream>
#include <span>
#include <string>

#include <absl/status/status.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/server/server.h"

namespace ratelimiter {
namespace {

class NoopStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline /*deadline*/) override {
    for (Transaction& transaction : transactions) {
      for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
        transaction.decisions[i] = {.allowed = true,
                                    .remaining = transaction.charges[i].quota.capacity};
      }
    }
  }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }
};

int Serve(const Settings& settings) {
  const auto logger = MakeLogger(settings.log_level, settings.log_format);
  NoopStore store;
  Limiter limiter(DefaultLimits(settings.quota), store);
  Metrics metrics(settings.metrics_max_users, "noop");
  auto server = Server::Start(settings, limiter, store, metrics, logger);
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
