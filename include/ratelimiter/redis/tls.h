#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace ratelimiter {

// Whom we trust on a TLS connection, and who we are there. Files are in PEM, and
// empty paths are files that are not given.
struct TlsOptions {
  // The CAs that are trusted. Empty: those of the system.
  std::string ca_file{};
  // Our certificate, with those between it and its CA, and its key: both or neither.
  std::string certificate_file{};
  std::string key_file{};
  // The name, or the IP address, that the server's certificate must have. Empty: the
  // host that is connected to.
  std::string server_name{};
};

// What came of one try to read or write.
struct IoResult {
  // Read or written.
  std::size_t bytes = 0;
  // What the socket must be before the next try (POLLIN, POLLOUT). 0: as it is.
  short wait_for = 0;
  // Not OK: it is broken. UNAVAILABLE.
  absl::Status status{};
};

// A TLS session of a client over a socket that does not block. Of the server's
// certificate it accepts nothing that it has not verified. Writing to a socket whose
// peer has gone raises SIGPIPE, which the process must ignore. Not thread-safe.
class TlsSession {
 public:
  // To be called until there is nothing to wait for, and nothing else before that.
  IoResult Handshake();

  // One try each, with at least one byte. What was not written must be tried again
  // before anything else is written. A buffer of kBufferBytes leaves nothing pending.
  static constexpr std::size_t kBufferBytes = 16'384;
  IoResult Read(std::span<char> buffer);
  IoResult Write(std::string_view bytes);

  // Whether nothing is there to be read, and nothing ended it. What the session's own
  // upkeep sends (tickets, new keys) is not there to be read.
  bool IsIdle() const;

 private:
  friend class TlsContext;

  struct Deleter {
    void operator()(SSL* session) const;
  };

  TlsSession(std::unique_ptr<SSL, Deleter> session, bool has_certificate);

  IoResult Peek() const;
  IoResult Result(int returned) const;
  std::string Reason(unsigned long error) const;

  std::unique_ptr<SSL, Deleter> session_;
  bool has_certificate_;
};

// What sessions are made with. Thread-safe.
class TlsContext {
 public:
  // Reads the CAs, once, for a system's take longer than a connection may; and looks
  // whether certificate and key can be used. Errors: FAILED_PRECONDITION, with the setting, the
  // path, and what is accepted.
  static absl::StatusOr<std::shared_ptr<const TlsContext>> Create(TlsOptions options);

  // A session over `socket`, which is connected, and stays the caller's, with the
  // certificate and key that the files have now. `host`: what the server's certificate
  // is for, unless the options name it. Errors: as Create.
  absl::StatusOr<TlsSession> NewSession(const std::string& host, int socket) const;

 private:
  struct Deleter {
    void operator()(SSL_CTX* context) const;
  };

  explicit TlsContext(TlsOptions options);

  absl::Status UseCas();
  absl::Status UseCertificate(SSL* session) const;

  const TlsOptions options_;
  const std::unique_ptr<SSL_CTX, Deleter> context_;
};

}  // namespace ratelimiter
