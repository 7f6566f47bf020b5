#include "ratelimiter/redis/redis_token_bucket.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include <absl/container/inlined_vector.h>
#include <fmt/format.h>

#include "command_writer.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

// Goes up when the meaning of a stored bucket changes, so that instances of
// both versions do not read each other's.
constexpr int kLayoutVersion = 1;

constexpr std::size_t kMaxMessageBytes = 200;
constexpr std::size_t kMaxElements = 5;

// Buckets of one round trip at most, but for one transaction's: enough that few
// are needed, and so few that they are decided well within REDIS_TIMEOUT and that
// other callers' commands come between.
constexpr std::size_t kMaxBuckets = 256;

// How many of the first transactions go in one round trip.
std::size_t RoundTripSize(std::span<const Transaction> transactions) {
  std::size_t size = 0;
  std::size_t buckets = 0;
  while (size < transactions.size()) {
    buckets += transactions[size].charges.size();
    if (size > 0 && buckets > kMaxBuckets) break;
    ++size;
  }
  return size;
}

// What a check looks at: a bucket that no call has, for none has an empty subject.
constexpr Charge kCheck = {
    .limit = "check", .subject = "", .quota = {1, 1, std::chrono::seconds(1)}, .cost = 0};

bool IsError(const redisReply& reply, std::string_view prefix) {
  return reply.type == REDIS_REPLY_ERROR &&
         std::string_view(reply.str, reply.len).starts_with(prefix);
}

// Whether the error that Redis replied is about what it was asked (a key of
// another type, a bucket that holds nonsense), not about its own state (a
// demoted master, loading, out of memory): it would answer others.
bool IsOfTheCommand(const redisReply& error) {
  return IsError(error, "ERR ") || IsError(error, "WRONGTYPE ");
}

absl::Status DeadlinePassed() {
  return absl::DeadlineExceededError("the call's deadline passed before Redis was asked");
}

// What came, for a message.
std::string Describe(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_ERROR:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_STRING:
      return fmt::format("\"{}\"", Printable({reply.str, reply.len}, kMaxMessageBytes));
    case REDIS_REPLY_INTEGER:
      return fmt::format("the integer {}", reply.integer);
    case REDIS_REPLY_NIL:
      return "nil";
    case REDIS_REPLY_ARRAY: {
      std::string elements;
      const std::size_t shown = std::min<std::size_t>(reply.elements, kMaxElements);
      for (const redisReply* element : std::span(reply.element, shown)) {
        if (!elements.empty()) elements += ", ";
        elements += Describe(*element);
      }
      return fmt::format("an array of {}: {}", reply.elements, elements);
    }
    default:
      return fmt::format("a reply of type {}", reply.type);
  }
}

// The script's reply, if it is what the script promises.
absl::Status ParseDecisions(const redisReply& reply, Transaction& transaction) {
  if (reply.type == REDIS_REPLY_ERROR) {
    const std::string answer = fmt::format("Redis answered {}", Describe(reply));
    return IsOfTheCommand(reply) ? absl::InternalError(answer) : absl::UnavailableError(answer);
  }
  constexpr std::size_t kNumbers = 4;
  const std::size_t charges = transaction.charges.size();
  bool promised = reply.type == REDIS_REPLY_ARRAY && reply.elements == kNumbers * charges;
  for (std::size_t i = 0; promised && i < charges; ++i) {
    std::array<std::int64_t, kNumbers> numbers{};
    for (std::size_t j = 0; promised && j < kNumbers; ++j) {
      const redisReply& element = *std::span(reply.element, reply.elements)[kNumbers * i + j];
      promised = element.type == REDIS_REPLY_INTEGER && element.integer >= 0;
      numbers[j] = element.integer;
    }
    const auto [allowed, remaining, retry_after, reset_after] = numbers;
    promised = promised && allowed <= 1 &&
               std::cmp_less_equal(remaining, transaction.charges[i].quota.capacity) &&
               (allowed == 1) == (retry_after == 0);
    transaction.decisions[i] = {.allowed = allowed == 1,
                                .remaining = static_cast<std::uint64_t>(remaining),
                                .retry_after = std::chrono::microseconds(retry_after),
                                .reset_after = std::chrono::microseconds(reset_after)};
  }
  if (promised) return absl::OkStatus();
  return absl::InternalError(fmt::format(
      "Redis's reply is not a decision of the token bucket script: {}", Describe(reply)));
}

std::string_view NameOf(Action action) {
  switch (action) {
    case Action::kTake:
      return "take";
    case Action::kLook:
      return "look";
    case Action::kGive:
      return "give";
  }
  return {};  // Not reached.
}

}  // namespace

RedisTokenBucket::RedisTokenBucket(RedisOptions options, Metrics& metrics, Script script)
    : options_(std::move(options)),
      key_prefix_(fmt::format("{}:{}:", options_.key_prefix, kLayoutVersion)),
      script_(std::move(script)),
      load_script_(FormatCommand({"SCRIPT", "LOAD", script_.source})),
      metrics_(metrics),
      pool_(options_.server, options_.pool_size) {}

void RedisTokenBucket::Decide(std::span<Transaction> transactions, Deadline deadline) {
  absl::Status asked;
  while (!transactions.empty()) {
    const auto chunk = transactions.first(RoundTripSize(transactions));
    transactions = transactions.subspan(chunk.size());
    absl::InlinedVector<Command, 1> commands;
    for (const Transaction& transaction : chunk) commands.push_back({.text = Evalsha(transaction)});
    // Once Redis did not answer it is not asked again: each try could take as long.
    if (asked.ok()) asked = RoundTrip(commands, deadline, /*observed=*/true);
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      const Reply& reply = commands[i].reply;
      chunk[i].status = reply == nullptr ? asked : ParseDecisions(*reply, chunk[i]);
    }
  }
}

