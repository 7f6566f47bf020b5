#include "cluster.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>

#include <absl/hash/hash.h>
#include <fmt/format.h>

#include "command_batch.h"
#include "connection_pool.h"
#include "dns_resolver.h"
#include "error_policy.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/redis_reply.h"

namespace ratelimiter {
namespace {

// How often a call is sent on at most.
constexpr int kMaxHops = 5;

// Between two questions to the Cluster, however often one is wanted.
constexpr std::chrono::milliseconds kRest{100};

// For how long a node is kept that has no slots and that calls were sent on to.
constexpr std::chrono::seconds kKept{10};

// Nodes that are known at once: as many as a Cluster may have. A server that sends calls
// on to ever other places must not have us keep a thread for each.
constexpr std::size_t kMaxNodes = 1'000;

// Among so many numbers there is one of any slot.
constexpr std::uint32_t kMaxCheckTag = 1'000'000;

RedisOptions OptionsOf(const RedisOptions& cluster, const HostPort& address) {
  RedisOptions options = cluster;
  options.server.host = address.host;
  options.server.port = address.port;
  options.server.cluster.clear();
  options.server.cluster_node = true;
  return options;
}

absl::Status Refused(const RedisReply& reply, std::string_view command) {
  const std::string_view advice = ErrorPolicyFor(reply.text()).advice;
  return absl::UnavailableError(fmt::format("Redis refused {}: {}{}{}", command,
                                            Printable(reply.text()), advice.empty() ? "" : "; ",
                                            advice));
}

// The number behind `field` in what CLUSTER INFO says; 0 if it is not there.
std::uint64_t NumberOf(std::string_view info, std::string_view field) {
  std::uint64_t number = 0;
  if (const std::size_t at = info.find(field); at != std::string_view::npos) {
    info.remove_prefix(at + field.size());
    std::from_chars(info.data(), info.data() + info.size(), number);
  }
  return number;
}

void FailAll(std::span<ScriptCall> calls, const absl::Status& error) {
  for (ScriptCall& call : calls) {
    call.transaction->status = error;
    call.redirection.clear();
  }
}

// The keys of calls, each once.
std::vector<std::string> KeysOf(std::span<const ScriptCall> calls, std::string_view prefix) {
  std::vector<std::string> keys;
  for (const ScriptCall& call : calls) {
    for (const Charge& charge : call.transaction->charges) {
      keys.push_back(fmt::format("{}{}:{}", prefix, charge.limit, charge.bucket_key));
    }
  }
  std::ranges::sort(keys);
  const auto [from, to] = std::ranges::unique(keys);
  keys.erase(from, to);
  return keys;
}

// The command by which a server gives `keys` to the one at `to`. A key that is there
// already is overwritten: as long as the first has it, it is there that it counts.
absl::StatusOr<std::string> FormatMigrate(const RedisServer& server, const HostPort& to,
                                          std::chrono::milliseconds timeout,
                                          const std::vector<std::string>& keys) {
  const absl::StatusOr<std::string> password = PasswordOf(server);
  if (!password.ok()) return password.status();
  const std::string port = std::to_string(to.port);
  const std::string patience = std::to_string(timeout.count());
  std::vector<std::string_view> words = {"MIGRATE", to.host, port, "", "0", patience, "REPLACE"};
  if (!server.user.empty()) {
    words.insert(words.end(), {"AUTH2", server.user, *password});
  } else if (!password->empty()) {
    words.insert(words.end(), {"AUTH", *password});
  }
  words.emplace_back("KEYS");
  words.insert(words.end(), keys.begin(), keys.end());
  return FormatCommand(words);
}

bool WasRun(const ScriptCall& call) { return call.redirection.empty(); }

// Those of `calls` that come before the first one that is not `alike`.
std::span<ScriptCall> First(std::span<ScriptCall> calls, const auto& alike) {
  const auto end = std::ranges::find_if_not(calls, alike);
  return calls.first(static_cast<std::size_t>(end - calls.begin()));
}

absl::StatusOr<Connection> Open(const RedisServer& server, EndpointResolver& resolver,
                                Deadline deadline) {
  const absl::StatusOr<Endpoint> location = resolver.Find(deadline);
  if (!location.ok()) return location.status();
  return Connection::Open(server, location->addresses, deadline);
}

}  // namespace

// Finds a node by its name, and has the Cluster asked when the node is not to be reached:
// its slots may be another's by now.
class Cluster::NodeResolver final : public EndpointResolver {
 public:
  NodeResolver(const std::string& host, Cluster& cluster) : resolver_(host), cluster_(cluster) {}

