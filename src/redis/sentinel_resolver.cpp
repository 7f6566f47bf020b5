#include "sentinel_resolver.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <iterator>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"
#include "ratelimiter/redis/redis_reply.h"

namespace ratelimiter {
namespace {

std::string_view Message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

// The reply to GET-MASTER-ADDR-BY-NAME: host and port.
absl::StatusOr<HostPort> ReadMaster(const RedisReply& reply, std::string_view name) {
  using enum RedisReply::Type;
  if (reply.type() == kError) {
    return absl::UnavailableError(Printable(reply.text()));
  }
  if (reply.type() == kNil || (reply.type() == kArray && reply.integer() <= 0)) {
    return absl::UnavailableError(
        fmt::format("knows no master \"{}\": the name in REDIS_URL is wrong", name));
  }
  HostPort master;
  if (reply.size() == 3 && reply.type() == kArray && reply.type(1) == kString &&
      reply.type(2) == kString) {
    const std::string_view port = reply.text(2);
    const char* const end = port.data() + port.size();
    const auto [rest, error] = std::from_chars(port.data(), end, master.port);
    master.host = reply.text(1);
    if (error == std::errc() && rest == end && master.port != 0 && !master.host.empty()) {
      return master;
    }
  }
  return absl::UnavailableError("its answer is not a sentinel's");
}

// What is to be said of a sentinel that did not tell. Its password is not the one that
// Redis's errors are about elsewhere.
std::string Reason(const HostPort& sentinel, const absl::Status& error) {
  const std::string_view message = Message(error);
  const bool password = message.find("NOAUTH") != std::string_view::npos ||
                        message.find("WRONGPASS") != std::string_view::npos;
  return fmt::format(
      "{}: {}", sentinel.Text(),
      password ? "refuses us: REDIS_SENTINEL_PASSWORD is not its password" : message);
}

}  // namespace

SentinelResolver::SentinelResolver(RedisServer server, std::chrono::milliseconds timeout,
                                   std::chrono::milliseconds interval)
    : server_(std::move(server)),
      timeout_(timeout),
      interval_(interval),
      sentinels_([this] {
        std::vector<Sentinel> sentinels;
        sentinels.reserve(server_.sentinels.size());
        for (const HostPort& address : server_.sentinels) {
          sentinels.push_back(
              {.address = address, .resolver = std::make_unique<DnsResolver>(address.host)});
        }
        return sentinels;
      }()),
      found_(absl::DeadlineExceededError("the sentinels have not answered yet")),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

absl::StatusOr<Endpoint> SentinelResolver::Find(Deadline deadline) {
  std::unique_lock lock(mutex_);
  const std::uint64_t own = ++wanted_;
  changed_.notify_all();
  if (!changed_.wait_until(lock, deadline, [&] { return answered_ >= own; })) {
    return absl::DeadlineExceededError("the sentinels did not answer in time");
  }
  return found_;
}

void SentinelResolver::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const std::uint64_t wanted = wanted_;
    lock.unlock();
    const Deadline deadline = std::chrono::steady_clock::now() + timeout_;
    const absl::StatusOr<Announcement> announcement = Ask(deadline);
    absl::StatusOr<Endpoint> found =
        announcement.ok() ? Locate(*announcement, deadline) : announcement.status();
    lock.lock();
    found_ = std::move(found);
    answered_ = wanted;
    changed_.notify_all();
    changed_.wait_for(lock, stop, interval_, [this] { return wanted_ > answered_; });
  }
}

absl::StatusOr<SentinelResolver::Announcement> SentinelResolver::Ask(Deadline deadline) {
  std::string reasons;
  auto unasked = static_cast<std::int64_t>(sentinels_.size());
  for (auto sentinel = sentinels_.begin(); sentinel != sentinels_.end(); ++sentinel) {
    // One that does not answer must not take the time of those behind it.
    const auto now = std::chrono::steady_clock::now();
    const Deadline fraction = now + (deadline - now) / unasked--;
    absl::StatusOr<HostPort> master = AskOne(*sentinel, fraction);
    if (master.ok()) {
      Announcement announcement = {.master = *std::move(master),
                                   .sentinel = sentinel->address.Text()};
      std::rotate(sentinels_.begin(), sentinel, std::next(sentinel));
      return announcement;
    }
    sentinel->resolver->Refresh();  // The name may point elsewhere by now.
    reasons += fmt::format("; {}", Reason(sentinel->address, master.status()));
  }
  return absl::UnavailableError(fmt::format("no sentinel tells where the master is{}", reasons));
}

absl::StatusOr<HostPort> SentinelResolver::AskOne(const Sentinel& sentinel,
                                                  Deadline deadline) const {
  const absl::StatusOr<Endpoint> found = sentinel.resolver->Find(deadline);
  if (!found.ok()) return found.status();
  const RedisServer server = {.host = sentinel.address.host,
                              .port = sentinel.address.port,
                              .master = server_.master,
                              .password = server_.sentinel_password};
  absl::StatusOr<Connection> connection = Connection::Open(server, found->addresses, deadline);
  if (!connection.ok()) return connection.status();
  const std::string question =
      FormatCommand({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", server_.master});
  if (absl::Status sent = connection->Send(question, deadline); !sent.ok()) return sent;
  RedisReply reply;
  if (absl::Status came = connection->Receive(reply, deadline); !came.ok()) return came;
  return ReadMaster(reply, server_.master);
}

absl::StatusOr<Endpoint> SentinelResolver::Locate(const Announcement& announcement,
                                                  Deadline deadline) {
  if (announcement.master != master_) {
    master_ = announcement.master;
    master_resolver_ = std::make_unique<DnsResolver>(master_.host);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  absl::StatusOr<Endpoint> found = master_resolver_->Find(deadline);
  if (!found.ok()) {
    master_resolver_->Refresh();
    return found.status();
  }
  return Endpoint{
      .addresses = std::move(found->addresses),
      .port = master_.port,
      .source = fmt::format("{}, as sentinel {} says", master_.Text(), announcement.sentinel),
      .epoch = epoch()};
}

}  // namespace ratelimiter
