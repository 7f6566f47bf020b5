#pragma once

#include <httplib.h>
#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace ratelimiter {

// One connection of the admin server, as httplib reads and writes it. httplib
// bounds each read by itself, not all of them together, and not how long a line
// of a header may be: so whoever drips bytes could hold a thread, and whoever
// pours them could fill the memory.
class HttpConnection final : public httplib::Stream {
 public:
  // In it all is read; and again, from the answer's first byte on, all is written:
  // however long the store took, its answer is not lost.
  static constexpr std::chrono::milliseconds kTime{5'000};
  // Room for the headers and for a body that is too long but still read, so that
  // its sender hears about it.
  static constexpr std::size_t kMaxInput = std::size_t{1024} * 1024;

  // Takes the socket, and closes it at last. With `tls` it is over TLS, whose handshake
  // is in the time too.
  explicit HttpConnection(int socket, SSL_CTX* tls = nullptr,
                          std::chrono::milliseconds time = kTime);
  ~HttpConnection() override;
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // Sends no more, and reads what still comes: a socket that is closed with
  // something unread takes back what was sent.
  void Finish();

  bool is_readable() const override;
  bool is_writable() const override;
  // -1: the connection, its time or its input is over.
  ssize_t read(char* data, std::size_t size) override;
  ssize_t write(const char* data, std::size_t size) override;
  // Nobody asks for addresses here.
  void get_remote_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  socket_t socket() const override { return socket_; }

 private:
  struct Deleter {
    void operator()(SSL* session) const { SSL_free(session); }
  };

  // Whether the socket is fit for `events` (poll's) before the time is over.
  bool Await(short events) const;
  // As recv's and send's results, after waiting for as long as they must.
  ssize_t Receive(std::span<char> buffer);
  ssize_t Send(std::span<const char> data);
  // Has the session `try_once`, until it does or cannot. The number of bytes, or -1.
  template <typename Try>
  ssize_t OverTls(Try try_once);

  const int socket_;
  const std::unique_ptr<SSL, Deleter> session_;  // nullptr: without TLS.
  const std::chrono::milliseconds time_;
  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + time_;
  bool answering_ = false;
  std::size_t input_left_ = kMaxInput;
  // httplib reads headers byte by byte.
  std::array<char, 4096> buffer_{};
  std::span<const char> unread_{};
};

}  // namespace ratelimiter
