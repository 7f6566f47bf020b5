#include "bench_server.h"

#include <unistd.h>

#include <csignal>
#include <iostream>
#include <string>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/metrics_exposer.h"
#include "ratelimiter/server/server.h"

namespace ratelimiter {
namespace {

int Serve(const Settings& settings, MakeBenchStore make_store) {
  std::signal(SIGPIPE, SIG_IGN);
  const auto logger = MakeLogger(settings.log_level, settings.log_format);
  const auto failed = [&](const absl::Status& status) {
    logger->error("{}", std::string(status.message()));
    return kExitRuntime;
  };
  const LimitsFile file = settings.limits_file.empty()
                              ? LimitsFile{.limits = DefaultLimits(settings.spec)}
                              : ReadLimitsFile(settings.limits_file);
  for (const std::string& error : file.errors) std::cerr << error << '\n';
  if (!file.errors.empty()) return kExitConfig;

  Metrics metrics(settings.metrics_max_users, "bench");
  const std::unique_ptr<TokenBucketStore> store = make_store(settings, metrics);
  Limiter limiter(file.limits, *store);
  DecisionService service(limiter, *store, metrics, logger,
                          {.max_in_flight = settings.max_in_flight});
  const auto server = Server::Start(settings, nullptr, service, metrics, logger);
  if (!server.ok()) return failed(server.status());
  service.readiness().Start();
  service.readiness().WaitForFirstCheck();
  const auto exposer = MetricsExposer::Start(settings.metrics_bind, settings.metrics_port, metrics);
  if (!exposer.ok()) return failed(exposer.status());
  logger->info("gRPC on {} port {}, metrics on {} port {}, for benchmarks", settings.bind,
               (*server)->port(), settings.metrics_bind, exposer->port());
  pause();  // Until a signal ends the process.
  return kExitOk;
}

}  // namespace

int RunBenchServer(int argc, char** argv, MakeBenchStore make_store) {
  const SettingsResult settings = ReadSettings(argc, argv);
  if (settings.settings.has_value()) return Serve(*settings.settings, make_store);
  std::cerr << settings.message;
  return settings.exit_code;
}

}  // namespace ratelimiter
