#pragma once

#include <openssl/ssl.h>

#include <array>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "support/certificates.h"
#include "support/tcp.h"
#include "unit/redis/fake_redis.h"

namespace ratelimiter::testing {

// The server's side of a TLS session, whose certificate is for localhost. Waits as the
// socket does.
class TlsPeer {
 public:
  explicit TlsPeer(const Socket& connection)
      : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free), session_(nullptr, SSL_free) {
    const std::string certificate = Certificate("localhost");
    const std::string key = KeyOf("localhost");
    SSL_CTX_use_certificate_file(context_.get(), certificate.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM);
    session_.reset(SSL_new(context_.get()));
    SSL_set_fd(session_.get(), connection.descriptor());
    SSL_accept(session_.get());
  }

  SSL* session() const { return session_.get(); }

  std::string Read() const {
    std::array<char, 4096> buffer{};
    const int count = SSL_read(session_.get(), buffer.data(), int{buffer.size()});
    return {buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0};
  }
  // False: the other side does not take it any more.
  bool Write(std::string_view text) const {
    return SSL_write(session_.get(), text.data(), static_cast<int>(text.size())) > 0;
  }

 private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> session_;
};

// A server that introduces itself as Redis over TLS, and then does as it is told; what
// it was told ends when the client does.
class FakeTlsRedis : public TcpServer {
 public:
  explicit FakeTlsRedis(const std::function<void(const TlsPeer& peer)>& then)
      : TcpServer([then](const Socket& connection) {
          const TlsPeer peer(connection);
          peer.Read();
          peer.Write(Hello("redis", "7.0.0"));
          then(peer);
          connection.AwaitEnd();
        }) {}
};

}  // namespace ratelimiter::testing
