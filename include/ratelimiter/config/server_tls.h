#pragma once

#include <openssl/types.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <absl/status/statusor.h>

#include "ratelimiter/base/log.h"

namespace ratelimiter {

// The files of TLS_CERT, TLS_KEY and TLS_CLIENT_CA, or what they hold. Empty: not given.
struct TlsFiles {
  std::string certificate;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsFiles&) const = default;
};

// Who the daemon is on TLS connections, and whom it takes for a client.
struct TlsIdentity {
  // In PEM. The certificate has those between it and its CA's behind it.
  TlsFiles pem;
  // For servers other than gRPC's: certificate and key, TLS 1.2 and later, and no
  // certificate is asked of clients. Thread-safe to make sessions with.
  std::shared_ptr<SSL_CTX> context;
  // From when until when the certificate is valid.
  std::chrono::system_clock::time_point not_before;
  std::chrono::system_clock::time_point not_after;
};

// Keeps the daemon's identity at what the files say: looks at them every second, and
// reads them when it is told to. Files that are not accepted, or are gone, change
// nothing, and it is logged, once until they change again.
//
// A change counts once the files have been the same at two looks, so that a certificate
// and its key may be replaced one after the other. By their content, whichever way it
// comes to be there: a rename, a mount, or the swap of a symbolic link.
//
// Thread-safe.
class ServerTls {
 public:
  // Errors: UNAVAILABLE, with the setting, the file, what is wrong with it, and what is
  // accepted; never anything of what it holds.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Start(TlsFiles paths,
                                                          std::shared_ptr<Logger> logger);

  // The one in force. A pointer of its own for each that was read.
  std::shared_ptr<const TlsIdentity> identity() const;

  // False while the files, as they are now, are refused, and the identity is the one before.
  bool in_force() const;

  bool asks_clients() const { return !paths_.client_ca.empty(); }

  // Reads the files now, changed or not.
  void Reload();

 private:
  ServerTls(TlsFiles paths, std::shared_ptr<Logger> logger);

  // What was read of the files: all of them, or why not.
  struct Look {
    TlsFiles pem;
    std::string error;

    bool operator==(const Look&) const = default;
  };

  Look ReadFiles() const;
  void LookAgain();
  // Preconditions: reading_ is held. Replace tells what came of it.
  void Replace(const Look& look);
  absl::Status Take(const Look& look);

  // Constant after construction.
  const TlsFiles paths_;
  const std::shared_ptr<Logger> logger_;

  std::mutex reading_;
  // Guarded by reading_. What was seen last, and what was last taken or refused.
  Look seen_;
  Look judged_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::shared_ptr<const TlsIdentity> identity_;
  bool in_force_ = true;

  std::jthread thread_;
};

}  // namespace ratelimiter
