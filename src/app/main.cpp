// Wires the daemon together, runs it, reads the limits file and the certificate again on
// SIGHUP, and ends on SIGTERM or SIGINT; tells systemd of all that.

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include "ratelimiter/admin/admin_server.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/base/secret_file.h"
#include "ratelimiter/base/systemd_notifier.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/server/server.h"
#include "ratelimiter/service/decision_service.h"
#include "ratelimiter/service/degradation_report.h"

namespace ratelimiter {
namespace {

// How long calls that are in flight when no more are accepted may take: above
// what the store waits, to send a command and for its reply.
std::chrono::milliseconds ShutdownGrace(const Settings& settings) {
  constexpr std::chrono::milliseconds kLeast{5000};
  constexpr std::chrono::milliseconds kMargin{1000};
  return std::max(kLeast, 2 * settings.redis_timeout + kMargin);
}

// The signals that end the daemon, waited for instead of handled: what they
// start (locks, I/O) is not for a signal handler.
class EndSignals {
 public:
  // Blocks them, and SIGHUP, in this thread and those that it starts: to be
  // called first.
  EndSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    with_hangup_ = signals_;
    sigaddset(&with_hangup_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &with_hangup_, nullptr);
  }

  // Does `on_hangup` at each SIGHUP that comes meanwhile, and `on_quiet` each time that
  // none has come for `pace`.
  int Wait(const std::function<void()>& on_hangup, std::chrono::nanoseconds pace,
           const std::function<void()>& on_quiet) const {
    while (true) {
      const int signal = Next(with_hangup_, pace);
      if (signal > 0 && signal != SIGHUP) return signal;
      signal == SIGHUP ? on_hangup() : on_quiet();
    }
  }

  // Whether one came within `time`.
  bool WaitFor(std::chrono::milliseconds time) const { return Next(signals_, time) > 0; }

