#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <thread>

namespace ratelimiter {

// Forwards each connection that a listener accepts to a server on 127.0.0.1, in both
// directions, on a thread of its own. It gives an IPv4 server the addresses that it cannot
// listen on itself.
//
// Bounded: at most kMaxConnections at a time, further ones wait in the listener's queue; a
// connection on which nothing has moved for kIdleTimeout is closed.
class LoopbackRelay {
 public:
  static constexpr std::size_t kMaxConnections = 16;
  static constexpr std::chrono::seconds kIdleTimeout{10};

  // Takes over `listener`, a non-blocking listening socket. `port`: the server's.
  LoopbackRelay(int listener, std::uint16_t port);
  // Closes the listener and all connections.
  ~LoopbackRelay();
  LoopbackRelay(const LoopbackRelay&) = delete;
  LoopbackRelay& operator=(const LoopbackRelay&) = delete;

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Bytes on their way from one socket to another.
  struct Flow {
    int from;
    int to;
    std::array<char, std::size_t{16} * 1024> buffer{};
    std::size_t begin = 0;
    std::size_t end = 0;
    bool ended = false;  // `from` sends no more.

    bool empty() const { return begin == end; }
    bool done() const { return ended && empty(); }
    // Moves what it can without blocking. False: a socket failed. Sets `moved` if a byte moved.
    bool Move(bool& moved);
  };

  // A client's connection and the one to the server that belongs to it.
  struct Pair {
    Flow request;
    Flow response;
    TimePoint moved_at;
  };

  void Run();
  // False: the process has no descriptor to spare, or the server does not accept.
  bool Accept(TimePoint now);
  // False: the pair has ended.
  static bool Forward(Pair& pair, TimePoint now);
  static void Close(const Pair& pair);

  const int listener_;
  const std::uint16_t port_;
  const int stop_;  // An eventfd: readable once the relay is to end.
  std::list<Pair> pairs_;
  std::thread thread_;
};

}  // namespace ratelimiter
