#include "loopback_relay.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace ratelimiter {
namespace {

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// A socket that connects to 127.0.0.1 without blocking; -1: there is none.
int ConnectLoopback(std::uint16_t port) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EINPROGRESS) {
    return descriptor;
  }
  close(descriptor);
  return -1;
}

}  // namespace

bool LoopbackRelay::Flow::Move(bool& moved) {
  while (true) {
    if (empty() && !ended) {
      const ssize_t received = recv(from, buffer.data(), buffer.size(), 0);
      if (received < 0) return WouldBlock();
      begin = 0;
      end = static_cast<std::size_t>(received);
      if (received == 0) {
        ended = true;
        shutdown(to, SHUT_WR);
      }
    }
    if (empty()) return true;
    const ssize_t sent = send(to, buffer.data() + begin, end - begin, MSG_NOSIGNAL);
    if (sent < 0) return WouldBlock();
    begin += static_cast<std::size_t>(sent);
    moved = true;
  }
}

LoopbackRelay::LoopbackRelay(int listener, std::uint16_t port)
    : listener_(listener),
      port_(port),
      stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Run(); }) {}

LoopbackRelay::~LoopbackRelay() {
  eventfd_write(stop_, 1);
  thread_.join();
  for (const Pair& pair : pairs_) Close(pair);
  close(listener_);
  close(stop_);
}

void LoopbackRelay::Run() {
  constexpr int kMilliseconds = 1000;  // Until idle connections are looked for again.
  std::vector<pollfd> polled;
  bool accepts = true;
  while (true) {
    polled.clear();
    polled.push_back({.fd = stop_, .events = POLLIN, .revents = 0});
    accepts = accepts && pairs_.size() < kMaxConnections;
    polled.push_back({.fd = accepts ? listener_ : -1, .events = POLLIN, .revents = 0});
    const auto await = [&](const Flow& flow) {
      if (!flow.empty()) {
        polled.push_back({.fd = flow.to, .events = POLLOUT, .revents = 0});
      } else if (!flow.ended) {
        polled.push_back({.fd = flow.from, .events = POLLIN, .revents = 0});
      }
    };
    for (const Pair& pair : pairs_) {
      await(pair.request);
      await(pair.response);
    }
    poll(polled.data(), polled.size(), pairs_.empty() && accepts ? -1 : kMilliseconds);
    if (polled[0].revents != 0) return;

    const TimePoint now = std::chrono::steady_clock::now();
    pairs_.remove_if([&](Pair& pair) {
      if (Forward(pair, now)) return false;
      Close(pair);
      return true;
    });
    // Without a descriptor to spare it pauses: the waiting connection would keep poll() awake.
    accepts = polled[1].revents == 0 || Accept(now);
  }
}

bool LoopbackRelay::Accept(TimePoint now) {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return WouldBlock() || errno == ECONNABORTED;
  const int server = ConnectLoopback(port_);
  if (server < 0) {
    close(client);
    return false;
  }
  pairs_.push_back({.request = {.from = client, .to = server},
                    .response = {.from = server, .to = client},
                    .moved_at = now});
  return true;
}

bool LoopbackRelay::Forward(Pair& pair, TimePoint now) {
  bool moved = false;
  if (!pair.request.Move(moved) || !pair.response.Move(moved)) return false;
  if (moved) pair.moved_at = now;
  return !pair.response.done() && now - pair.moved_at < kIdleTimeout;
}

void LoopbackRelay::Close(const Pair& pair) {
  close(pair.request.from);
  close(pair.request.to);
}

}  // namespace ratelimiter