  absl::StatusOr<Endpoint> Find(Deadline deadline) override { return resolver_.Find(deadline); }
  void Refresh() override {
    resolver_.Refresh();
    cluster_.Refresh();
  }

 private:
  DnsResolver resolver_;
  Cluster& cluster_;
};

struct Cluster::Node {
  Node(Cluster& cluster, const HostPort& where)
      : Node(cluster, where, std::make_unique<NodeResolver>(where.host, cluster)) {}
  Node(Cluster& cluster, HostPort where, std::unique_ptr<NodeResolver> found)
      : address(std::move(where)),
        options(OptionsOf(cluster.options_, address)),
        resolver(*found),
        pool(options, cluster.key_prefix_, cluster.script_, cluster.metrics_, cluster.clock_,
             std::move(found)) {}

  const HostPort address;
  const RedisOptions options;
  NodeResolver& resolver;  // The pool's.
  ConnectionPool pool;
  // Guarded by Cluster::mutex_.
  std::chrono::steady_clock::time_point named_at;
};

Cluster::Cluster(RedisOptions options, std::string_view key_prefix, const Script& script,
                 Metrics& metrics, const Clock& clock, std::chrono::milliseconds interval)
    : options_(std::move(options)),
      key_prefix_(key_prefix),
      script_(script),
      interval_(interval),
      metrics_(metrics),
      clock_(clock),
      table_(std::make_shared<const Table>()),
      seeds_([this] {
        std::vector<Seed> seeds;
        seeds.reserve(options_.server.cluster.size());
        for (const HostPort& address : options_.server.cluster) {
          seeds.push_back(
              {.address = address, .resolver = std::make_unique<DnsResolver>(address.host)});
        }
        return seeds;
      }()),
      thread_([this](const std::stop_token& stop) { Watch(stop); }) {}

Cluster::~Cluster() = default;

void Cluster::Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) {
  const auto table = Known(deadline);
  if (!table.ok()) return FailAll(calls, table.status());
  for (ScriptCall& call : calls) {
    call.slot = SlotOf(call.transaction->charges.front().bucket_key);
    call.limits_hash = absl::HashOf(call.limits_hash, call.slot);
  }
  const auto owner = [&](const ScriptCall& call) { return (*table)->owners[call.slot]; };
  if (calls.size() > 1) std::ranges::stable_sort(calls, {}, owner);
  while (!calls.empty()) {
    const std::uint16_t place = owner(calls.front());
    const std::span<ScriptCall> of_one =
        First(calls, [&](const ScriptCall& call) { return owner(call) == place; });
    if (place == kNobody) {
      Refresh();
      FailAll(of_one, Unavailable(fmt::format("no master has slot {}", of_one.front().slot)));
    } else {
      RunAt(*(*table)->nodes[place], of_one, deadline, purpose);
    }
    calls = calls.subspan(of_one.size());
  }
}

absl::Status Cluster::Check(Deadline deadline) {
  const auto table = Known(deadline);
  if (!table.ok()) return table.status();
  absl::Status status;
  for (const NodePtr& node : (*table)->nodes) {
    status = node->pool.Check(deadline);
    if (status.ok()) break;
  }
  return status;
}

std::size_t Cluster::open_breakers() const {
  std::size_t open = 0;
  for (const NodePtr& node : table_.Get()->nodes) open += node->pool.open_breakers();
  return open;
}

std::uint64_t Cluster::breaker_openings() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t openings = forgotten_openings_;
  for (const NodePtr& node : nodes_) openings += node->pool.breaker_openings();
  return openings;
}

std::size_t Cluster::waiting_calls() const {
  std::size_t waiting = 0;
  for (const NodePtr& node : table_.Get()->nodes) waiting += node->pool.waiting_calls();
  return waiting;
}

bool Cluster::may_evict() const {
  return std::ranges::any_of(table_.Get()->nodes,
                             [](const NodePtr& node) { return node->pool.may_evict(); });
}

auto Cluster::Known(Deadline deadline) -> absl::StatusOr<std::shared_ptr<const Table>> {
  std::shared_ptr<const Table> table = table_.Get();
  if (!table->nodes.empty()) return table;
  const Deadline until = std::min(deadline, std::chrono::steady_clock::now() + options_.timeout);
  std::unique_lock lock(mutex_);
  wanted_ = true;
  changed_.notify_all();
  if (!changed_.wait_until(lock, until, [this] { return asked_; })) {
    return OutOfTime(until == deadline);
  }
  table = table_.Get();
  if (table->nodes.empty()) return Unavailable(std::string(error_.message()));
  return table;
}

