#include "lane.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <fmt/format.h>

#include "error_policy.h"
#include "ratelimiter/base/duration.h"

namespace ratelimiter {
namespace {

// Far more than a server has calls in flight.
constexpr std::size_t kMaxWaiting = 20'000;

// A round trip takes no further callers once it has so many buckets: enough that
// few round trips are needed, and so few that Redis is done well within a timeout.
constexpr std::size_t kEnoughBuckets = 128;

// Pause after a failed attempt to replace a connection that is too old.
constexpr std::chrono::seconds kReplaceAgainAfter{1};

absl::Status DeadlinePassed() {
  return absl::DeadlineExceededError("the call's deadline passed before Redis was asked");
}

// Whether a key that is no bucket failed the script, and so the calls beside it, which
// it does before anything is written. Of other errors that is not known.
bool IsOfABucket(const RedisReply& reply) {
  return reply.IsError("WRONGTYPE ") || reply.IsError("ERR user_script:");
}

bool IsRedirection(const RedisReply& reply) {
  return reply.type() == RedisReply::Type::kError && ErrorPolicyFor(reply.text()).redirects;
}

absl::StatusOr<Connection> OpenAt(RedisServer server, const Endpoint& location, Deadline deadline) {
  if (location.port != 0) server.port = location.port;
  absl::StatusOr<Connection> opened = Connection::Open(server, location.addresses, deadline);
  if (opened.ok() || location.source.empty()) return opened;
  return absl::Status(opened.status().code(), fmt::format("at {}: {}", location.source,
                                                          std::string(opened.status().message())));
}

std::vector<ScriptCall*> Unanswered(const CommandBatch& batch) {
  std::vector<ScriptCall*> calls;
  for (const CommandBatch::Command& command : batch.commands()) {
    for (ScriptCall* call = command.first; call != nullptr; call = call->next) {
      if (!call->answered) calls.push_back(call);
    }
  }
  return calls;
}

}  // namespace

Lane::Lane(const RedisServer& server, std::chrono::milliseconds timeout, const Script& script,
           EndpointResolver& resolver, Breaker& breaker, Metrics& metrics,
           std::function<void(const Connection&)> on_connected,
           std::chrono::milliseconds max_connection_age)
    : queue_(kMaxWaiting),
      resolver_(resolver),
      breaker_(breaker),
      metrics_(metrics),
      server_(server),
      timeout_(timeout),
      script_(script),
      load_script_(FormatCommand({"SCRIPT", "LOAD", script.source})),
      on_connected_(std::move(on_connected)),
      max_connection_age_(max_connection_age),
      random_(std::random_device{}()) {}

void Lane::Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) {
  const auto now = std::chrono::steady_clock::now();
  Errand errand = {.calls = calls,
                   .came = now,
                   .deadline = deadline,
                   .send_by = std::min(deadline, now + timeout_),
                   .purpose = purpose};
  if (deadline <= now) return Fail(errand, DeadlinePassed());
  if (breaker_.open() && purpose != Purpose::kProbe) return Fail(errand, GivenUp());
  using enum TurnQueue<Errand>::Entry;
  switch (queue_.Enter(errand, errand.send_by)) {
    case kLeads:
      return Lead(errand);
    case kCarried:
      return;
    case kGaveUp:
      return Fail(errand, TooLate(errand));
    case kFull:
      return Fail(errand, absl::ResourceExhaustedError(
                              fmt::format("{} calls wait for Redis already", kMaxWaiting)));
  }
}

void Lane::Close::operator()(Connection* connection) const {
  delete connection;  // NOLINT(cppcoreguidelines-owning-memory): a unique_ptr's.
  metrics->CountClosed();
}

void Lane::Lead(Errand& own) {
  TurnQueue<Errand>::Turn turn(queue_);
  // It opened while this caller waited.
  if (breaker_.open() && own.purpose != Purpose::kProbe) return FailAll(own, turn, GivenUp());
  if (own.send_by <= std::chrono::steady_clock::now()) return Fail(own, TooLate(own));
  if (const absl::Status connected = Connect(own.send_by); !connected.ok()) {
    if (absl::IsDeadlineExceeded(connected) && own.deadline == own.send_by) {
      return Fail(own, DeadlinePassed());
    }
    const absl::Status error = Unavailable(connected);
    metrics_.redis().CountError(RedisError::kConnect);
    breaker_.Failed(std::string(error.message()));
    // Those who wait would find the same, unless it was this caller's time that
    // ended.
    return absl::IsDeadlineExceeded(connected) ? Fail(own, error) : FailAll(own, turn, error);
  }
  Gather(own, turn);
  if (const absl::Status error = Exchange(); !error.ok()) {
    for (ScriptCall* call : Unanswered(batch_)) call->transaction->status = error;
  }
  if (!connection_->broken()) return;
  connection_.reset();
  // A master that was demoted still lets us connect, while the name points to
  // its successor.
  resolver_.Refresh();
}

