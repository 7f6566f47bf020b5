#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <hiredis/hiredis.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/host_port.h"
#include "ratelimiter/redis/redis_reply.h"
#include "ratelimiter/redis/tls.h"

namespace ratelimiter {

// Where Redis is, in one of four ways, and who we are there.
struct RedisServer {
  std::string host = "127.0.0.1";
  std::uint16_t port = 6379;
  // Not empty: the path of a Unix socket, instead of host and port.
  std::string socket{};
  // Not empty: who is asked where the master of this name is, instead of these.
  std::vector<HostPort> sentinels{};
  std::string master{};
  // Empty: they ask for none.
  std::string sentinel_password{};
  // Not empty: nodes of a Redis Cluster, which know its others, instead of these.
  std::vector<HostPort> cluster{};
  // Whether host and port are a node's, found there.
  bool cluster_node = false;
  // Empty: the default user.
  std::string user{};
  // Both empty: no authentication. The file's first line is the password, and is
  // read at each connection.
  std::string password{};
  std::string password_file{};
  std::uint32_t database = 0;
  // Not empty: what the keys of buckets there begin with, on which we must be allowed
  // all that the token bucket script does.
  std::string key_prefix{};
  // nullptr: what is said to host and port goes unencrypted.
  std::shared_ptr<const TlsContext> tls{};

  // For messages: "host:port", a path, the master's name and the sentinels, or some
  // nodes of a Cluster.
  std::string Address() const;
};

// The password as it is now; empty: none. Errors: UNAVAILABLE, where its file cannot be
// read.
absl::StatusOr<std::string> PasswordOf(const RedisServer& server);

// One command as Redis's protocol has it.
std::string FormatCommand(std::initializer_list<std::string_view> arguments);
std::string FormatCommand(std::span<const std::string_view> arguments);

// One connection to Redis: a hiredis context, with TLS or without, that never blocks
// for longer than the deadline it is given, whatever the server sends or does not.
//
// After any error it is broken and must be discarded: a late reply would answer
// the next command. An error that Redis replies is not such an error, but a
// reply. Not thread-safe.
class Connection {
 public:
  // Connects to the first of `addresses` (numeric, or a socket's path) that accepts,
  // starts TLS if the server has it, authenticates, selects the database, and checks
  // that the server is Redis 7.0 or later, or Valkey, that it gives us our rights, and
  // where sentinels led to it, that it is a master; all behind TLS in one round trip.
  // Each has an equal share of the time that is left. Errors: UNAVAILABLE, with the
  // reason; DEADLINE_EXCEEDED.
  static absl::StatusOr<Connection> Open(const RedisServer& server,
                                         const std::vector<std::string>& addresses,
                                         Deadline deadline);

  // Sends what FormatCommand made, one command or several in a row. Errors:
  // UNAVAILABLE; DEADLINE_EXCEEDED.
  absl::Status Send(std::string_view commands, Deadline deadline);

  // Puts the next reply, which may be an error of Redis's own, into `reply`.
  // Errors: UNAVAILABLE; DEADLINE_EXCEEDED.
  absl::Status Receive(RedisReply& reply, Deadline deadline);

  bool broken() const { return broken_; }
  void MarkBroken() { broken_ = true; }

  // Whether it broke because what came was not Redis's protocol.
  bool garbled() const { return garbled_; }

  // Whether the server is a node of a Redis Cluster.
  bool of_cluster() const { return of_cluster_; }

  // Whether the server lets the user run EVALSHA, and SCRIPT LOAD. Where it does not, EVAL
  // is allowed. Checked if there is a key prefix.
  bool may_evalsha() const { return may_evalsha_; }
  bool may_load_scripts() const { return may_load_scripts_; }

  // The maxmemory-policy by which the server may evict buckets. Empty: it does not, or
  // did not tell; it is asked where there is a key prefix.
  const std::string& evicts_by() const { return evicts_by_; }

  // Whether an idle connection is of no use any more: broken, closed by the
  // server, or sent what nobody asked for. A look at the socket; never blocks.
  bool IsStale() const;

 private:
  struct ContextDeleter {
    void operator()(redisContext* context) const { redisFree(context); }
  };

  explicit Connection(redisContext* context) : context_(context) {}

  static absl::StatusOr<Connection> Connect(const RedisServer& server, const std::string& address,
                                            Deadline deadline);
  absl::Status StartTls(const RedisServer& server, Deadline deadline);
  absl::Status Introduce(const RedisServer& server, Deadline deadline);
  // Takes the replies of server_check.lua, which runs by EVAL where EVALSHA cannot.
  absl::Status CheckServer(const RedisServer& server, std::string_view password, Deadline deadline);
  // Receives the reply to a command of the introduction, which must be no error.
  absl::Status ReceiveAcceptance(std::string_view command, const RedisServer& server,
                                 RedisReply& reply, Deadline deadline);

  // One try each, which does not block.
  IoResult Write(std::string_view bytes);
  IoResult Read(std::span<char> buffer);
  absl::Status Wait(short events, Deadline deadline);
  absl::Status Broken(absl::Status error);

  std::unique_ptr<redisContext, ContextDeleter> context_;
  std::optional<TlsSession> tls_;  // Over the context's socket.
  bool broken_ = false;
  bool garbled_ = false;
  bool of_cluster_ = false;
  bool may_evalsha_ = true;
  bool may_load_scripts_ = true;
  std::string evicts_by_;
};

}  // namespace ratelimiter
