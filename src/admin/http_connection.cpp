#include "http_connection.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace ratelimiter {

HttpConnection::HttpConnection(int socket, SSL_CTX* tls, std::chrono::milliseconds time)
    : socket_(socket), session_(tls == nullptr ? nullptr : SSL_new(tls)), time_(time) {
  if (tls == nullptr) return;
  if (session_ == nullptr || SSL_set_fd(session_.get(), socket) != 1) {
    close(socket);
    throw std::bad_alloc();
  }
  fcntl(socket, F_SETFL, O_NONBLOCK);
  SSL_set_accept_state(session_.get());  // What is first read or written shakes hands.
}

HttpConnection::~HttpConnection() { close(socket_); }

void HttpConnection::Finish() {
  if (session_ != nullptr) SSL_shutdown(session_.get());
  shutdown(socket_, SHUT_WR);
  std::array<char, 4096> rest{};
  while (read(rest.data(), rest.size()) > 0) {
  }
}

bool HttpConnection::is_readable() const {
  return !unread_.empty() || (session_ != nullptr && SSL_pending(session_.get()) > 0) ||
         Await(POLLIN);
}

bool HttpConnection::is_writable() const { return Await(POLLOUT); }

ssize_t HttpConnection::read(char* data, std::size_t size) {
  if (unread_.empty()) {
    const std::size_t most = std::min(buffer_.size(), input_left_);
    if (most == 0) return -1;
    const ssize_t received = Receive(std::span(buffer_).first(most));
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
    const ssize_t sent = Send(rest);
    if (sent < 0) return -1;
    rest = rest.subspan(static_cast<std::size_t>(sent));
  }
  return static_cast<ssize_t>(size);
}

ssize_t HttpConnection::Receive(std::span<char> buffer) {
  if (session_ != nullptr) {
    return OverTls([&](SSL* session) {
      return SSL_read(session, buffer.data(), static_cast<int>(buffer.size()));
    });
  }
  return Await(POLLIN) ? recv(socket_, buffer.data(), buffer.size(), 0) : -1;
}

ssize_t HttpConnection::Send(std::span<const char> data) {
  if (session_ != nullptr) {
    return OverTls([&](SSL* session) {
      return SSL_write(session, data.data(), static_cast<int>(data.size()));
    });
  }
  if (!Await(POLLOUT)) return -1;
  const ssize_t sent = send(socket_, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

template <typename Try>
ssize_t HttpConnection::OverTls(Try try_once) {
  while (true) {
    ERR_clear_error();
    const int count = try_once(session_.get());
    if (count > 0) return count;
    const int error = SSL_get_error(session_.get(), count);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) return -1;
    if (!Await(error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) return -1;
  }
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