auto Cluster::At(const HostPort& address) -> absl::StatusOr<NodePtr> {
  const std::lock_guard lock(mutex_);
  auto node = std::ranges::find(nodes_, address, [](const NodePtr& each) { return each->address; });
  if (node == nodes_.end()) {
    if (nodes_.size() >= kMaxNodes) return absl::UnavailableError("there are too many nodes");
    try {
      node = nodes_.insert(nodes_.end(), std::make_shared<Node>(*this, address));
    } catch (const std::system_error&) {
      return absl::UnavailableError("the system has no thread to give for another node");
    }
  }
  (*node)->named_at = std::chrono::steady_clock::now();
  return *node;
}

void Cluster::RunAt(Node& node, std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) {
  const Deadline until = std::min(deadline, std::chrono::steady_clock::now() + options_.timeout);
  node.pool.Run(calls, deadline, purpose);
  if (std::ranges::all_of(calls, WasRun)) return;
  Follow(node, calls, kMaxHops, until);
  for (const ScriptCall& call : calls) {
    absl::Status& status = call.transaction->status;
    if (absl::IsDeadlineExceeded(status)) status = OutOfTime(until == deadline);
  }
}

void Cluster::Follow(Node& from, std::span<ScriptCall> calls, int hops, Deadline until) {
  const auto run = std::ranges::stable_partition(calls, std::not_fn(WasRun));
  calls = calls.first(calls.size() - run.size());
  const auto alike = [](const ScriptCall& call) { return std::tie(call.slot, call.redirection); };
  std::ranges::stable_sort(calls, {}, alike);
  while (!calls.empty()) {
    const std::span<ScriptCall> part =
        First(calls, [&](const ScriptCall& call) { return alike(call) == alike(calls.front()); });
    calls = calls.subspan(part.size());
    FollowAlike(from, part, hops, until);
  }
}

void Cluster::FollowAlike(Node& from, std::span<ScriptCall> calls, int hops, Deadline until) {
  if (hops == 0) {
    return FailAll(
        calls, Unavailable(fmt::format("too many cluster redirections: {} says {}",
                                       from.address.Text(), Printable(calls.front().redirection))));
  }
  if (until <= std::chrono::steady_clock::now()) {
    return FailAll(calls, absl::DeadlineExceededError("sent on too late"));
  }
  const absl::StatusOr<Next> next = FindNext(from, calls, until);
  if (!next.ok()) {
    return FailAll(calls, absl::IsDeadlineExceeded(next.status())
                              ? next.status()
                              : Unavailable(std::string(next.status().message())));
  }
  for (ScriptCall& call : calls) {
    call.redirection.clear();
    call.asking = next->asking;
    call.answered = false;
  }
  if (next->asking) {
    RunAsking(*next->node, calls, until);
  } else {
    next->node->pool.Run(calls, until, Purpose::kCall);
  }
  Follow(*next->node, calls, hops - 1, until);
}

auto Cluster::FindNext(Node& from, std::span<const ScriptCall> calls, Deadline until)
    -> absl::StatusOr<Next> {
  const std::string_view error = calls.front().redirection;
  const auto redirection = ReadRedirection(error, from.address);
  if (!redirection.has_value()) {
    return absl::UnavailableError(fmt::format("{} says {}", from.address.Text(), Printable(error)));
  }
  switch (redirection->kind) {
    case Redirection::Kind::kMoved:
      Refresh();
      return NextAt(redirection->to);
    case Redirection::Kind::kAsk:
      return NextAt(redirection->to, /*asking=*/true);
    case Redirection::Kind::kTryAgain:
      break;
  }
  return BringTogether(from, calls, until);
}

