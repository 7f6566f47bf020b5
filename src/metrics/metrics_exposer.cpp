#include "ratelimiter/metrics/metrics_exposer.h"

#include <chrono>
#include <exception>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "loopback_relay.h"
#include "ratelimiter/base/listen.h"

namespace ratelimiter {
namespace {

// A connection that sends nothing holds one of civetweb's threads for as long as this. A
// thread for each connection of the relay, so that a scrape that gets in need not wait.
constexpr int kHttpThreads = LoopbackRelay::kMaxConnections;
constexpr std::chrono::milliseconds kHttpTimeout{5000};

}  // namespace

// The exposer's HTTP server, civetweb, has no IPv6 in Debian 12, and does not tell why it cannot
// listen. So the exposer listens on a free port of 127.0.0.1, and a relay brings it the
// connections to the address that was asked for.
absl::StatusOr<MetricsExposer> MetricsExposer::Start(const std::string& bind, std::uint16_t port,
                                                     const Metrics& metrics) {
  const auto failure = [&](const std::string& why) {
    return absl::UnavailableError(
        fmt::format("cannot listen on {} port {} for metrics: {}", bind, port, why));
  };
  std::unique_ptr<prometheus::Exposer> http;
  try {
    http = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", "127.0.0.1:0", "num_threads", std::to_string(kHttpThreads),
        "request_timeout_ms", std::to_string(kHttpTimeout.count())});
  } catch (const std::exception& error) {
    return failure(error.what());
  }
  for (const auto& collectable : metrics.collectables()) http->RegisterCollectable(collectable);
  const auto http_port = static_cast<std::uint16_t>(http->GetListeningPorts().front());

  int listener = -1;
  if (const std::error_code error = Listen(bind, port, listener); error) {
    return failure(error.message());
  }
  MetricsExposer exposer(std::move(http), metrics.collectables());
  exposer.port_ = PortOf(listener);
  exposer.relay_ = std::make_unique<LoopbackRelay>(listener, http_port);
  return exposer;
}

MetricsExposer::MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                               std::vector<std::shared_ptr<prometheus::Collectable>> collectables)
    : collectables_(std::move(collectables)), exposer_(std::move(exposer)) {}

MetricsExposer::MetricsExposer(MetricsExposer&&) noexcept = default;

MetricsExposer::~MetricsExposer() = default;

}  // namespace ratelimiter
