#include "endpoint_resolver.h"

#include <utility>

#include "dns_resolver.h"
#include "sentinel_resolver.h"

namespace ratelimiter {
namespace {

class SocketResolver final : public EndpointResolver {
 public:
  explicit SocketResolver(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<Endpoint> Find(Deadline /*deadline*/) override {
    return Endpoint{.addresses = {path_}};
  }

 private:
  const std::string path_;
};

}  // namespace

std::unique_ptr<EndpointResolver> MakeEndpointResolver(const RedisServer& server,
                                                       std::chrono::milliseconds timeout) {
  if (!server.sentinels.empty()) return std::make_unique<SentinelResolver>(server, timeout);
  if (!server.socket.empty()) return std::make_unique<SocketResolver>(server.socket);
  return std::make_unique<DnsResolver>(server.host);
}

}  // namespace ratelimiter
