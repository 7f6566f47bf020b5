#include "daemon.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include "published_state.h"
#include "ratelimiter/admin/admin_server.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/base/systemd_notifier.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/secret_checks.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/metrics/metrics_exposer.h"
#include "ratelimiter/server/server.h"
#include "ratelimiter/service/decision_service.h"
#include "ratelimiter/service/degradation_report.h"
#include "signals.h"
#include "start_guard.h"
#include "status_text.h"
#include "store_factory.h"

namespace ratelimiter {
namespace {

// How long calls in flight may take at the end: longer than the store waits, to send a command
// and for its reply.
std::chrono::milliseconds ShutdownGrace(const Settings& settings) {
  constexpr std::chrono::milliseconds kMin{5000};
  constexpr std::chrono::milliseconds kMargin{1000};
  return std::max(kMin, 2 * settings.redis_timeout + kMargin);
}

int Misconfigured(const absl::Status& status) {
  std::cerr << status.message() << '\n';
  return kExitConfig;
}

// nullptr: gRPC and the admin server do not use TLS.
absl::StatusOr<std::unique_ptr<ServerTls>> StartTls(const Settings& settings,
                                                    std::shared_ptr<Logger> logger) {
  if (settings.tls.certificate.empty()) return nullptr;
  return ServerTls::Start(settings.tls, std::move(logger));
}

// nullptr: there is no limits file.
std::unique_ptr<LimitsReloader> MakeReloader(const Settings& settings, LimitsFile in_force,
                                             Limiter& limiter, Metrics& metrics,
                                             std::shared_ptr<Logger> logger) {
  if (settings.limits_file.empty()) return nullptr;
  auto reloader = std::make_unique<LimitsReloader>(
      settings.limits_file, std::move(in_force),
      [&](const std::shared_ptr<const LimitSet>& limits) {
        ShowLimits(*limits, metrics);
        limiter.SetLimits(limits);
      },
      std::move(logger));
  Publish(*reloader, metrics);
  return reloader;
}

// nullptr: there is no admin server.
absl::StatusOr<std::unique_ptr<AdminServer>> StartAdmin(const Settings& settings,
                                                        const ServerTls* tls,
                                                        const AdminBackend& backend) {
  if (!settings.admin_port.has_value()) return nullptr;
  return AdminServer::Start(settings, settings.admin_tls ? tls : nullptr, backend);
}

}  // namespace

int RunDaemon(const Settings& settings) {
  std::optional<StartGuard> start_guard(std::in_place);
  const Signals signals;
  std::signal(SIGPIPE, SIG_IGN);  // write() reports a closed peer.

  // --- Configuration that only files can prove wrong ---
  const auto logger = MakeLogger(settings.log_level, settings.log_format);
  if (const absl::Status secrets = CheckSecretFiles(settings); !secrets.ok()) {
    return Misconfigured(secrets);
  }
  const auto tls = StartTls(settings, logger);
  if (!tls.ok()) return Misconfigured(tls.status());
  LimitsFile file = settings.limits_file.empty()
                        ? LimitsFile{.limits = DefaultLimits(settings.spec)}
                        : ReadLimitsFile(settings.limits_file);
  for (const std::string& error : file.errors) std::cerr << error << '\n';
  if (!file.errors.empty()) return kExitConfig;
  for (const std::string& warning : file.warnings) logger->warn("{}", warning);

  // --- The parts, from the store up to the fronts ---
  std::jthread exit_on_signal;  // Destroyed last: it covers the others' destruction.
  const SteadyClock clock;
  Metrics metrics(settings.metrics_max_users, RATELIMITER_VERSION,
                  {.label = settings.metrics_user_label, .top = settings.metrics_top_users});
  metrics.Publish(Metric::kLogDropped, [logger](std::size_t kind) {
    return static_cast<double>(logger->dropped(static_cast<LogKind>(kind)));
  });
  if (*tls != nullptr) Publish(**tls, metrics);
  const auto store = MakeStore(settings, clock, metrics, logger);
  if (!store.ok()) return Misconfigured(store.status());
  (*store)->PublishIn(metrics);
  DegradationReport report(metrics, logger);
  Fallback fallback(
      {.mode = settings.fail_mode,
       .local_fraction = settings.local_fraction,
       .make_local =
           [&] { return std::make_unique<MemoryTokenBucket>(settings.memory_max_buckets, clock); }},
      clock, report);
  Limiter limiter(file.limits, **store, &fallback);
  ShowLimits(*file.limits, metrics);
  const auto reloader = MakeReloader(settings, std::move(file), limiter, metrics, logger);
  DecisionService service(limiter, **store, metrics, logger,
                          {.max_in_flight = settings.max_in_flight,
                           .serves_without_store = settings.fail_mode != FailMode::kError});

  // --- The fronts. A start tells what it started, or why it failed, at any LOG_LEVEL. ---
  const auto start_logger = logger->AtLevel(spdlog::level::info);
  const auto failed = [&](const absl::Status& status, const char* setting_names) {
    start_logger->error("{} ({})", std::string(status.message()), setting_names);
    return kExitRuntime;
  };
  // gRPC first: an exposer takes seconds to end.
  const auto server = Server::Start(settings, tls->get(), service, metrics, logger);
  if (!server.ok()) return failed(server.status(), "PORT, BIND");
  service.readiness().Start();
  service.readiness().WaitForFirstCheck();
  const auto exposer = MetricsExposer::Start(settings.metrics_bind, settings.metrics_port, metrics);
  if (!exposer.ok()) return failed(exposer.status(), "METRICS_PORT, METRICS_BIND");
  auto admin = StartAdmin(settings, tls->get(),
                          {.service = service,
                           .limiter = limiter,
                           .store = **store,
                           .metrics = metrics,
                           .reloader = reloader.get()});
  if (!admin.ok()) return failed(admin.status(), "ADMIN_PORT, ADMIN_BIND");
  WarnOfStore(settings, *logger);
  Ports ports = {.grpc = (*server)->port(), .metrics = exposer->port()};
  if (*admin != nullptr) ports.admin = (*admin)->port();
  (settings.log_level == spdlog::level::off ? logger : start_logger)
      ->info("{}", StartLine(settings, ports, **store, *limiter.limits()));
  start_guard.reset();

  // --- Serving ---
  const SystemdNotifier systemd;
  // Asked on this thread, which fails the watchdog while the service hangs.
  const auto status = [&] {
    return StatusLine(service.health(), *limiter.limits(), reloader.get(), tls->get());
  };
  systemd.Ready(status());
  const auto reload = [&] {
    systemd.Reloading();
    if (reloader != nullptr) reloader->Reload();
    if (*tls != nullptr) (*tls)->Reload();
    if (reloader == nullptr && *tls == nullptr) {
      logger->info(
          "SIGHUP: nothing to reload, neither a limits file (LIMITS_FILE) nor a certificate");
    }
    systemd.Ready(status());
  };
  const int signal = signals.WaitForEnd(reload, systemd.pace(), [&] { systemd.Alive(status()); });

  // --- The end ---
  logger->info("signal {}: draining for {}, then ending; another signal ends at once", signal,
               FormatDuration(settings.drain_time));
  systemd.Stopping(fmt::format("Draining for {}", FormatDuration(settings.drain_time)),
                   settings.drain_time + ShutdownGrace(settings));
  service.readiness().StopServing();
  if (signals.EndsWithin(settings.drain_time)) _exit(kExitRuntime);
  exit_on_signal = signals.ExitOnNext();
  admin->reset();
  (*server)->Shutdown(ShutdownGrace(settings));
  logger->info("ended");
  return kExitOk;
}

}  // namespace ratelimiter
