#include "support/redis_server.h"

#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

}  // namespace

RedisServerProcess::RedisServerProcess(std::vector<std::string> arguments)
    : arguments_(std::move(arguments)) {
  Start();
}

RedisServer RedisServerProcess::address() const {
  return {.host = "127.0.0.1", .port = port_.port()};
}

void RedisServerProcess::Kill() {
  connection_.reset();
  process_.reset();
}

void RedisServerProcess::Start() {
  std::vector<std::string> command = {
      "redis-server", "--port", std::to_string(port_.port()), "--bind", "127.0.0.1", "--save", "",
      "--appendonly", "no"};
  command.insert(command.end(), arguments_.begin(), arguments_.end());
  process_ = std::make_unique<Process>(command, "/dev/null");
  const Deadline give_up = std::chrono::steady_clock::now() + 10s;
  while (true) {
    auto connection = Connection::Open(address(), {"127.0.0.1"}, give_up);
    if (connection.ok()) {
      connection_ = std::make_unique<Connection>(*std::move(connection));
      return;
    }
    if (std::chrono::steady_clock::now() > give_up) {
      throw std::runtime_error("redis-server does not answer: " +
                               std::string(connection.status().message()));
    }
    std::this_thread::sleep_for(10ms);  // Until it listens: there is no event to wait for.
  }
}

RedisReply RedisServerProcess::Run(std::initializer_list<std::string_view> command) {
  const Deadline deadline = std::chrono::steady_clock::now() + 10s;
  if (!connection_->Send(FormatCommand(command), deadline).ok()) {
    throw std::runtime_error("redis-server went away");
  }
  RedisReply reply;
  if (!connection_->Receive(reply, deadline).ok()) {
    throw std::runtime_error("redis-server went away");
  }
  return reply;
}

}  // namespace ratelimiter::testing
