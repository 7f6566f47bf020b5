#include "ratelimiter/redis/connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <system_error>

#include <fmt/format.h>

#include "command_writer.h"
#include "introduction.h"
#include "ratelimiter/base/secret_file.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/redis/script.h"

namespace ratelimiter {
namespace {

std::string SystemMessage(int error) { return std::generic_category().message(error); }

// Has the system find an idle connection whose other end is gone without a word, in
// 30 s, so that no call has to. One that is waited on is found by its deadline.
void KeepAlive(int socket) {
  constexpr int kOn = 1;
  constexpr int kIdleSeconds = 15;
  constexpr int kSecondsBetweenProbes = 5;
  constexpr int kProbes = 3;
  setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &kOn, sizeof kOn);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &kIdleSeconds, sizeof kIdleSeconds);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &kSecondsBetweenProbes,
             sizeof kSecondsBetweenProbes);
  setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
}

IoResult Failed(int error, short wait_for) {
  if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR) return {.wait_for = wait_for};
  return {.status = absl::UnavailableError(SystemMessage(error))};
}

absl::Status NotInTime() { return absl::DeadlineExceededError("no answer in time"); }

std::string Listed(const std::vector<HostPort>& servers) {
  std::string list;
  for (const HostPort& server : servers) {
    list += fmt::format("{}{}", list.empty() ? "" : ",", server.Text());
  }
  return list;
}

}  // namespace

std::string RedisServer::Address() const {
  if (!socket.empty()) return Printable(socket);
  if (!cluster.empty()) return fmt::format("Cluster {}", Listed(cluster));
  if (!sentinels.empty()) return fmt::format("{} (sentinels {})", master, Listed(sentinels));
  return HostPort{host, port}.Text();
}

absl::StatusOr<std::string> PasswordOf(const RedisServer& server) {
  if (server.password_file.empty()) return server.password;
  absl::StatusOr<std::string> password = ReadSecretFile(server.password_file);
  if (password.ok()) return password;
  return absl::UnavailableError(
      fmt::format("{} (REDIS_PASSWORD_FILE)", std::string(password.status().message())));
}

std::string FormatCommand(std::initializer_list<std::string_view> arguments) {
  return FormatCommand(std::span(arguments.begin(), arguments.size()));
}

std::string FormatCommand(std::span<const std::string_view> arguments) {
  CommandText text;
  CommandWriter command(text);
  command.Begin(arguments.size());
  for (const std::string_view argument : arguments) command.Add({argument});
  return fmt::to_string(text);
}

absl::StatusOr<Connection> Connection::Open(const RedisServer& server,
                                            const std::vector<std::string>& addresses,
                                            Deadline deadline) {
  absl::Status error = absl::UnavailableError("no address");
  auto untried = static_cast<std::int64_t>(addresses.size());
  for (const std::string& address : addresses) {
    // One that does not answer must not take the time of those behind it.
    const auto now = std::chrono::steady_clock::now();
    const Deadline fraction = now + (deadline - now) / untried--;
    absl::StatusOr<Connection> connection = Connect(server, address, fraction);
    if (connection.ok()) {
      error = connection->Introduce(server, fraction);
      if (error.ok()) return connection;
    } else {
      error = connection.status();
    }
  }
  return error;
}

