#include "tls_credentials.h"

#include <string>

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

namespace ratelimiter {
namespace {

// Of gRPC's C API, for what its C++ API has for changing certificates breaks calls: it
// reads the files itself, and lets go of what it has before it knows that the new is good.
class Credentials final : public grpc::ServerCredentials {
 public:
  explicit Credentials(const ServerTls& tls)
      : tls_(tls),
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                tls.asks_clients() ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                   : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                Fetch, this))) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;

  // Nothing here looks at who calls beyond the certificate.
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // gRPC asks at each new connection, and, of what is new, keeps the old if it cannot use it.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* credentials, grpc_ssl_server_certificate_config** config) {
    auto& self = *static_cast<Credentials*>(credentials);
    std::shared_ptr<const TlsIdentity> identity = self.tls_.identity();
    if (identity == self.given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const TlsFiles& pem = identity->pem;
    const grpc_ssl_pem_key_cert_pair pair = {.private_key = pem.key.c_str(),
                                             .cert_chain = pem.certificate.c_str()};
    // It wants a CA even if no client is asked: then any certificate will do.
    const std::string& client_ca = self.tls_.asks_clients() ? pem.client_ca : pem.certificate;
    *config = grpc_ssl_server_certificate_config_create(client_ca.c_str(), &pair, 1);
    self.given_ = std::move(identity);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const ServerTls& tls_;
  std::shared_ptr<const TlsIdentity> given_;
  grpc_server_credentials* const credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const ServerTls& tls) {
  return std::make_shared<Credentials>(tls);
}

}  // namespace ratelimiter
