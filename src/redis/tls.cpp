#include "ratelimiter/redis/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

std::string SystemMessage(int error) { return std::generic_category().message(error); }

std::string OpenSslMessage(unsigned long error) {
  if (ERR_SYSTEM_ERROR(error)) return SystemMessage(ERR_GET_REASON(error));
  const char* const reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : fmt::format("error {:x} of OpenSSL", error);
}

absl::Status NoMemory() { return absl::UnavailableError("no memory for a TLS session"); }

// --- Files ---

// A file by the setting that names it, and what is accepted as one.
struct File {
  std::string_view setting;
  const std::string& path;
  std::string_view accepted;
};

absl::Status Unusable(const File& file, std::string_view reason) {
  return absl::FailedPreconditionError(fmt::format("{}: {}: {}; accepted: {}", file.setting,
                                                   Printable(file.path, kMaxShownBytes), reason,
                                                   file.accepted));
}

// Has `load`, which returns 1 if it could, read a file, if there is one.
template <typename Load>
absl::Status Use(const File& file, Load load) {
  if (file.path.empty()) return absl::OkStatus();
  // Reading a pipe could wait for ever.
  std::error_code error;
  const bool regular = std::filesystem::is_regular_file(file.path, error);
  if (error) return Unusable(file, error.message());
  if (!regular) return Unusable(file, "it is not a regular file");
  ERR_clear_error();
  if (load(file.path.c_str()) == 1) return absl::OkStatus();
  return Unusable(file, OpenSslMessage(ERR_peek_error()));
}

// Has the handshake fail unless the server's certificate is for `name`, which the
// server is told, for it may have several.
bool Expect(std::string name, SSL* session) {
  X509_VERIFY_PARAM* const checks = SSL_get0_param(session);
  if (X509_VERIFY_PARAM_set1_ip_asc(checks, name.c_str()) == 1) return true;
  return X509_VERIFY_PARAM_set1_host(checks, name.c_str(), name.size()) == 1 &&
         // SSL_set_tlsext_host_name, without the macro's old-style cast.
         SSL_ctrl(session, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.data()) ==
             1;
}

// --- What is to be said of a failure ---

struct Advice {
  long code;
  std::string_view text;
};

template <std::size_t N>
std::string_view Find(const std::array<Advice, N>& advice, long code) {
  const auto* const found = std::ranges::find(advice, code, &Advice::code);
  return found == advice.end() ? std::string_view() : found->text;
}

constexpr std::string_view kWrongName =
    "it is for another name; REDIS_TLS_SERVER_NAME is the name it must have, if that is not the "
    "host in REDIS_URL";
constexpr std::string_view kUnknownCa =
    "its CA is not trusted; REDIS_TLS_CA is the file of the CAs that are";

// Of the server's certificate, by what verifying it found.
constexpr std::array<Advice, 8> kUnverified = {
    {{X509_V_ERR_HOSTNAME_MISMATCH, kWrongName},
     {X509_V_ERR_IP_ADDRESS_MISMATCH, kWrongName},
     {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, kUnknownCa},
     {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, kUnknownCa},
     {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, kUnknownCa},
     {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, kUnknownCa},
     {X509_V_ERR_CERT_HAS_EXPIRED, "it, or its CA's, has expired: renew it at the server"},
     {X509_V_ERR_CERT_NOT_YET_VALID,
      "it, or its CA's, is not valid yet: is this machine's clock right?"}}};

constexpr std::string_view kCertificateRefused =
    "the server refuses the certificate of REDIS_TLS_CERT";
constexpr std::string_view kTooOld = "the server speaks no TLS 1.2 or later";

// Of anything else, by the reason of the error.
constexpr std::array<Advice, 10> kFailures = {
    {{SSL_R_WRONG_VERSION_NUMBER,
      "the server does not speak TLS; without it, REDIS_URL begins with redis://"},
     {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
      "the server asks for a certificate of ours: set REDIS_TLS_CERT and REDIS_TLS_KEY"},
     {SSL_R_TLSV1_ALERT_UNKNOWN_CA, kCertificateRefused},
     {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, kCertificateRefused},
     {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, kCertificateRefused},
     {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, kCertificateRefused},
     {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, kCertificateRefused},
     {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, kCertificateRefused},
     {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, kTooOld},
     {SSL_R_UNSUPPORTED_PROTOCOL, kTooOld}}};

absl::Status Closed() { return absl::UnavailableError("Server closed the connection"); }

}  // namespace

void TlsContext::Deleter::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

TlsContext::TlsContext(TlsOptions options)
    : options_(std::move(options)), context_(SSL_CTX_new(TLS_client_method())) {}