void Lane::FailAll(const Errand& own, TurnQueue<Errand>::Turn& turn, const absl::Status& error) {
  Fail(own, error);
  while (const Errand* other = turn.TakeNext()) Fail(*other, error);
}

absl::Status Lane::Connect(Deadline deadline) {
  const bool usable =
      connection_ != nullptr && epoch_ == resolver_.epoch() && !connection_->IsStale();
  const auto now = std::chrono::steady_clock::now();
  if (usable && now < replace_at_) return absl::OkStatus();
  if (usable) {
    // The old one must still have time to serve where this fails.
    deadline = now + (deadline - now) / 2;
  } else {
    connection_.reset();
  }
  const absl::StatusOr<Endpoint> location = resolver_.Find(deadline);
  absl::StatusOr<Connection> opened =
      location.ok() ? OpenAt(server_, *location, deadline) : location.status();
  if (!opened.ok()) {
    resolver_.Refresh();  // The name may point elsewhere by now.
    if (!usable) return opened.status();
    replace_at_ = now + kReplaceAgainAfter;
    return absl::OkStatus();
  }
  connection_.reset(std::make_unique<Connection>(*std::move(opened)).release());
  metrics_.redis().CountOpened();
  epoch_ = location->epoch;
  replace_at_ = std::chrono::steady_clock::time_point::max();
  if (max_connection_age_ != std::chrono::milliseconds(0)) {
    // Jittered, so that a fleet's connections are not replaced all at once.
    const std::chrono::microseconds age = max_connection_age_;
    std::uniform_int_distribution<std::int64_t> jitter(-age.count() / 10, age.count() / 10);
    replace_at_ =
        std::chrono::steady_clock::now() + age + std::chrono::microseconds(jitter(random_));
  }
  on_connected_(*connection_);
  return absl::OkStatus();
}

void Lane::Gather(const Errand& own, TurnQueue<Errand>::Turn& turn) {
  const auto add = [this](const Errand& errand) {
    for (ScriptCall& call : errand.calls) {
      // A Cluster runs no script over several slots, though one node has them all, and
      // only those who know it as a Cluster know the slots.
      if (connection_->of_cluster() && !server_.cluster_node) {
        batch_.AddAlone(call);
      } else {
        batch_.Add(call);
      }
    }
    observed_ = observed_ || errand.purpose == Purpose::kCall;
    waited_since_ = std::min(waited_since_, errand.came);
    calls_ += errand.calls.size();
  };
  batch_.Clear();
  observed_ = false;
  waited_since_ = own.came;
  calls_ = 0;
  add(own);
  const auto now = std::chrono::steady_clock::now();
  // No call is to wait for a probe.
  while (own.purpose != Purpose::kProbe && batch_.buckets() < kEnoughBuckets) {
    const Errand* const other = turn.TakeNext();
    if (other == nullptr) break;
    if (other->send_by <= now) {
      Fail(*other, TooLate(*other));
    } else {
      add(*other);
    }
  }
  batch_.Write(script_, connection_->may_evalsha() ? RunScript::kBySha1 : RunScript::kBySource);
}

absl::Status Lane::Exchange() {
  const auto sending = std::chrono::steady_clock::now();
  // No caller's deadline counts from here on: a short one must cost neither the
  // connection nor the others their answers.
  const Deadline deadline = sending + timeout_;
  bool again = false;
  refused_ = absl::OkStatus();
  absl::Status status = connection_->Send(batch_.text(), deadline);
  if (status.ok()) status = ReceiveAll(deadline, again);
  if (status.ok() && again) status = Repeat(deadline);
  if (observed_) {
    metrics_.redis().Observe({.latency = std::chrono::steady_clock::now() - sending,
                              .waited = sending - waited_since_,
                              .calls = calls_});
  }
  if (!status.ok()) {
    metrics_.redis().CountError(KindOf(status));
    status = Unavailable(status);
  }
  const absl::Status& failed = status.ok() ? refused_ : status;
  if (failed.ok()) {
    breaker_.Succeeded();
  } else {
    breaker_.Failed(std::string(failed.message()));
  }
  return status;
}

