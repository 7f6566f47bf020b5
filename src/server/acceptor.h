#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <thread>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "ratelimiter/base/log.h"

namespace ratelimiter {

// Accepts gRPC's connections, on a thread of its own, in gRPC's place: gRPC 1.51 never
// listens again once it found no descriptor free. A connection that would take one of
// the last is closed at once, so that metrics, the admin server and Redis find some; of
// these the reserve is a quarter, 128 at most, of what the process may have.
//
// Listen, Prepare, Start and Stop in this order, by one thread.
class Acceptor {
 public:
  Acceptor() = default;
  ~Acceptor() { Stop(); }

  // Listens; nothing is accepted yet. On "::" IPv4 too.
  std::error_code Listen(const std::string& address, std::uint16_t port);

  // Before the server is built.
  void Prepare(grpc::ServerBuilder& builder, std::shared_ptr<grpc::ServerCredentials> credentials);

  // As soon as the server has been started.
  void Start(std::shared_ptr<Logger> logger);

  // Ends listening. What was accepted is the server's.
  void Stop();

  std::uint16_t port() const { return port_; }

 private:
  void Run(const std::stop_token& stop, Logger& logger);

  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> server_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::jthread thread_;
};

}  // namespace ratelimiter
