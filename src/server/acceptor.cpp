#include "acceptor.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "ratelimiter/base/listen.h"

namespace ratelimiter {
namespace {

// Asked each time, for it can be changed from outside.
int MostDescriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 30));
}

// The system gives the lowest number that is free: all below are in use.
bool IsOfReserve(int descriptor, int most) {
  constexpr int kReserve = 128;
  return descriptor >= most - std::min(kReserve, most / 4);
}

}  // namespace

std::error_code Acceptor::Listen(const std::string& address, std::uint16_t port) {
  const std::error_code error = ratelimiter::Listen(address, port, listener_);
  if (!error) port_ = PortOf(listener_);
  return error;
}

void Acceptor::Prepare(grpc::ServerBuilder& builder,
                       std::shared_ptr<grpc::ServerCredentials> credentials) {
  server_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      std::move(credentials));
}

void Acceptor::Start(std::shared_ptr<Logger> logger) {
  thread_ = std::jthread(
      [this, logger = std::move(logger)](const std::stop_token& stop) { Run(stop, *logger); });
}

void Acceptor::Stop() {
  if (listener_ < 0) return;
  thread_.request_stop();
  shutdown(listener_, SHUT_RDWR);  // Ends a poll of it.
  thread_ = std::jthread();
  close(listener_);
  listener_ = -1;
}

void Acceptor::Run(const std::stop_token& stop, Logger& logger) {
  constexpr int kNoneFreeMilliseconds = 100;  // Until it is looked again.
  const auto tell = [&](int most) {
    logger.Limited(
        LogKind::kConnections, spdlog::level::warn,
        "gRPC connections are refused: this process may have {} descriptors (ulimit -n), and the "
        "last of them are not for callers",
        most);
  };

  bool none_free = false;
  while (!stop.stop_requested()) {
    pollfd polled{.fd = none_free ? -1 : listener_, .events = POLLIN, .revents = 0};
    poll(&polled, 1, none_free ? kNoneFreeMilliseconds : -1);
    const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    none_free = descriptor < 0 &&
                (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM);
    const int most = MostDescriptors();
    if (none_free) tell(most);
    if (descriptor < 0) continue;
    if (IsOfReserve(descriptor, most)) {
      close(descriptor);
      tell(most);
      continue;
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.listener_fd = listener_;
    connection.fd = descriptor;
    server_->HandleNewConnection(&connection);
  }
}

}  // namespace ratelimiter