absl::StatusOr<Connection> Connection::Connect(const RedisServer& server,
                                               const std::string& address, Deadline deadline) {
  const bool by_tcp = !address.starts_with('/');
  Connection connection(by_tcp ? redisConnectNonBlock(address.c_str(), server.port)
                               : redisConnectUnixNonBlock(address.c_str()));
  redisContext* context = connection.context_.get();
  if (context == nullptr) return absl::UnavailableError("no memory for a connection");
  if (context->err != 0) return absl::UnavailableError(std::string(context->errstr));

  if (absl::Status waited = connection.Wait(POLLOUT, deadline); !waited.ok()) return waited;
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(context->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return absl::UnavailableError(SystemMessage(error));
  if (by_tcp) KeepAlive(context->fd);
  if (server.tls != nullptr) {
    if (absl::Status tls = connection.StartTls(server, deadline); !tls.ok()) return tls;
  }
  return connection;
}

absl::Status Connection::StartTls(const RedisServer& server, Deadline deadline) {
  absl::StatusOr<TlsSession> session = server.tls->NewSession(server.host, context_->fd);
  if (!session.ok()) return session.status();
  TlsSession& tls = tls_.emplace(*std::move(session));
  while (true) {
    IoResult tried = tls.Handshake();
    if (!tried.status.ok()) return tried.status;
    if (tried.wait_for == 0) return absl::OkStatus();
    absl::Status waited = Wait(tried.wait_for, deadline);
    if (absl::IsDeadlineExceeded(waited)) {
      return absl::DeadlineExceededError(
          "no answer in time to TLS, which the server may not speak: without it, REDIS_URL begins "
          "with redis://");
    }
    if (!waited.ok()) return waited;
  }
}

absl::Status Connection::Introduce(const RedisServer& server, Deadline deadline) {
  const absl::StatusOr<std::string> password = PasswordOf(server);
  if (!password.ok()) return password.status();
  const std::string commands = Introduction(server, *password);
  if (absl::Status sent = Send(commands, deadline); !sent.ok()) return sent;

  RedisReply reply;
  absl::Status accepted = ReceiveAcceptance("HELLO", server, reply, deadline);
  if (accepted.ok()) accepted = CheckVersion(reply);
  if (accepted.ok() && !server.sentinels.empty()) accepted = CheckMaster(reply);
  if (!accepted.ok()) return accepted;
  of_cluster_ = FieldOf(reply, "mode") == "cluster";

  if (server.database != 0) accepted = ReceiveAcceptance("SELECT", server, reply, deadline);
  if (!accepted.ok() || server.key_prefix.empty()) return accepted;

  return CheckServer(server, *password, deadline);
}

absl::Status Connection::CheckServer(const RedisServer& server, std::string_view password,
                                     Deadline deadline) {
  RedisReply loaded;
  RedisReply reply;
  if (absl::Status came = Receive(loaded, deadline); !came.ok()) return came;
  if (absl::Status came = Receive(reply, deadline); !came.ok()) return came;
  may_load_scripts_ = !IsForbidden(loaded);
  may_evalsha_ = !IsForbidden(reply);
  if (may_load_scripts_ && loaded.type() == RedisReply::Type::kError) {
    return IntroductionRefused(loaded, "SCRIPT LOAD", server);
  }
  std::string_view command = "EVALSHA";
  if (!may_load_scripts_ || !may_evalsha_) {
    Missing missing;
    if (!may_load_scripts_) missing.AddForbidden("SCRIPT LOAD", loaded);
    if (!may_evalsha_) missing.AddForbidden(command, reply);
    command = "EVAL";
    const std::string check =
        FormatServerCheck(server, command, ServerCheckScript().source, password);
    if (absl::Status sent = Send(check, deadline); !sent.ok()) return sent;
    if (absl::Status came = Receive(reply, deadline); !came.ok()) return came;
    if (IsForbidden(reply)) return missing.Error(server);
  }
  if (reply.type() == RedisReply::Type::kError) return IntroductionRefused(reply, command, server);
  if (absl::Status missing = CheckMissing(reply, server); !missing.ok()) return missing;
  evicts_by_ = Printable(reply.text(1));
  return absl::OkStatus();
}

absl::Status Connection::ReceiveAcceptance(std::string_view command, const RedisServer& server,
                                           RedisReply& reply, Deadline deadline) {
  if (absl::Status came = Receive(reply, deadline); !came.ok()) {
    return command == "HELLO" ? NotIntroduced(came, server) : came;
  }
  return reply.type() == RedisReply::Type::kError ? IntroductionRefused(reply, command, server)
                                                  : absl::OkStatus();
}

// By itself: hiredis would copy the commands into a buffer that it allocates.
absl::Status Connection::Send(std::string_view commands, Deadline deadline) {
  while (!commands.empty()) {
    const IoResult sent = Write(commands);
    if (!sent.status.ok()) return Broken(sent.status);
    commands.remove_prefix(sent.bytes);
    if (sent.wait_for == 0) continue;
    if (absl::Status waited = Wait(sent.wait_for, deadline); !waited.ok()) return waited;
  }
  return absl::OkStatus();
}

absl::Status Connection::Receive(RedisReply& reply, Deadline deadline) {
  reply.Clear();
  reply.ReadFrom(*context_->reader);
  bool tried = false;
  short wait_for = POLLIN;
  while (true) {
    void* complete = nullptr;
    if (redisGetReplyFromReader(context_.get(), &complete) != REDIS_OK) {
      garbled_ = true;
      return Broken(absl::UnavailableError(
          fmt::format("not Redis's protocol: {}", Printable(context_->errstr))));
    }
    if (complete != nullptr) return absl::OkStatus();
    // What is there is taken however late it is, but a server that always has
    // more to send must not keep us.
    if (tried && deadline <= std::chrono::steady_clock::now()) return Broken(NotInTime());
    if (absl::Status waited = Wait(wait_for, deadline); !waited.ok()) return waited;
    std::array<char, TlsSession::kBufferBytes> buffer;
    const IoResult read = Read(buffer);
    if (!read.status.ok()) return Broken(read.status);
    if (redisReaderFeed(context_->reader, buffer.data(), read.bytes) != REDIS_OK) {
      return Broken(absl::UnavailableError("no memory for a reply"));
    }
    tried = true;
    wait_for = read.wait_for == 0 ? short{POLLIN} : read.wait_for;
  }
}

IoResult Connection::Write(std::string_view bytes) {
  if (tls_.has_value()) return tls_->Write(bytes);
  const ssize_t sent = send(context_->fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return Failed(errno, POLLOUT);
  return {.bytes = static_cast<std::size_t>(sent)};
}

IoResult Connection::Read(std::span<char> buffer) {
  if (tls_.has_value()) return tls_->Read(buffer);
  const ssize_t read = recv(context_->fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (read < 0) return Failed(errno, POLLIN);
  if (read == 0) return {.status = absl::UnavailableError("Server closed the connection")};
  return {.bytes = static_cast<std::size_t>(read)};
}

bool Connection::IsStale() const {
  if (broken_ || context_->reader->pos < context_->reader->len) return true;
  if (tls_.has_value()) return !tls_->IsIdle();
  char byte = 0;
  const ssize_t peeked = recv(context_->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return peeked >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

absl::Status Connection::Wait(short events, Deadline deadline) {
  pollfd descriptor = {.fd = context_->fd, .events = events, .revents = 0};
  while (true) {
    const auto left = std::max(deadline - std::chrono::steady_clock::now(),
                               std::chrono::steady_clock::duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    const timespec timeout = {.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    const int ready = ppoll(&descriptor, 1, &timeout, nullptr);
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return Broken(NotInTime());
    if (errno != EINTR) return Broken(absl::UnavailableError(SystemMessage(errno)));
  }
}

absl::Status Connection::Broken(absl::Status error) {
  broken_ = true;
  return error;
}

}  // namespace ratelimiter
