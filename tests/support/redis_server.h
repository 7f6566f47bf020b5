#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/redis/connection.h"
#include "support/process.h"
#include "support/tcp.h"

namespace ratelimiter::testing {

// A real redis-server on a free port of loopback, without persistence.
class RedisServerProcess {
 public:
  // `arguments`: further ones of redis-server's. Returns once it answers.
  explicit RedisServerProcess(std::vector<std::string> arguments = {});

  RedisServer address() const;
  Process& process() { return *process_; }

  // Ends it hard, and starts it again on the same port, empty.
  void Kill();
  void Start();

  // Runs a command on a connection of this object's own. Fails the process on
  // an error of the connection; Redis's error replies are returned.
  RedisReply Run(std::initializer_list<std::string_view> command);

 private:
  // Kept while the server is down, too.
  const Socket port_ = Socket::Reserve("127.0.0.1");
  std::vector<std::string> arguments_;
  std::unique_ptr<Process> process_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace ratelimiter::testing
