#include "ratelimiter/config/server_tls.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstddef>
#include <ctime>
#include <string_view>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "ratelimiter/base/regular_file.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/base/time.h"

namespace ratelimiter {
namespace {

using std::chrono::system_clock;

constexpr std::chrono::seconds kLookEvery{1};
constexpr std::size_t kMaxFileBytes = std::size_t{1024} * 1024;

// A file by its setting, and what is accepted.
struct FileKind {
  std::string_view setting;
  std::string_view accepted;
};
constexpr FileKind kCertificate = {"TLS_CERT",
                                   "a PEM file of a certificate and its intermediate certificates"};
constexpr FileKind kKey = {"TLS_KEY", "a PEM file of the key of TLS_CERT, without a passphrase"};
constexpr FileKind kClientCa = {"TLS_CLIENT_CA", "a PEM file of certificates"};

struct Freer {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <typename T>
using Owned = std::unique_ptr<T, Freer>;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

absl::Status Unusable(const FileKind& kind, std::string_view reason) {
  return absl::FailedPreconditionError(
      fmt::format("{}: {}; accepted: {}", kind.setting, reason, kind.accepted));
}

absl::Status Unusable(const FileKind& kind, const std::string& path, std::string_view reason) {
  return Unusable(kind, fmt::format("{}: {}", Printable(path), reason));
}

// OpenSSL's oldest error, which shows nothing of a key.
std::string Reason() {
  const char* const reason = ERR_reason_error_string(ERR_peek_error());
  return reason != nullptr ? reason : "OpenSSL gives no reason";
}

// OpenSSL's callback for a passphrase, in place of asking on the terminal. Sets `asked`, a bool.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// Calls `use` with each certificate of a PEM text, in order; `use` returns false on an error.
// Returns their number, or INVALID_ARGUMENT with the reason.
template <typename Use>
absl::StatusOr<int> ForEachCertificate(const std::string& pem, Use use) {
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  bool locked = false;  // Certificates have no passphrase, but the file may hold anything.
  for (int count = 0;; ++count) {
    ERR_clear_error();
    Owned<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, &locked));
    if (certificate == nullptr) {
      // OpenSSL reports the end of the text so.
      if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        return absl::InvalidArgumentError(Reason());
      }
      if (count == 0) return absl::InvalidArgumentError("it holds no certificate in PEM");
      return count;
    }
    if (!use(std::move(certificate), count)) return absl::InvalidArgumentError(Reason());
  }
}

// A certificate without an end says 9999, which system_clock does not reach.
system_clock::time_point TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return SaturatingAdd(system_clock::time_point(), std::chrono::seconds(timegm(&parts)));
}

std::string Day(system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(system_clock::to_time_t(time)));
}

absl::StatusOr<std::shared_ptr<const TlsIdentity>> Make(const TlsFiles& pem,
                                                        const TlsFiles& paths) {
  auto identity = std::make_shared<TlsIdentity>();
  identity->pem = pem;
  identity->context.reset(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* const context = identity->context.get();
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for TLS");
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

  const auto certificates =
      ForEachCertificate(pem.certificate, [&](Owned<X509> certificate, int number) {
        if (number > 0) return SSL_CTX_add1_chain_cert(context, certificate.get()) == 1;
        identity->not_before = TimeOf(X509_get0_notBefore(certificate.get()));
        identity->not_after = TimeOf(X509_get0_notAfter(certificate.get()));
        return SSL_CTX_use_certificate(context, certificate.get()) == 1;
      });
  if (!certificates.ok()) {
    return Unusable(kCertificate, paths.certificate, MessageOf(certificates.status()));
  }

  const Owned<BIO> bio(BIO_new_mem_buf(pem.key.data(), static_cast<int>(pem.key.size())));
  bool locked = false;
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, &locked));
  if (key == nullptr) {
    return Unusable(kKey, paths.key, locked ? "it needs a passphrase" : "it holds no key in PEM");
  }
  ERR_clear_error();
  if (X509_check_private_key(SSL_CTX_get0_certificate(context), key.get()) != 1) {
    return Unusable(
        kKey, paths.key,
        fmt::format("it is not the key to the certificate in {}", Printable(paths.certificate)));
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return Unusable(kKey, paths.key, Reason());
  }

  if (!paths.client_ca.empty()) {
    const auto cas =
        ForEachCertificate(pem.client_ca, [](const Owned<X509>&, int) { return true; });
    if (!cas.ok()) return Unusable(kClientCa, paths.client_ca, MessageOf(cas.status()));
  }
  return identity;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Start(TlsFiles paths,
                                                            std::shared_ptr<Logger> logger) {
  std::unique_ptr<ServerTls> tls(new ServerTls(std::move(paths), std::move(logger)));
  {
    const MutexLock reading(tls->reading_);
    tls->seen_ = tls->ReadFiles();
    if (absl::Status taken = tls->Take(); !taken.ok()) return taken;
  }
  tls->worker_.emplace([&tls = *tls] {
    tls.ReloadIfChanged();
    return kLookEvery;
  });
  return tls;
}

