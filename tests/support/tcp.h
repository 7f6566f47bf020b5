#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace ratelimiter::testing {

// A TCP socket of loopback, IPv4 or IPv6. What fails throws; no wait is longer
// than ten seconds.
class Socket {
 public:
  // Listens on a port; 0 is a free one. Of those who connect, one more than
  // `backlog` wait to be accepted; the others get no answer at all.
  static Socket Listen(const std::string& address, std::uint16_t port = 0, int backlog = SOMAXCONN);
  // Keeps a free port on which nobody answers, until a server that is told its
  // number listens there (with SO_REUSEADDR, as servers do).
  static Socket Reserve(const std::string& address);
  static Socket Connect(const std::string& address, std::uint16_t port);
  // The next one who connects; none: it is shut down, or nobody comes.
  std::optional<Socket> Accept() const;

  ~Socket();
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&&) = delete;

  int descriptor() const { return descriptor_; }
  // Its own.
  std::uint16_t port() const;

  // False: the other side does not take it any more.
  bool Write(std::string_view text) const;
  // What comes next; empty: nothing comes any more.
  std::string Read() const;
  std::string ReadToEnd() const;
  // Reads nothing until either side ends it.
  void AwaitEnd() const;

  // Ends whatever waits on it, on any thread.
  void ShutDown() const;

 private:
  explicit Socket(int descriptor);

  int descriptor_;
};

// A server on 127.0.0.1 that serves one connection after another as it is told,
// on a thread of its own. A connection is closed when it is served.
class TcpServer {
 public:
  using Serve = std::function<void(const Socket& connection)>;

  explicit TcpServer(Serve serve);
  ~TcpServer();
  TcpServer(const TcpServer&) = delete;
  TcpServer& operator=(const TcpServer&) = delete;

  std::uint16_t port() const { return listener_.port(); }

 private:
  void Run();

  const Serve serve_;
  const Socket listener_;

  std::mutex mutex_;
  // Guarded by mutex_.
  bool stopped_ = false;
  const Socket* served_ = nullptr;

  std::jthread thread_;  // Last, for it uses all the others.
};

}  // namespace ratelimiter::testing