auto Cluster::BringTogether(Node& from, std::span<const ScriptCall> calls, Deadline until)
    -> absl::StatusOr<Next> {
  const RedisServer& server = from.options.server;
  absl::StatusOr<Connection> connection = Open(server, from.resolver, until);
  if (!connection.ok()) return connection.status();

  const std::vector<std::string> keys = KeysOf(calls, key_prefix_);
  std::string questions;
  for (const std::string& key : keys) questions += FormatCommand({"HMGET", key, "tokens"});
  if (absl::Status sent = connection->Send(questions, until); !sent.ok()) return sent;
  std::vector<std::string> there;
  std::optional<HostPort> target;
  RedisReply reply;
  for (const std::string& key : keys) {
    if (absl::Status came = connection->Receive(reply, until); !came.ok()) return came;
    if (reply.type() != RedisReply::Type::kError) {
      there.push_back(key);
      continue;
    }
    const auto redirection = ReadRedirection(reply.text(), from.address);
    if (!redirection.has_value() || redirection->kind == Redirection::Kind::kTryAgain) {
      return Refused(reply, "HMGET");
    }
    // The slot has been given away meanwhile.
    if (redirection->kind == Redirection::Kind::kMoved) return NextAt(redirection->to);
    target = redirection->to;
  }
  if (!target.has_value()) return NextAt(from.address);
  absl::StatusOr<Next> next = NextAt(*target, /*asking=*/true);
  if (!next.ok() || there.empty()) return next;

  // While a server gives keys away it answers nobody: so not to one that does not answer.
  if (absl::Status answers = next->node->pool.Check(until); !answers.ok()) {
    return answers;
  }
  if (until <= std::chrono::steady_clock::now()) {
    return absl::DeadlineExceededError("sent on too late");
  }
  const auto migrate = FormatMigrate(server, *target, options_.timeout, there);
  if (!migrate.ok()) return migrate.status();
  const Deadline deadline = std::chrono::steady_clock::now() + options_.timeout;
  if (absl::Status sent = connection->Send(*migrate, deadline); !sent.ok()) return sent;
  if (absl::Status came = connection->Receive(reply, deadline); !came.ok()) return came;
  if (reply.type() != RedisReply::Type::kError) return next;
  const auto redirection = ReadRedirection(reply.text(), from.address);
  if (!redirection.has_value() || redirection->kind != Redirection::Kind::kMoved) {
    return Refused(reply, "MIGRATE");
  }
  return NextAt(redirection->to);
}

auto Cluster::NextAt(const HostPort& address, bool asking) -> absl::StatusOr<Next> {
  absl::StatusOr<NodePtr> node = At(address);
  if (!node.ok()) return node.status();
  return Next{.node = *std::move(node), .asking = asking};
}

void Cluster::RunAsking(Node& node, std::span<ScriptCall> calls, Deadline until) {
  // Each with as many calls that keep its keys.
  constexpr std::size_t kMaxBuckets = CommandBatch::kMaxBuckets / 4;
  while (!calls.empty()) {
    std::size_t size = 0;
    std::size_t buckets = 0;
    while (size < calls.size()) {
      buckets += calls[size].buckets.size();
      if (size > 0 && buckets > kMaxBuckets) break;
      ++size;
    }
    const std::span<ScriptCall> part = calls.first(size);
    std::vector<Transaction> looks;
    std::vector<Decision> decisions(buckets);
    looks.reserve(buckets);
    ScriptCallBuilder sent;
    for (const ScriptCall& call : part) {
      // A single key need not be there.
      if (call.transaction->charges.size() == 1) continue;
      for (const Charge& charge : call.transaction->charges) {
        looks.push_back({.charges = {&charge, 1},
                         .action = Action::kPeek,
                         .decisions = {&decisions[looks.size()], 1}});
        ScriptCall keep = ScriptCall::Of(looks.back());
        keep.touch_keys = true;
        keep.asking = true;
        sent.calls.push_back(std::move(keep));
      }
    }
    sent.Write(key_prefix_);
    sent.calls.insert(sent.calls.end(), part.begin(), part.end());
    node.pool.Run(sent.calls, until, Purpose::kCall);
    const auto answers = std::span<ScriptCall>(sent.calls).last(size);
    for (std::size_t i = 0; i < size; ++i) part[i].redirection = answers[i].redirection;
    calls = calls.subspan(size);
  }
}

void Cluster::Refresh() {
  const std::lock_guard lock(mutex_);
  wanted_ = true;
  changed_.notify_all();
}

void Cluster::Watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      const std::lock_guard lock(mutex_);
      wanted_ = false;
    }
    absl::StatusOr<Announcement> announcement = Ask(stop);
    const absl::Status status = announcement.status();
    if (announcement.ok()) Take(*std::move(announcement));
    Forget();
    std::unique_lock lock(mutex_);
    asked_ = true;
    error_ = status;
    changed_.notify_all();
    changed_.wait_for(lock, stop, kRest, [] { return false; });
    changed_.wait_for(lock, stop, interval_, [this] { return wanted_; });
  }
}

