#include "ratelimiter/server/server.h"

#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "acceptor.h"
#include "call_log.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc_logging.h"
#include "ratelimiter/server/rate_limiter_service.h"
#include "reflection_service.h"
#include "tls_credentials.h"

namespace ratelimiter {
namespace {

// So that no client, gone or still there, holds the server's resources for long.
void BoundConnections(grpc::ServerBuilder& builder, const Settings& settings) {
  const auto set = [&](const char* name, std::chrono::milliseconds value) {
    builder.AddChannelArgument(name, static_cast<int>(value.count()));
  };
  constexpr std::chrono::seconds kHello{10};
  constexpr std::chrono::seconds kPong{20};
  // One that does not say that it speaks HTTP/2, or does not end TLS's handshake, is closed.
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHello);
  // One that is gone without a word is found out, and may find us out, calls or none. By
  // gRPC's own default it would be after two hours, and never is the greatest number.
  constexpr std::chrono::milliseconds kNever{std::numeric_limits<int>::max()};
  set(GRPC_ARG_KEEPALIVE_TIME_MS,
      settings.keepalive_time > std::chrono::milliseconds(0) ? settings.keepalive_time : kNever);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPong);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, settings.keepalive_min_time);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(settings.max_concurrent_streams));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE,
                             static_cast<int>(settings.max_metadata_size));
  if (settings.max_connection_age > std::chrono::milliseconds(0)) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS, settings.max_connection_age);
    set(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, settings.max_connection_age_grace);
  }
}

void BoundThreads(grpc::ServerBuilder& builder, int max_in_flight) {
  // Handlers block while Redis answers. A thread that finishes a call while
  // enough others poll ends itself: so as many may poll as calls may be in flight,
  // and some more that refuse calls or serve reflection.
  constexpr int kMorePollers = 32;
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS,
                              max_in_flight + kMorePollers);
  // A call that is given up at once no longer counts as its connection's stream, and still
  // takes a thread: thousands of resets led to thousands of threads, and where the system
  // makes no more (pids.max, ulimit -u) gRPC 1.51 loses work, and hangs for good. This is
  // far above what callers who wait ever need; beyond it gRPC refuses calls by itself.
  constexpr int kMoreThreads = 1024;
  grpc::ResourceQuota threads;
  threads.SetMaxThreads(max_in_flight + kMoreThreads);
  builder.SetResourceQuota(threads);
}

// Publishes the daemon's health as gRPC's. The name "liveness" is serving until the end.
class GrpcHealth final : public HealthObserver {
 public:
  explicit GrpcHealth(grpc::HealthCheckServiceInterface& health) : health_(health) {
    health_.SetServingStatus("liveness", true);
  }

  void OnHealth(bool serving) override {
    health_.SetServingStatus("", serving);
    health_.SetServingStatus(limiter::RateLimiter::service_full_name(), serving);
  }
  void OnStopped() override { health_.Shutdown(); }

 private:
  grpc::HealthCheckServiceInterface& health_;
};

class GrpcServer final : public Server {
 public:
  GrpcServer(const Settings& settings, DecisionService& service, Metrics& metrics,
             std::shared_ptr<Logger> logger)
      : service_(service),
        call_log_(settings.access_log, std::move(logger)),
        methods_(service, metrics, call_log_, settings.ratelimit_headers) {}

  ~GrpcServer() override { Shutdown(std::chrono::milliseconds(0)); }

  absl::Status Listen(const Settings& settings, const ServerTls* tls,
                      std::shared_ptr<Logger> logger) {
    const auto failure = [&](const std::string& why) {
      return absl::UnavailableError(fmt::format("cannot listen on {} port {} for gRPC: {}",
                                                settings.bind, settings.port, why));
    };
    if (const auto error = acceptor_.Listen(settings.bind, settings.port); error) {
      return failure(error.message());
    }

    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Health's description must be in this program, or listing the services by
    // reflection fails on it.
    grpc::health::v1::HealthCheckRequest::descriptor();

    grpc::ServerBuilder builder;
    acceptor_.Prepare(
        builder, tls == nullptr ? grpc::InsecureServerCredentials() : TlsServerCredentials(*tls));
    BoundThreads(builder, static_cast<int>(settings.max_in_flight));
    BoundConnections(builder, settings);
    builder.RegisterService(&methods_);
    builder.RegisterService(&reflection_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return failure("gRPC's log says why");
    acceptor_.Start(std::move(logger));
    // A new one each time, for it has an age as others do.
    reflection_.Attach([this] { return server_->InProcessChannel({}); });
    health_.emplace(*server_->GetHealthCheckService());
    service_.readiness().AddObserver(*health_);
    return absl::OkStatus();
  }

  std::uint16_t port() const override { return acceptor_.port(); }

  void Shutdown(std::chrono::milliseconds grace) override {
    if (server_ == nullptr) return;
    acceptor_.Stop();
    server_->Shutdown(std::chrono::system_clock::now() + grace);
    server_->Wait();
    if (health_.has_value()) service_.readiness().RemoveObserver(*health_);
    health_.reset();
    server_.reset();
  }

 private:
  DecisionService& service_;
  Acceptor acceptor_;
  CallLog call_log_;
  RateLimiterService methods_;
  ReflectionService reflection_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<GrpcHealth> health_;  // Uses server_'s health service.
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Settings& settings,
                                                      const ServerTls* tls,
                                                      DecisionService& service, Metrics& metrics,
                                                      std::shared_ptr<Logger> logger) {
  RedirectLibraryLogs(logger);
  // Distributions build Abseil with its search for deadlocks on, which keeps a graph
  // of all locks under every lock that gRPC takes: 5 to 10 % of a call's time.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto server = std::make_unique<GrpcServer>(settings, service, metrics, logger);
  if (absl::Status status = server->Listen(settings, tls, std::move(logger)); !status.ok()) {
    return status;
  }
  return server;
}

}  // namespace ratelimiter
