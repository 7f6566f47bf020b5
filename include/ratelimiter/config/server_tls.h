#pragma once

#include <openssl/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <absl/status/statusor.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/base/mutex.h"
#include "ratelimiter/base/periodic_worker.h"

namespace ratelimiter {

// The paths of TLS_CERT, TLS_KEY and TLS_CLIENT_CA, or the content of these files. Empty: not
// set.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsFiles&) const = default;
};

// The certificate that the daemon's servers present, and the CAs of clients.
struct TlsIdentity {
  // In PEM. The certificate is followed by its intermediate certificates.
  TlsFiles pem;
  // For servers other than gRPC's: certificate and key, TLS 1.2 and later, no client
  // certificates. Threads may make sessions with it at once.
  std::shared_ptr<SSL_CTX> context;
  // The validity of the certificate.
  std::chrono::system_clock::time_point not_before;
  std::chrono::system_clock::time_point not_after;
};

// Keeps the daemon's TLS identity current: reads the files every second and on Reload. Files
// that are rejected or missing change nothing; this is logged once until they change again.
//
// A change is applied once two reads in a row agree, so that a certificate and its key may be
// replaced one after the other. Changes are found by content, and so work for a rename, a mount,
// or a swapped symbolic link.
//
// Thread-safe.
class ServerTls {
 public:
  // Errors: FAILED_PRECONDITION, with the setting, the file, what is wrong with it and what is
  // accepted, and none of the content.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Start(TlsFiles paths,
                                                          std::shared_ptr<Logger> logger);

  // The current identity. Each reload makes a new object.
  std::shared_ptr<const TlsIdentity> identity() const EXCLUDES(mutex_);

  // False while the files are rejected and the previous identity is kept.
  bool in_force() const EXCLUDES(mutex_);

  bool asks_clients() const { return !paths_.client_ca.empty(); }

  // Reads the files now, changed or not.
  void Reload() EXCLUDES(reading_, mutex_);

 private:
  ServerTls(TlsFiles paths, std::shared_ptr<Logger> logger);

  // The content of all files, or the error of the first that cannot be read.
  struct Look {
    TlsFiles pem;
    std::string error;

    bool operator==(const Look&) const = default;
  };

  Look ReadFiles() const;
  void ReloadIfChanged() EXCLUDES(reading_, mutex_);
  // Takes what was seen, and logs the outcome.
  void Replace() REQUIRES(reading_) EXCLUDES(mutex_);
  // Makes what was seen the identity, if it is accepted.
  absl::Status Take() REQUIRES(reading_) EXCLUDES(mutex_);

  // Constant after construction.
  const TlsFiles paths_;
  const std::shared_ptr<Logger> logger_;

  Mutex reading_;
  Look seen_ GUARDED_BY(reading_);    // As last read.
  Look judged_ GUARDED_BY(reading_);  // As last accepted or rejected.

  mutable Mutex mutex_;
  std::shared_ptr<const TlsIdentity> identity_ GUARDED_BY(mutex_);
  bool in_force_ GUARDED_BY(mutex_) = true;

  std::optional<PeriodicWorker> worker_;  // Last: it uses all the others.
};

}  // namespace ratelimiter
