#include "http_connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ratelimiter {

HttpConnection::~HttpConnection() { close(socket_); }

void HttpConnection::Finish() {
  shutdown(socket_, SHUT_WR);
  std::array<char, 4096> rest{};
  while (read(rest.data(), rest.size()) > 0) {
  }
}

bool HttpConnection::is_readable() const { return !unread_.empty() || Await(POLLIN); }

bool HttpConnection::is_writable() const { return Await(POLLOUT); }

ssize_t HttpConnection::read(char* data, std::size_t size) {
  if (unread_.empty()) {
    const std::size_t most = std::min(buffer_.size(), input_left_);
    if (most == 0 || !Await(POLLIN)) return -1;
    const ssize_t received = recv(socket_, buffer_.data(), most, 0);
    if (received <= 0) return received;
    input_left_ -= static_cast<std::size_t>(received);
    unread_ = std::span(buffer_).first(static_cast<std::size_t>(received));
  }
  const std::size_t given = std::min(size, unread_.size());
  std::ranges::copy(unread_.first(given), data);
  unread_ = unread_.subspan(given);
  return static_cast<ssize_t>(given);
}

ssize_t HttpConnection::write(const char* data, std::size_t size) {
  if (!std::exchange(answering_, true)) end_ = std::chrono::steady_clock::now() + time_;
  std::span<const char> rest(data, size);
  while (!rest.empty()) {
    if (!Await(POLLOUT)) return -1;
    const ssize_t sent = send(socket_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return -1;
    if (sent > 0) rest = rest.subspan(static_cast<std::size_t>(sent));
  }
  return static_cast<ssize_t>(size);
}

bool HttpConnection::Await(short events) const {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end_ - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd descriptor = {.fd = socket_, .events = events, .revents = 0};
    const int fit = poll(&descriptor, 1, static_cast<int>(left.count()));
    if (fit > 0) return true;
    if (fit < 0 && errno != EINTR) return false;
  }
}

}  // namespace ratelimiter