absl::StatusOr<std::shared_ptr<const TlsContext>> TlsContext::Create(TlsOptions options) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::FailedPreconditionError(
        "REDIS_TLS_CERT, REDIS_TLS_KEY: one is set without the other; accepted: both, or none");
  }
  std::shared_ptr<TlsContext> context(new TlsContext(std::move(options)));
  SSL_CTX* const openssl = context->context_.get();
  if (openssl == nullptr) return NoMemory();
  SSL_CTX_set_min_proto_version(openssl, TLS1_2_VERSION);
  SSL_CTX_set_verify(openssl, SSL_VERIFY_PEER, nullptr);
  // Redis's replies say where they end.
  SSL_CTX_set_options(openssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(openssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Otherwise OpenSSL would ask for a key's passphrase on the terminal.
  SSL_CTX_set_default_passwd_cb(openssl, [](char*, int, int, void*) { return -1; });
  if (absl::Status used = context->UseCas(); !used.ok()) return used;
  const std::unique_ptr<SSL, TlsSession::Deleter> trial(SSL_new(openssl));
  if (trial == nullptr) return NoMemory();
  if (absl::Status used = context->UseCertificate(trial.get()); !used.ok()) return used;
  return context;
}

absl::StatusOr<TlsSession> TlsContext::NewSession(const std::string& host, int socket) const {
  std::unique_ptr<SSL, TlsSession::Deleter> session(SSL_new(context_.get()));
  const std::string& name = options_.server_name.empty() ? host : options_.server_name;
  if (session == nullptr || SSL_set_fd(session.get(), socket) != 1 ||
      !Expect(name, session.get())) {
    return NoMemory();
  }
  // The files are read again for each connection: whoever replaces them may mend them.
  if (const absl::Status used = UseCertificate(session.get()); !used.ok()) {
    return absl::UnavailableError(std::string(used.message()));
  }
  return TlsSession(std::move(session), !options_.certificate_file.empty());
}

absl::Status TlsContext::UseCas() {
  if (options_.ca_file.empty()) {
    return SSL_CTX_set_default_verify_paths(context_.get()) == 1 ? absl::OkStatus() : NoMemory();
  }
  return Use({"REDIS_TLS_CA", options_.ca_file, "a file of certificates in PEM"},
             [&](const char* path) { return SSL_CTX_load_verify_file(context_.get(), path); });
}

absl::Status TlsContext::UseCertificate(SSL* session) const {
  absl::Status used =
      Use({"REDIS_TLS_CERT", options_.certificate_file,
           "a file in PEM of a certificate, and those between it and its CA's"},
          [&](const char* path) { return SSL_use_certificate_chain_file(session, path); });
  if (!used.ok()) return used;
  return Use(
      {"REDIS_TLS_KEY", options_.key_file,
       "a file in PEM of the key to REDIS_TLS_CERT, without a passphrase"},
      [&](const char* path) { return SSL_use_PrivateKey_file(session, path, SSL_FILETYPE_PEM); });
}

void TlsSession::Deleter::operator()(SSL* session) const { SSL_free(session); }

TlsSession::TlsSession(std::unique_ptr<SSL, Deleter> session, bool has_certificate)
    : session_(std::move(session)), has_certificate_(has_certificate) {}

IoResult TlsSession::Handshake() {
  ERR_clear_error();
  return Result(SSL_connect(session_.get()));
}

IoResult TlsSession::Read(std::span<char> buffer) {
  ERR_clear_error();
  return Result(SSL_read(session_.get(), buffer.data(), static_cast<int>(buffer.size())));
}

IoResult TlsSession::Write(std::string_view bytes) {
  ERR_clear_error();
  const std::size_t size = std::min(bytes.size(), kBufferBytes);
  IoResult written = Result(SSL_write(session_.get(), bytes.data(), static_cast<int>(size)));
  if (written.status.ok()) return written;
  // A server that ends the session says why before it does, and that is still to be read.
  IoResult said = Peek();
  return said.status.ok() ? written : said;
}

bool TlsSession::IsIdle() const {
  const IoResult peeked = Peek();
  return peeked.status.ok() && peeked.bytes == 0;
}

IoResult TlsSession::Peek() const {
  char byte = 0;
  ERR_clear_error();
  return Result(SSL_peek(session_.get(), &byte, 1));
}

IoResult TlsSession::Result(int returned) const {
  const int system_error = errno;
  switch (SSL_get_error(session_.get(), returned)) {
    case SSL_ERROR_NONE:
      return {.bytes = static_cast<std::size_t>(returned)};
    case SSL_ERROR_WANT_READ:
      return {.wait_for = POLLIN};
    case SSL_ERROR_WANT_WRITE:
      return {.wait_for = POLLOUT};
    case SSL_ERROR_ZERO_RETURN:
      return {.status = Closed()};
    case SSL_ERROR_SYSCALL:
      if (system_error == 0) return {.status = Closed()};
      return {.status = absl::UnavailableError(SystemMessage(system_error))};
    default:
      return {.status = absl::UnavailableError(Reason(ERR_peek_error()))};
  }
}

std::string TlsSession::Reason(unsigned long error) const {
  const long verified = SSL_get_verify_result(session_.get());
  if (verified != X509_V_OK) {
    const std::string_view advice = Find(kUnverified, verified);
    return fmt::format("the server's certificate is not accepted: {}",
                       advice.empty() ? X509_verify_cert_error_string(verified) : advice);
  }
  std::string_view advice = Find(kFailures, ERR_GET_REASON(error));
  // What TLS 1.2 says of a certificate that is missing, among other things.
  if (!has_certificate_ && ERR_GET_REASON(error) == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE) {
    advice = "the server may ask for a certificate of ours: REDIS_TLS_CERT and REDIS_TLS_KEY";
  }
  return fmt::format("TLS failed: {}{}{}", OpenSslMessage(error), advice.empty() ? "" : "; ",
                     advice);
}

}  // namespace ratelimiter