ServerTls::ServerTls(TlsFiles paths, std::shared_ptr<Logger> logger)
    : paths_(std::move(paths)), logger_(std::move(logger)) {}

std::shared_ptr<const TlsIdentity> ServerTls::identity() const {
  const MutexLock lock(mutex_);
  return identity_;
}

bool ServerTls::in_force() const {
  const MutexLock lock(mutex_);
  return in_force_;
}

void ServerTls::Reload() {
  const MutexLock reading(reading_);
  seen_ = ReadFiles();
  Replace();
}

void ServerTls::ReloadIfChanged() {
  const MutexLock reading(reading_);
  Look look = ReadFiles();
  const bool settled = look == seen_;
  seen_ = std::move(look);
  if (settled && seen_ != judged_) Replace();
}

void ServerTls::Replace() {
  const absl::Status taken = Take();
  {
    const MutexLock lock(mutex_);
    in_force_ = taken.ok();
  }
  if (taken.ok()) {
    logger_->Limited(LogKind::kReload, spdlog::level::info,
                     "reloaded: certificate {}, valid until {}", paths_.certificate,
                     Day(identity()->not_after));
  } else {
    logger_->Limited(LogKind::kReload, spdlog::level::err,
                     "not reloaded, the old certificate stays: {}", MessageOf(taken));
  }
}

ServerTls::Look ServerTls::ReadFiles() const {
  Look look;
  const auto read = [&](const FileKind& kind, const std::string& path, std::string& pem) {
    if (path.empty() || !look.error.empty()) return;
    absl::StatusOr<std::string> text = ReadRegularFile(path, kMaxFileBytes);
    if (text.ok()) {
      pem = *std::move(text);
    } else {
      look.error = MessageOf(Unusable(kind, MessageOf(text.status())));
    }
  };
  read(kCertificate, paths_.certificate, look.pem.certificate);
  read(kKey, paths_.key, look.pem.key);
  read(kClientCa, paths_.client_ca, look.pem.client_ca);
  return look;
}

absl::Status ServerTls::Take() {
  judged_ = seen_;
  if (!judged_.error.empty()) return absl::FailedPreconditionError(judged_.error);
  absl::StatusOr<std::shared_ptr<const TlsIdentity>> made = Make(judged_.pem, paths_);
  if (!made.ok()) return made.status();
  if ((*made)->not_after < system_clock::now()) {
    logger_->Limited(LogKind::kReload, spdlog::level::warn,
                     "TLS_CERT: {}: the certificate expired on {}; clients will reject it",
                     paths_.certificate, Day((*made)->not_after));
  }
  const MutexLock lock(mutex_);
  identity_ = *std::move(made);
  return absl::OkStatus();
}

}  // namespace ratelimiter
