#pragma once

#include <memory>

#include <grpcpp/security/server_credentials.h>

#include "ratelimiter/config/server_tls.h"

namespace ratelimiter {

// gRPC's credentials by which each new connection gets the identity then in force. `tls`
// must outlive the server, and the credentials each handshake, for gRPC does not keep them.
// To be used on one thread: gRPC 1.51 does not expect that one connection begins while
// another has the identity replaced.
std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const ServerTls& tls);

}  // namespace ratelimiter