absl::Status RedisTokenBucket::Check(Deadline deadline) {
  // A Redis that answers PING may refuse every decision: a demoted master, one
  // without memory. It refuses a look likewise, for the script may write.
  Decision decision;
  Transaction look = {
      .charges = {&kCheck, 1}, .action = Action::kLook, .decisions = {&decision, 1}};
  Command command = {.text = Evalsha(look)};
  // Not observed: the latency is that of calls, of which there may be few.
  if (absl::Status asked = RoundTrip({&command, 1}, deadline, /*observed=*/false); !asked.ok()) {
    return asked;
  }
  return ParseDecisions(*command.reply, look);
}

std::string RedisTokenBucket::Key(std::string_view limit, std::string_view subject) const {
  return fmt::format("{}{}:{}", key_prefix_, limit, subject);
}

std::string RedisTokenBucket::Evalsha(const Transaction& transaction) const {
  constexpr std::size_t kArgumentsPerCharge = 7;
  const auto& charges = transaction.charges;
  CommandWriter command(4 + kArgumentsPerCharge * charges.size());
  command.Add({"EVALSHA"});
  command.Add({script_.sha1});
  command.Add(charges.size());
  for (const Charge& charge : charges) {
    command.Add({key_prefix_, charge.limit, ":", charge.subject});
  }
  command.Add({NameOf(transaction.action)});
  for (const Charge& charge : charges) {
    command.Add(charge.quota.capacity);
    command.Add(charge.quota.refill_tokens);
    command.Add(static_cast<std::uint64_t>(charge.quota.refill_interval.count()));
    command.Add(Fingerprint(charge.quota));
    command.Add(charge.cost);
    command.Add({charge.shadow ? "1" : "0"});
  }
  return command.Take();
}

absl::Status RedisTokenBucket::RoundTrip(std::span<Command> commands, Deadline deadline,
                                         bool observed) {
  const auto asked = std::chrono::steady_clock::now();
  if (deadline <= asked) return DeadlinePassed();
  const Deadline send_by = std::min(deadline, asked + options_.timeout);
  absl::StatusOr<ConnectionPool::Lease> lease = pool_.Acquire(send_by);
  if (!lease.ok()) return NotAsked(lease.status(), deadline);
  Connection& connection = **lease;

  const auto sending = std::chrono::steady_clock::now();
  std::string together;
  std::string_view text = commands.front().text;
  if (commands.size() > 1) {
    for (const Command& command : commands) together += command.text;
    text = together;
  }
  if (absl::Status sent = connection.Send(text, send_by); !sent.ok()) {
    // Of several commands Redis may have run the first.
    return commands.size() > 1 ? Unavailable(sent) : NotAsked(sent, deadline);
  }
  // The commands are Redis's now, so their replies are waited for even if the
  // caller's deadline ends meanwhile: a short deadline must not cost a connection.
  const absl::Status answered =
      ReceiveAll(connection, commands, std::chrono::steady_clock::now() + options_.timeout);
  if (observed) metrics_.ObserveRedisLatency(std::chrono::steady_clock::now() - sending);
  if (!answered.ok()) return Unavailable(answered);

  // A server that refuses all may be the wrong one by now (a demoted master):
  // the next call looks anew.
  for (const Command& command : commands) {
    if (command.reply->type == REDIS_REPLY_ERROR && !IsOfTheCommand(*command.reply)) {
      connection.MarkBroken();
    }
  }
  return absl::OkStatus();
}

absl::Status RedisTokenBucket::ReceiveAll(Connection& connection, std::span<Command> commands,
                                          Deadline deadline) const {
  bool script_missing = false;
  for (Command& command : commands) {
    absl::StatusOr<Reply> reply = connection.Receive(deadline);
    if (!reply.ok()) return reply.status();
    command.reply = *std::move(reply);
    script_missing = script_missing || IsError(*command.reply, "NOSCRIPT");
  }
  return script_missing ? LoadAndRepeat(connection, commands, deadline) : absl::OkStatus();
}

absl::Status RedisTokenBucket::LoadAndRepeat(Connection& connection, std::span<Command> commands,
                                             Deadline deadline) const {
  std::vector<Command*> repeated;
  std::string text = load_script_;
  for (Command& command : commands) {
    if (!IsError(*command.reply, "NOSCRIPT")) continue;
    command.reply.reset();
    text += command.text;
    repeated.push_back(&command);
  }
  if (absl::Status sent = connection.Send(text, deadline); !sent.ok()) return sent;
  absl::StatusOr<Reply> loaded = connection.Receive(deadline);
  if (!loaded.ok()) return loaded.status();
  for (Command* command : repeated) {
    absl::StatusOr<Reply> reply = connection.Receive(deadline);
    if (!reply.ok()) return reply.status();
    command->reply = *std::move(reply);
  }
  // Why the script could not be loaded says more than that it is not there.
  if ((*loaded)->type == REDIS_REPLY_ERROR) repeated.front()->reply = *std::move(loaded);
  return absl::OkStatus();
}

absl::Status RedisTokenBucket::NotAsked(const absl::Status& error, Deadline deadline) const {
  if (deadline <= std::chrono::steady_clock::now()) return DeadlinePassed();
  return Unavailable(error);
}

absl::Status RedisTokenBucket::Unavailable(const absl::Status& error) const {
  const std::string bound =
      absl::IsDeadlineExceeded(error)
          ? fmt::format(" (REDIS_TIMEOUT is {})", FormatDuration(options_.timeout))
          : std::string();
  return absl::UnavailableError(
      fmt::format("Redis at {} is not available: {}{}", options_.server.Address(),
                  std::string_view(error.message().data(), error.message().size()), bound));
}

}  // namespace ratelimiter
