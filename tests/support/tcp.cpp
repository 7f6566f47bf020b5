#include "support/tcp.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <utility>

namespace ratelimiter::testing {
namespace {

constexpr timeval kLongestWait = {.tv_sec = 10, .tv_usec = 0};

void Require(bool done, const std::string& what) {
  if (!done) throw std::runtime_error("cannot " + what);
}

struct Endpoint {
  explicit Endpoint(const std::string& address, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    Require(getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) == 0,
            "read " + address);
    info.reset(found);
  }
  int OpenSocket() const { return socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0); }

  std::unique_ptr<addrinfo, void (*)(addrinfo*)> info{nullptr, freeaddrinfo};
};

}  // namespace

Socket Socket::Listen(const std::string& address, std::uint16_t port, int backlog) {
  const Endpoint endpoint(address, port);
  Socket socket(endpoint.OpenSocket());
  Require(bind(socket.descriptor_, endpoint.info->ai_addr, endpoint.info->ai_addrlen) == 0 &&
              listen(socket.descriptor_, backlog) == 0,
          "listen on " + address);
  return socket;
}

Socket Socket::Reserve(const std::string& address) {
  const Endpoint endpoint(address, 0);
  Socket socket(endpoint.OpenSocket());
  const int yes = 1;
  Require(setsockopt(socket.descriptor_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
              bind(socket.descriptor_, endpoint.info->ai_addr, endpoint.info->ai_addrlen) == 0,
          "reserve a port of " + address);
  return socket;
}

Socket Socket::Connect(const std::string& address, std::uint16_t port) {
  const Endpoint endpoint(address, port);
  Socket socket(endpoint.OpenSocket());
  Require(connect(socket.descriptor_, endpoint.info->ai_addr, endpoint.info->ai_addrlen) == 0,
          "connect to " + address);
  return socket;
}

std::optional<Socket> Socket::Accept() const {
  const int descriptor = accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  return Socket(descriptor);
}

Socket::Socket(int descriptor) : descriptor_(descriptor) {
  Require(descriptor >= 0, "have a socket");
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &kLongestWait, sizeof kLongestWait);
  setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &kLongestWait, sizeof kLongestWait);
}

Socket::~Socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

std::uint16_t Socket::port() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXSERV> port{};
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  Require(getsockname(descriptor_, generic, &size) == 0 &&
              getnameinfo(generic, size, nullptr, 0, port.data(), port.size(), NI_NUMERICSERV) == 0,
          "tell the port");
  return static_cast<std::uint16_t>(std::stoi(port.data()));
}

bool Socket::Write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::string Socket::Read() const {
  std::array<char, 4096> buffer{};
  const ssize_t count = recv(descriptor_, buffer.data(), buffer.size(), 0);
  return {buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0};
}

std::string Socket::ReadToEnd() const {
  std::string text;
  for (std::string part = Read(); !part.empty(); part = Read()) text += part;
  return text;
}

void Socket::AwaitEnd() const {
  pollfd descriptor = {.fd = descriptor_, .events = POLLRDHUP, .revents = 0};
  poll(&descriptor, 1, static_cast<int>(kLongestWait.tv_sec * 1000));
}

void Socket::ShutDown() const { shutdown(descriptor_, SHUT_RDWR); }

TcpServer::TcpServer(Serve serve)
    : serve_(std::move(serve)),
      listener_(Socket::Listen("127.0.0.1")),
      thread_([this] { Run(); }) {}

TcpServer::~TcpServer() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  listener_.ShutDown();
  if (served_ != nullptr) served_->ShutDown();
}

void TcpServer::Run() {
  while (const std::optional<Socket> connection = listener_.Accept()) {
    {
      const std::lock_guard lock(mutex_);
      if (stopped_) return;
      served_ = &*connection;
    }
    serve_(*connection);
    const std::lock_guard lock(mutex_);
    served_ = nullptr;
  }
}

}  // namespace ratelimiter::testing