auto Cluster::Ask(const std::stop_token& stop) -> absl::StatusOr<Announcement> {
  const std::shared_ptr<const Table> table = table_.Get();
  std::vector<std::pair<HostPort, EndpointResolver*>> known;
  for (const NodePtr& node : table->nodes) known.emplace_back(node->address, &node->resolver);
  for (const Seed& seed : seeds_) known.emplace_back(seed.address, seed.resolver.get());
  std::ranges::stable_partition(known, [this](const auto& each) { return each.first == first_; });

  std::optional<Announcement> best;
  std::string reasons;
  for (const auto& [address, resolver] : known) {
    if (stop.stop_requested()) break;
    absl::StatusOr<Announcement> told = AskOne(address, *resolver);
    if (!told.ok()) {
      reasons += fmt::format("; {}: {}", address.Text(), std::string(told.status().message()));
      continue;
    }
    if (best.has_value() && told->epoch <= best->epoch) continue;
    best = *std::move(told);
    first_ = address;
    // One that tells less has been away, and does not know of a failover.
    if (best->epoch >= announced_.epoch) break;
  }
  if (best.has_value()) return *std::move(best);
  for (const Seed& seed : seeds_) seed.resolver->Refresh();  // Names may point elsewhere by now.
  return absl::UnavailableError(fmt::format("no node tells who has which slots{}", reasons));
}

auto Cluster::AskOne(const HostPort& address, EndpointResolver& resolver) const
    -> absl::StatusOr<Announcement> {
  const Deadline deadline = std::chrono::steady_clock::now() + options_.timeout;
  absl::StatusOr<Connection> connection =
      Open(OptionsOf(options_, address).server, resolver, deadline);
  if (!connection.ok()) return connection.status();
  if (!connection->of_cluster()) {
    return absl::UnavailableError("is no node of a Redis Cluster: name it by redis://");
  }
  const std::string questions =
      FormatCommand({"CLUSTER", "INFO"}) + FormatCommand({"CLUSTER", "SLOTS"});
  if (absl::Status sent = connection->Send(questions, deadline); !sent.ok()) return sent;
  Announcement announcement;
  RedisReply reply;
  if (absl::Status came = connection->Receive(reply, deadline); !came.ok()) return came;
  if (reply.type() == RedisReply::Type::kError) return Refused(reply, "CLUSTER INFO");
  announcement.epoch = NumberOf(reply.text(), "cluster_current_epoch:");
  if (absl::Status came = connection->Receive(reply, deadline); !came.ok()) return came;
  if (reply.type() == RedisReply::Type::kError) return Refused(reply, "CLUSTER SLOTS");
  absl::StatusOr<std::vector<SlotRange>> ranges = ReadSlots(reply, address);
  if (!ranges.ok()) return ranges.status();
  if (ranges->empty()) return absl::UnavailableError("no master has any slots");
  announcement.ranges = *std::move(ranges);
  return announcement;
}

void Cluster::Take(Announcement announcement) {
  announced_.epoch = announcement.epoch;
  if (announcement.ranges == announced_.ranges) return;
  announced_.ranges = std::move(announcement.ranges);
  auto table = std::make_shared<Table>();
  table->owners.fill(kNobody);
  for (const SlotRange& range : announced_.ranges) {
    const absl::StatusOr<NodePtr> node = At(range.master);
    if (!node.ok()) continue;
    auto place = std::ranges::find(table->nodes, *node);
    if (place == table->nodes.end()) place = table->nodes.insert(place, *node);
    std::fill(table->owners.begin() + range.first, table->owners.begin() + range.last + 1,
              static_cast<std::uint16_t>(place - table->nodes.begin()));
  }
  for (std::size_t place = 0; place < table->nodes.size(); ++place) {
    const auto has = [&](std::uint32_t tag) {
      return table->owners[SlotOf(std::to_string(tag))] == place;
    };
    std::uint32_t tag = 0;
    while (tag < kMaxCheckTag && !has(tag)) ++tag;
    table->nodes[place]->pool.SetCheckTag(tag);
  }
  table_.Set(table);
}

void Cluster::Forget() {
  const std::shared_ptr<const Table> table = table_.Get();
  std::vector<NodePtr> unused;  // Outlives the lock: destroying them may wait.
  const std::lock_guard lock(mutex_);
  const auto used = [&](const NodePtr& node) {
    return node.use_count() > 1 || std::chrono::steady_clock::now() < node->named_at + kKept;
  };
  const auto rest = std::ranges::stable_partition(nodes_, used);
  for (NodePtr& node : rest) {
    forgotten_openings_ += node->pool.breaker_openings();
    unused.push_back(std::move(node));
  }
  nodes_.erase(rest.begin(), rest.end());
}

absl::Status Cluster::Unavailable(std::string_view why) const {
  return absl::UnavailableError(
      fmt::format("Redis at {} is not available: {}", options_.server.Address(), why));
}

absl::Status Cluster::OutOfTime(bool of_the_call) const {
  if (of_the_call) {
    return absl::DeadlineExceededError("the call's deadline passed before Redis was asked");
  }
  return Unavailable(fmt::format("timed out following redirections (REDIS_TIMEOUT is {})",
                                 FormatDuration(options_.timeout)));
}

}  // namespace ratelimiter
