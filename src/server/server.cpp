#include "ratelimiter/server/server.h"

#include <string>
#include <utility>

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "acceptor.h"
#include "backlog.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc_logging.h"
#include "ratelimiter/server/load_shedder.h"
#include "ratelimiter/server/rate_limiter_service.h"
#include "readiness.h"
#include "reflection_service.h"

namespace ratelimiter {
namespace {

class GrpcServer final : public Server {
 public:
  GrpcServer(const Settings& settings, Limiter& limiter, Metrics& metrics, const Clock& clock)
      : shedder_(
            settings.max_in_flight, [this] { return backlog_.Calls(); }, clock),
        service_(limiter, metrics, shedder_, settings.ratelimit_headers) {
    metrics.PublishInFlight([this] { return shedder_.in_flight(); });
  }

  ~GrpcServer() override { Shutdown(std::chrono::milliseconds(0)); }

  absl::Status Listen(const Settings& settings, TokenBucketStore& store,
                      std::shared_ptr<spdlog::logger> logger) {
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
    acceptor_.Prepare(builder);
    // Handlers block while Redis answers. A thread that finishes a call while
    // enough others poll ends itself: so as many may poll as calls may be in flight,
    // and some more that refuse calls or serve reflection.
    constexpr int kMorePollers = 32;
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS,
                                static_cast<int>(settings.max_in_flight) + kMorePollers);
    builder.RegisterService(&service_);
    builder.RegisterService(&reflection_);
    backlog_.Prepare(builder);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return failure("gRPC's log says why");
    acceptor_.Start(logger);
    backlog_.Attach();
    reflection_.Attach(server_->InProcessChannel({}));
    readiness_ =
        std::make_unique<Readiness>(store, *server_->GetHealthCheckService(), std::move(logger));
    return absl::OkStatus();
  }

  std::uint16_t port() const override { return acceptor_.port(); }

  bool ready() const override { return readiness_->ready(); }

  void StopServing() override { readiness_->StopServing(); }

  void Shutdown(std::chrono::milliseconds grace) override {
    if (server_ == nullptr) return;
    acceptor_.Stop();
    server_->Shutdown(std::chrono::system_clock::now() + grace);
    server_->Wait();
    // Only now, for its thread may be waiting for the store, as calls may.
    readiness_.reset();
    reflection_.Detach();
    server_.reset();
  }

 private:
  Acceptor acceptor_;
  Backlog backlog_;
  LoadShedder shedder_;
  RateLimiterService service_;
  ReflectionService reflection_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Readiness> readiness_;  // Uses server_'s health service.
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Settings& settings, Limiter& limiter,
                                                      TokenBucketStore& store, Metrics& metrics,
                                                      const Clock& clock,
                                                      std::shared_ptr<spdlog::logger> logger) {
  RedirectLibraryLogs(logger);
  // Distributions build Abseil with its search for deadlocks on, which keeps a graph
  // of all locks under every lock that gRPC takes: 5 to 10 % of a call's time.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto server = std::make_unique<GrpcServer>(settings, limiter, metrics, clock);
  if (absl::Status status = server->Listen(settings, store, std::move(logger)); !status.ok()) {
    return status;
  }
  return server;
}

}  // namespace ratelimiter