RedisError Lane::KindOf(const absl::Status& error) const {
  if (absl::IsDeadlineExceeded(error)) return RedisError::kTimeout;
  // INTERNAL is of a reply that the script does not give.
  const bool answered = absl::IsInternal(error) || connection_->garbled();
  return answered ? RedisError::kProtocol : RedisError::kConnection;
}

absl::Status Lane::Receive(const CommandBatch::Command& command, Deadline deadline) {
  // ASKING's own answer says nothing: the script's does.
  if (command.first->asking) {
    if (absl::Status came = connection_->Receive(reply_, deadline); !came.ok()) return came;
  }
  return connection_->Receive(reply_, deadline);
}

absl::Status Lane::ReceiveAll(Deadline deadline, bool& again) {
  script_missing_ = false;
  for (const CommandBatch::Command& command : batch_.commands()) {
    if (absl::Status came = Receive(command, deadline); !came.ok()) return came;
    const bool unknown = reply_.IsError("NOSCRIPT");
    script_missing_ = script_missing_ || unknown;
    if (unknown || (command.calls > 1 && (IsOfABucket(reply_) || IsRedirection(reply_)))) {
      again = true;
    } else if (absl::Status taken = Take(command); !taken.ok()) {
      return taken;
    }
  }
  return absl::OkStatus();
}

absl::Status Lane::Take(const CommandBatch::Command& command) {
  ParseReply(*command.first, command.calls, reply_);
  if (reply_.type() != RedisReply::Type::kError) {
    const absl::Status& status = command.first->transaction->status;
    // Then it may be the answer to something else, and the next ones as well.
    if (!status.ok()) connection_->MarkBroken();
    return status;
  }
  const ErrorPolicy& policy = ErrorPolicyFor(reply_.text());
  if (policy.redirects && server_.cluster_node) {
    command.first->redirection = reply_.text();
    return absl::OkStatus();
  }
  metrics_.redis().CountError(policy.counted_as);
  // It may be the wrong server by now (a demoted master): the next turn looks anew.
  if (policy.reconnect) connection_->MarkBroken();
  if (!policy.of_the_command) refused_ = command.first->transaction->status;
  return absl::OkStatus();
}

absl::Status Lane::Repeat(Deadline deadline) {
  const std::vector<ScriptCall*> calls = Unanswered(batch_);
  batch_.Clear();
  for (ScriptCall* call : calls) batch_.AddAlone(*call);
  const bool load = script_missing_ && connection_->may_load_scripts();
  const bool by_sha1 = connection_->may_evalsha() && (load || !script_missing_);
  batch_.Write(script_, by_sha1 ? RunScript::kBySha1 : RunScript::kBySource);
  // One write, which Redis reads at once unless it is long, so that no SCRIPT FLUSH of
  // another client comes between the loading and the calls.
  std::string commands = load ? load_script_ : std::string();
  commands += batch_.text();
  if (absl::Status sent = connection_->Send(commands, deadline); !sent.ok()) return sent;
  RedisReply loaded;
  if (load) {
    if (absl::Status came = connection_->Receive(loaded, deadline); !came.ok()) return came;
  }
  for (const CommandBatch::Command& command : batch_.commands()) {
    if (absl::Status came = Receive(command, deadline); !came.ok()) return came;
    // Why the script could not be loaded says more than that it is not there.
    if (loaded.type() == RedisReply::Type::kError) reply_ = loaded;
    if (absl::Status taken = Take(command); !taken.ok()) return taken;
  }
  return absl::OkStatus();
}

void Lane::Fail(const Errand& errand, const absl::Status& status) {
  for (const ScriptCall& call : errand.calls) call.transaction->status = status;
}

absl::Status Lane::TooLate(const Errand& errand) const {
  if (errand.deadline == errand.send_by) return DeadlinePassed();
  return Unavailable(absl::DeadlineExceededError("timed out waiting for the shared connection"));
}

absl::Status Lane::Unavailable(const absl::Status& error) const {
  const std::string bound = absl::IsDeadlineExceeded(error)
                                ? fmt::format(" (REDIS_TIMEOUT is {})", FormatDuration(timeout_))
                                : std::string();
  return absl::UnavailableError(
      fmt::format("Redis at {} is not available: {}{}", server_.Address(),
                  std::string_view(error.message().data(), error.message().size()), bound));
}

absl::Status Lane::GivenUp() const {
  const auto open_for = std::chrono::floor<std::chrono::milliseconds>(breaker_.open_for());
  return absl::UnavailableError(fmt::format("{}; circuit breaker open for {}; probing",
                                            breaker_.error(), FormatDuration(open_for)));
}

}  // namespace ratelimiter