 private:
  // The next of `signals` that comes within `time`; 0: none does.
  static int Next(const sigset_t& signals, std::chrono::nanoseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (true) {
      const std::chrono::nanoseconds left =
          std::max(end - std::chrono::steady_clock::now(), std::chrono::nanoseconds(0));
      const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
      const timespec timeout = {.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
      const int signal = sigtimedwait(&signals, nullptr, &timeout);
      if (signal > 0) return signal;
      // A process that is stopped and continued comes back too early.
      if (errno != EINTR) return 0;
    }
  }

  sigset_t signals_{};
  sigset_t with_hangup_{};
};

// nullptr: Redis is spoken to without TLS, or not at all.
absl::StatusOr<std::shared_ptr<const TlsContext>> MakeRedisTls(const Settings& settings) {
  if (settings.store != StoreKind::kRedis || !settings.redis_url.tls) return nullptr;
  return TlsContext::Create({.ca_file = settings.redis_tls_ca,
                             .certificate_file = settings.redis_tls_cert,
                             .key_file = settings.redis_tls_key,
                             .server_name = settings.redis_tls_server_name});
}

// nullptr: gRPC and the admin server speak without TLS.
absl::StatusOr<std::unique_ptr<ServerTls>> StartTls(const Settings& settings,
                                                    std::shared_ptr<Logger> logger) {
  if (settings.tls.certificate.empty()) return nullptr;
  return ServerTls::Start(settings.tls, std::move(logger));
}

double UnixSeconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

void ShowInMetrics(const ServerTls& tls, Metrics& metrics) {
  metrics.Publish(Metric::kTlsLastReload, [&tls] { return tls.in_force() ? 1 : 0; });
  metrics.Publish(Metric::kTlsNotBefore,
                  [&tls] { return UnixSeconds(tls.identity()->not_before); });
  metrics.Publish(Metric::kTlsNotAfter, [&tls] { return UnixSeconds(tls.identity()->not_after); });
}

RedisServer ServerOf(const Settings& settings) {
  const RedisUrl& url = settings.redis_url;
  return {.host = url.host,
          .port = url.port,
          .socket = url.socket,
          .sentinels = url.sentinels,
          .master = url.master,
          .sentinel_password = settings.redis_sentinel_password,
          .cluster = url.cluster,
          .user = url.user,
          .password = url.password,
          .password_file = settings.redis_password_file,
          .database = url.database};
}

std::unique_ptr<TokenBucketStore> MakeStore(const Settings& settings,
                                            std::shared_ptr<const TlsContext> tls,
                                            const Clock& clock, Metrics& metrics,
                                            const std::shared_ptr<Logger>& logger) {
  if (settings.store == StoreKind::kMemory) {
    return std::make_unique<MemoryTokenBucket>(settings.memory_max_buckets, clock);
  }
  RedisServer server = ServerOf(settings);
  server.tls = std::move(tls);
  return std::make_unique<RedisTokenBucket>(
      RedisOptions{
          .server = std::move(server),
          .timeout = settings.redis_timeout,
          .pool_size = settings.redis_pool_size,
          .key_prefix = settings.key_prefix,
          .deny_cache_max_age = settings.deny_cache_max_age,
          .deny_cache_size = settings.deny_cache_size,
          .on_breaker =
              [logger](bool open, const std::string& message) {
                logger->Limited(LogKind::kBreaker, open ? spdlog::level::warn : spdlog::level::info,
                                "{}", message);
              },
          .on_evicting = [logger](const std::string& message) { logger->warn("{}", message); }},
      metrics, clock);
}

std::string DescribeLimits(const Settings& settings, const LimitSet& limits) {
  if (!settings.limits_file.empty()) {
    return fmt::format("{} limits of {}", limits.limits().size(), settings.limits_file);
  }
  const BucketSpec& spec = settings.spec;
  return fmt::format("limit \"default\", {} tokens, {} back every {}", spec.capacity,
                     spec.refill_tokens, FormatDuration(spec.refill_interval));
}

void ShowInMetrics(const LimitSet& limits, Metrics& metrics) {
  for (const Limit& limit : limits.limits()) metrics.decisions().Show(limit.name);
}

// nullptr: there is no limits file.
std::unique_ptr<LimitsReloader> MakeReloader(const Settings& settings, LimitsFile in_force,
                                             Limiter& limiter, Metrics& metrics,
                                             std::shared_ptr<Logger> logger) {
  if (settings.limits_file.empty()) return nullptr;
  auto reloader = std::make_unique<LimitsReloader>(
      settings.limits_file, std::move(in_force),
      [&](const std::shared_ptr<const LimitSet>& limits) {
        ShowInMetrics(*limits, metrics);
        limiter.SetLimits(limits);
      },
      std::move(logger));
  metrics.Publish(Metric::kConfigReloads, [&reloader = *reloader](std::size_t result) {
    const ReloadState state = reloader.state();
    return static_cast<double>(result == 0 ? state.succeeded : state.failed);
  });
  metrics.Publish(Metric::kConfigLastReload,
                  [&reloader = *reloader] { return reloader.state().errors.empty() ? 1 : 0; });
  metrics.Publish(Metric::kConfigLoaded,
                  [&reloader = *reloader] { return UnixSeconds(reloader.state().loaded_at); });
  return reloader;
}

// For a person who asks systemd how the daemon is. `reloader`: nullptr without a limits file;
// `tls`: without TLS.
std::string DescribeState(const Health& health, const LimitSet& limits,
                          const LimitsReloader* reloader, const ServerTls* tls) {
  const bool old_limits = reloader != nullptr && !reloader->state().errors.empty();
  const bool old_certificate = tls != nullptr && !tls->in_force();
  return fmt::format("{}{}{}; limits: {}{}{}", health.serving ? "Serving" : "Not serving",
                     health.reason.empty() ? "" : ": ", health.reason, limits.limits().size(),
                     old_limits ? ", as before, for what the file says now is refused" : "",
                     old_certificate ? "; certificate as before, for the new one is refused" : "");
}

// nullptr: no admin server is wanted.
absl::StatusOr<std::unique_ptr<AdminServer>> StartAdmin(const Settings& settings,
                                                        const ServerTls* tls,
                                                        const AdminBackend& backend) {
  if (!settings.admin_port.has_value()) return nullptr;
  return AdminServer::Start(settings, settings.admin_tls ? tls : nullptr, backend);
}

std::string_view DescribeTls(const Settings& settings) {
  if (settings.tls.certificate.empty()) return "";
  return settings.tls.client_ca.empty() ? " over TLS" : " over mTLS";
}

std::string DescribeAdmin(const Settings& settings, const AdminServer* admin) {
  if (admin == nullptr) return "";
  return fmt::format(", admin on {} port {}{}", settings.admin_bind, admin->port(),
                     settings.admin_tls ? " over TLS" : "");
}

// Ends the process at once if another end signal comes before it is destroyed.
std::jthread EndAtOnceIfSignalled(const EndSignals& signals) {
  return std::jthread([&](const std::stop_token& done) {
    constexpr std::chrono::milliseconds kGlance{50};
    while (!done.stop_requested()) {
      if (signals.WaitFor(kGlance)) _exit(kExitRuntime);
    }
  });
}

// What can be told at once of a file that is read anew whenever it is needed.
absl::Status CheckSecretFile(std::string_view setting, const std::string& path,
                             std::string_view what) {
  if (path.empty()) return absl::OkStatus();
  const auto secret = ReadSecretFile(path);
  if (secret.ok()) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("{}: {}; accepted: a regular file whose first line is the {}", setting,
                  std::string(secret.status().message()), what));
}

absl::Status CheckPasswordFile(const Settings& settings) {
  if (settings.store != StoreKind::kRedis) return absl::OkStatus();
  return CheckSecretFile("REDIS_PASSWORD_FILE", settings.redis_password_file, "password");
}

absl::Status CheckAdminTokenFile(const Settings& settings) {
  return CheckSecretFile("ADMIN_TOKEN_FILE", settings.admin_token_file, "token");
}

int Run(const Settings& settings) {
  const EndSignals signals;
  // A peer that has gone is told by write()'s error.
  std::signal(SIGPIPE, SIG_IGN);

  const auto logger = MakeLogger(settings.log_level, settings.log_format);
  const auto redis_tls = MakeRedisTls(settings);
  const auto tls = StartTls(settings, logger);
  for (const absl::Status& file : {redis_tls.status(), CheckPasswordFile(settings), tls.status(),
                                   CheckAdminTokenFile(settings)}) {
    if (file.ok()) continue;
    std::cerr << file.message() << '\n';
    return kExitConfig;
  }
  LimitsFile file = settings.limits_file.empty()
                        ? LimitsFile{.limits = DefaultLimits(settings.spec)}
                        : ReadLimitsFile(settings.limits_file);
  for (const std::string& error : file.errors) std::cerr << error << '\n';
  if (!file.errors.empty()) return kExitConfig;
  for (const std::string& warning : file.warnings) logger->warn("{}", warning);

  // For what a start must tell whatever LOG_LEVEL says: why it failed, and, unless
  // the log is off, what it has started and on which ports.
  const auto start_logger = logger->AtLevel(spdlog::level::info);
  const bool quiet = settings.log_level == spdlog::level::off;
  std::jthread impatience;  // Before all whose end takes time.
  const SteadyClock clock;
  Metrics metrics(settings.metrics_max_users, RATELIMITER_VERSION,
                  {.label = settings.metrics_user_label, .top = settings.metrics_top_users});
  metrics.Publish(Metric::kLogDropped, [logger](std::size_t kind) {
    return static_cast<double>(logger->dropped(static_cast<LogKind>(kind)));
  });
  if (*tls != nullptr) ShowInMetrics(**tls, metrics);
  const std::unique_ptr<TokenBucketStore> store =
      MakeStore(settings, *redis_tls, clock, metrics, logger);
  store->PublishIn(metrics);
  DegradationReport report(metrics, logger);
  Fallback fallback(
      {.mode = settings.fail_mode,
       .local_fraction = settings.local_fraction,
       .make_local =
           [&] { return std::make_unique<MemoryTokenBucket>(settings.memory_max_buckets, clock); }},
      clock, report);
  Limiter limiter(file.limits, *store, &fallback);
  ShowInMetrics(*file.limits, metrics);
  const auto reloader = MakeReloader(settings, std::move(file), limiter, metrics, logger);

  DecisionService service(limiter, *store, metrics, logger,
                          {.max_in_flight = settings.max_in_flight,
                           .serves_without_store = settings.fail_mode != FailMode::kError});

  // gRPC first: an exposer takes seconds to end.
  auto server = Server::Start(settings, tls->get(), service, metrics, logger);
  if (!server.ok()) {
    start_logger->error("{} (PORT, BIND)", std::string(server.status().message()));
    return kExitRuntime;
  }
  service.readiness().Start();
  service.readiness().WaitForFirstCheck();
  auto exposer = MetricsExposer::Start(settings.metrics_bind, settings.metrics_port, metrics);
  if (!exposer.ok()) {
    start_logger->error("{} (METRICS_PORT, METRICS_BIND)", std::string(exposer.status().message()));
    return kExitRuntime;
  }
  auto admin = StartAdmin(settings, tls->get(),
                          {.service = service,
                           .limiter = limiter,
                           .store = *store,
                           .metrics = metrics,
                           .reloader = reloader.get()});
  if (!admin.ok()) {
    start_logger->error("{} (ADMIN_PORT, ADMIN_BIND)", std::string(admin.status().message()));
    return kExitRuntime;
  }
  if (settings.store == StoreKind::kMemory) {
    logger->warn("STORE=memory: quotas are this process's alone, not shared with other instances");
  }
  (quiet ? logger : start_logger)
      ->info("ratelimiterd {}: gRPC on {} port {}{}, metrics on {} port {}{}, store {}, {}",
             RATELIMITER_VERSION, settings.bind, (*server)->port(), DescribeTls(settings),
             settings.metrics_bind, exposer->port(), DescribeAdmin(settings, admin->get()),
             store->Describe(), DescribeLimits(settings, *limiter.limits()));

  const SystemdNotifier systemd;
  // Asked by this thread, which does not answer the watchdog while the server cannot say.
  const auto status = [&] {
    return DescribeState(service.health(), *limiter.limits(), reloader.get(), tls->get());
  };
  systemd.Ready(status());
  const auto reload = [&] {
    systemd.Reloading();
    if (reloader != nullptr) reloader->Reload();
    if (*tls != nullptr) (*tls)->Reload();
    if (reloader == nullptr && *tls == nullptr) {
      logger->info(
          "SIGHUP: there is no limits file to read again (LIMITS_FILE), and no certificate");
    }
    systemd.Ready(status());
  };
  const int signal = signals.Wait(reload, systemd.pace(), [&] { systemd.Alive(status()); });
  logger->info("signal {}: draining for {}, then ending; another one ends at once", signal,
               FormatDuration(settings.drain_time));
  systemd.Stopping(fmt::format("Draining for {}", FormatDuration(settings.drain_time)),
                   settings.drain_time + ShutdownGrace(settings));
  service.readiness().StopServing();
  if (signals.WaitFor(settings.drain_time)) _exit(kExitRuntime);
  impatience = EndAtOnceIfSignalled(signals);
  admin->reset();
  (*server)->Shutdown(ShutdownGrace(settings));
  logger->info("ended");
  return kExitOk;
}

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) {
  const ratelimiter::SettingsResult settings = ratelimiter::ReadSettings(argc, argv);
  if (settings.settings.has_value()) return ratelimiter::Run(*settings.settings);
  (settings.exit_code == ratelimiter::kExitOk ? std::cout : std::cerr) << settings.message;
  return settings.exit_code;
}
