#pragma once

#include <chrono>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ratelimiter/redis/connection.h"
#include "support/tcp.h"

namespace ratelimiter::testing {

// HELLO's reply, as far as it matters. A command and an array of strings are
// written alike.
inline std::string Hello(std::string_view server, std::string_view version) {
  return FormatCommand({"server", server, "version", version});
}

// A server that introduces itself as Redis, and then does as it is told.
class FakeRedis : public TcpServer {
 public:
  explicit FakeRedis(const TcpServer::Serve& then)
      : TcpServer([then](const Socket& connection) {
          connection.Read();
          connection.Write(Hello("redis", "7.0.0"));
          then(connection);
        }) {}
};

inline void StaySilent(const Socket& connection) { connection.AwaitEnd(); }

// Says `text` as an answer.
inline TcpServer::Serve Answer(std::string text) {
  return [text = std::move(text)](const Socket& connection) {
    connection.Read();
    connection.Write(text);
    connection.AwaitEnd();
  };
}

inline TcpServer::Serve AnswerAndClose(std::string text) {
  return [text = std::move(text)](const Socket& connection) {
    connection.Read();
    connection.Write(text);
  };
}

// Says `part` over and over, as an answer that never ends.
inline TcpServer::Serve AnswerWithoutEnd(std::string start, std::string part) {
  return [start = std::move(start), part = std::move(part)](const Socket& connection) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    connection.Write(start);
    while (std::chrono::steady_clock::now() < give_up && connection.Write(part)) continue;
  };
}

// What a server, or something in its place, can do instead of answering.
struct Misbehaviour {
  std::string name;
  TcpServer::Serve serve;
  // Whether it ends by our deadline alone.
  bool until_deadline;

  friend void PrintTo(const Misbehaviour& misbehaviour, std::ostream* out) {
    *out << misbehaviour.name;
  }
};

inline std::vector<Misbehaviour> Misbehaviours() {
  return {{"StaysSilent", StaySilent, true},
          {"StopsWithinAReply", Answer("*4\r\n$6\r\nser"), true},
          {"DripsAReplyThatNeverEnds", AnswerWithoutEnd("+", "x"), true},
          {"FloodsWithAReplyThatNeverEnds",
           AnswerWithoutEnd("$500000000\r\n", std::string(1 << 22, 'x')), true},
          {"ClosesAtOnce", [](const Socket& /*connection*/) {}, false},
          {"ClosesInsteadOfAnswering", AnswerAndClose(""), false},
          {"ClosesWithinAReply", AnswerAndClose("*4\r\n$6\r\nser"), false},
          {"SpeaksAnotherProtocol", Answer("HTTP/1.1 400 Bad Request\r\n\r\n"), false},
          {"SendsAnImpossibleLength", Answer("$-7\r\n"), false}};
}

}  // namespace ratelimiter::testing
