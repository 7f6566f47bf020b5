#include "dns_resolver.h"

#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace ratelimiter {

absl::StatusOr<std::vector<std::string>> ResolveBySystem(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(
        fmt::format("cannot resolve \"{}\": {}", host, gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    std::array<char, NI_MAXHOST> numeric{};
    if (getnameinfo(entry->ai_addr, entry->ai_addrlen, numeric.data(), numeric.size(), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      addresses.emplace_back(numeric.data());
    }
  }
  return addresses;
}

struct DnsResolver::State {
  State(std::string name, Resolve function, std::chrono::milliseconds rest)
      : host(std::move(name)), resolve(std::move(function)), min_interval(rest) {}

  const std::string host;
  const Resolve resolve;
  const std::chrono::milliseconds min_interval;

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex.
  bool stopped = false;
  bool wanted = true;
  bool known = false;
  std::uint64_t begun = 0;  // Lookups, by number.
  std::uint64_t ended = 0;
  std::chrono::steady_clock::time_point began{};  // The last of them.
  absl::StatusOr<std::vector<std::string>> addresses =
      absl::DeadlineExceededError("the name is still being resolved");
};

DnsResolver::DnsResolver(std::string host, Resolve resolve, std::chrono::milliseconds min_interval)
    : state_(std::make_shared<State>(std::move(host), std::move(resolve), min_interval)) {
  std::thread([state = state_] { Run(state); }).detach();
}

DnsResolver::~DnsResolver() {
  const std::lock_guard lock(state_->mutex);
  state_->stopped = true;
  state_->changed.notify_all();
}

absl::StatusOr<std::vector<std::string>> DnsResolver::Addresses(Deadline deadline) const {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_until(lock, deadline, [this] { return state_->known; });
  return state_->addresses;
}

absl::StatusOr<Endpoint> DnsResolver::Find(Deadline deadline) {
  {
    std::unique_lock lock(state_->mutex);
    const auto now = std::chrono::steady_clock::now();
    if (state_->known && now - state_->began >= state_->min_interval) {
      // A lookup under way may have begun before the name was repointed.
      const std::uint64_t own = state_->begun + 1;
      state_->wanted = true;
      state_->changed.notify_all();
      state_->changed.wait_until(lock, now + (deadline - now) / 2,
                                 [&] { return state_->ended >= own; });
    }
  }
  absl::StatusOr<std::vector<std::string>> addresses = Addresses(deadline);
  if (!addresses.ok()) return addresses.status();
  return Endpoint{.addresses = *std::move(addresses)};
}

void DnsResolver::Refresh() {
  const std::lock_guard lock(state_->mutex);
  state_->wanted = true;
  state_->changed.notify_all();
}

void DnsResolver::Run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (true) {
    state->changed.wait(lock, [&] { return state->stopped || state->wanted; });
    if (state->stopped) return;
    state->wanted = false;
    ++state->begun;
    state->began = std::chrono::steady_clock::now();
    lock.unlock();
    absl::StatusOr<std::vector<std::string>> found = state->resolve(state->host);
    lock.lock();
    if (found.ok() || !state->addresses.ok()) state->addresses = std::move(found);
    state->known = true;
    ++state->ended;
    state->changed.notify_all();
    state->changed.wait_for(lock, state->min_interval, [&] { return state->stopped; });
  }
}

}  // namespace ratelimiter
