#include "ratelimiter/redis/redis_token_bucket.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

// Goes up when the meaning of a stored bucket changes, so that instances of
// both versions do not read each other's.
constexpr int kLayoutVersion = 1;

constexpr std::size_t kMaxMessageBytes = 200;
constexpr std::size_t kMaxElements = 5;

// What a check looks at: the bucket of the empty subject, whom no call has.
const Limit kCheckLimit = {
    .name = "check", .capacity = 1, .refill_tokens = 1, .refill_interval = std::chrono::seconds(1)};
constexpr std::string_view kCheckSubject;

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
absl::StatusOr<Decision> ParseDecision(const redisReply& reply, const Limit& limit) {
  if (reply.type == REDIS_REPLY_ERROR) {
    const std::string answer = fmt::format("Redis answered {}", Describe(reply));
    return IsOfTheCommand(reply) ? absl::InternalError(answer) : absl::UnavailableError(answer);
  }
  std::array<std::int64_t, 4> numbers{};
  bool promised = reply.type == REDIS_REPLY_ARRAY && reply.elements == numbers.size();
  for (std::size_t i = 0; promised && i < numbers.size(); ++i) {
    const redisReply& element = *std::span(reply.element, reply.elements)[i];
    promised = element.type == REDIS_REPLY_INTEGER && element.integer >= 0;
    numbers[i] = element.integer;
  }
  const auto [allowed, remaining, retry_after, reset_after] = numbers;
  promised = promised && allowed <= 1 && std::cmp_less_equal(remaining, limit.capacity) &&
             (allowed == 1) == (retry_after == 0);
  if (!promised) {
    return absl::InternalError(fmt::format(
        "Redis's reply is not a decision of the token bucket script: {}", Describe(reply)));
  }
  return Decision{.allowed = allowed == 1,
                  .remaining = static_cast<std::uint64_t>(remaining),
                  .retry_after = std::chrono::microseconds(retry_after),
                  .reset_after = std::chrono::microseconds(reset_after)};
}

}  // namespace

RedisTokenBucket::RedisTokenBucket(RedisOptions options, Metrics& metrics, Script script)
    : options_(std::move(options)),
      script_(std::move(script)),
      load_script_(FormatCommand({"SCRIPT", "LOAD", script_.source})),
      metrics_(metrics),
      pool_(options_.server, options_.pool_size) {}

absl::StatusOr<Decision> RedisTokenBucket::Decide(const Limit& limit, std::string_view subject,
                                                  Charge charge, Deadline deadline) {
  const absl::StatusOr<Reply> reply =
      RoundTrip(Evalsha(limit, subject, charge), deadline, /*observed=*/true);
  if (!reply.ok()) return reply.status();
  return ParseDecision(**reply, limit);
}

absl::Status RedisTokenBucket::Check(Deadline deadline) {
  // A Redis that answers PING may refuse every decision: a demoted master, one
  // without memory. It refuses a look likewise, for the script may write.
  const std::string look = Evalsha(kCheckLimit, kCheckSubject, {.cost = 0, .take = false});
  // Not observed: the latency is that of calls, of which there may be few.
  const absl::StatusOr<Reply> reply = RoundTrip(look, deadline, /*observed=*/false);
  if (!reply.ok()) return reply.status();
  return ParseDecision(**reply, kCheckLimit).status();
}

std::string RedisTokenBucket::Key(const Limit& limit, std::string_view subject) const {
  std::string key = fmt::format("{}:{}:{{", options_.key_prefix, kLayoutVersion);
  for (const char c : subject) {
    if (c == '%') {
      key += "%25";
    } else if (c == '}') {
      key += "%7D";
    } else {
      key += c;
    }
  }
  key.append("}:").append(limit.name);
  return key;
}

std::string RedisTokenBucket::Evalsha(const Limit& limit, std::string_view subject,
                                      Charge charge) const {
  return FormatCommand({"EVALSHA", script_.sha1, "1", Key(limit, subject),
                        std::to_string(limit.capacity), std::to_string(limit.refill_tokens),
                        std::to_string(limit.refill_interval.count()), std::to_string(charge.cost),
                        charge.take ? "1" : "0"});
}

absl::StatusOr<Reply> RedisTokenBucket::RoundTrip(std::string_view command, Deadline deadline,
                                                  bool observed) {
  const auto asked = std::chrono::steady_clock::now();
  if (deadline <= asked) return DeadlinePassed();
  const Deadline send_by = std::min(deadline, asked + options_.timeout);
  absl::StatusOr<ConnectionPool::Lease> lease = pool_.Acquire(send_by);
  if (!lease.ok()) return NotAsked(lease.status(), deadline);
  Connection& connection = **lease;

  const auto sending = std::chrono::steady_clock::now();
  if (absl::Status sent = connection.Send(command, send_by); !sent.ok()) {
    return NotAsked(sent, deadline);
  }
  // The command is Redis's now, so its reply is waited for even if the caller's
  // deadline ends meanwhile: a short deadline must not cost a connection.
  const Deadline answer_by = std::chrono::steady_clock::now() + options_.timeout;
  absl::StatusOr<Reply> reply = connection.Receive(answer_by);
  if (reply.ok() && IsError(**reply, "NOSCRIPT"))
    reply = LoadAndRepeat(connection, command, answer_by);
  if (observed) metrics_.ObserveRedisLatency(std::chrono::steady_clock::now() - sending);

  if (!reply.ok()) return Unavailable(reply.status());
  // A server that refuses all may be the wrong one by now (a demoted master):
  // the next call looks anew.
  if ((*reply)->type == REDIS_REPLY_ERROR && !IsOfTheCommand(**reply)) connection.MarkBroken();
  return reply;
}

absl::StatusOr<Reply> RedisTokenBucket::LoadAndRepeat(Connection& connection,
                                                      std::string_view command,
                                                      Deadline deadline) const {
  std::string commands = load_script_;
  commands += command;
  if (absl::Status sent = connection.Send(commands, deadline); !sent.ok()) return sent;
  absl::StatusOr<Reply> loaded = connection.Receive(deadline);
  if (!loaded.ok()) return loaded;
  absl::StatusOr<Reply> reply = connection.Receive(deadline);
  // Why the script could not be loaded says more than that it is not there.
  if (reply.ok() && (*loaded)->type == REDIS_REPLY_ERROR) return loaded;
  return reply;
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
