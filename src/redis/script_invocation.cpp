#include "script_invocation.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include <absl/hash/hash.h>

#include "command_writer.h"
#include "error_policy.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxElements = 5;

// Of the script's reply for each charge of each call.
constexpr std::size_t kNumbers = 4;

std::string_view NameOf(Action action) {
  switch (action) {
    case Action::kTake:
      return "take";
    case Action::kRefund:
      return "refund";
    case Action::kPeek:
      break;
  }
  return "peek";
}

void AppendKeys(const Transaction& transaction, std::string_view key_prefix, CommandText& out) {
  CommandWriter keys(out);
  for (const Charge& charge : transaction.charges) {
    keys.Add({key_prefix, charge.limit, ":", charge.bucket_key});
  }
}

void AppendLimits(const ScriptCall& call, CommandText& out) {
  CommandWriter limits(out);
  limits.Add({call.touch_keys ? "touch" : NameOf(call.transaction->action)});
  for (const Charge& charge : call.transaction->charges) {
    limits.Add(charge.spec.capacity);
    limits.Add(charge.spec.refill_tokens);
    limits.Add(static_cast<std::uint64_t>(charge.spec.refill_interval.count()));
    limits.Add(Fingerprint(charge.spec));
    limits.Add({charge.shadow ? "1" : "0"});
  }
}

std::size_t HashOfLimits(const ScriptCall& call) {
  std::size_t hash = absl::HashOf(call.limits);
  for (const Charge& charge : call.transaction->charges) hash = absl::HashOf(hash, charge.limit);
  return hash;
}

// The value at `at`, for a message.
std::string Describe(const RedisReply& reply, std::size_t at) {
  switch (reply.type(at)) {
    case RedisReply::Type::kError:
    case RedisReply::Type::kStatus:
    case RedisReply::Type::kString:
      return fmt::format("\"{}\"", Printable(reply.text(at)));
    case RedisReply::Type::kInteger:
      return fmt::format("the integer {}", reply.integer(at));
    case RedisReply::Type::kArray:
      return fmt::format("an array of {}", reply.integer(at));
    default:
      return "nil";
  }
}

std::string Describe(const RedisReply& reply) {
  std::string description = Describe(reply, 0);
  const std::size_t shown = std::min(reply.size(), kMaxElements + 1);
  for (std::size_t at = 1; at < shown; ++at) {
    description += (at == 1 ? ": " : ", ") + Describe(reply, at);
  }
  return description;
}

absl::Status NotPromised(const RedisReply& reply) {
  return absl::InternalError(fmt::format(
      "Redis's reply is not a decision of the token bucket script: {}", Describe(reply)));
}

// The script's answer to one call, which begins at the value `at` of the reply.
absl::Status ParseDecisions(const RedisReply& reply, std::size_t at, Transaction& transaction) {
  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    std::array<std::int64_t, kNumbers> numbers{};
    for (std::int64_t& number : numbers) {
      number = reply.integer(at);
      if (reply.type(at++) != RedisReply::Type::kInteger || number < 0) return NotPromised(reply);
    }
    const auto [allowed, remaining, retry_after, reset_after] = numbers;
    const bool promised = allowed <= 1 &&
                          std::cmp_less_equal(remaining, transaction.charges[i].spec.capacity) &&
                          (allowed == 1) == (retry_after == 0);
    if (!promised) return NotPromised(reply);
    transaction.decisions[i] = {.allowed = allowed == 1,
                                .remaining = static_cast<std::uint64_t>(remaining),
                                .retry_after = std::chrono::microseconds(retry_after),
                                .reset_after = std::chrono::microseconds(reset_after)};
  }
  return absl::OkStatus();
}

// OK if the reply holds so many numbers.
absl::Status CheckReply(const RedisReply& reply, std::size_t numbers) {
  if (reply.type() == RedisReply::Type::kError) {
    const ErrorPolicy& policy = ErrorPolicyFor(reply.text());
    const std::string answer = fmt::format("Redis answered {}{}{}", Describe(reply),
                                           policy.advice.empty() ? "" : "; ", policy.advice);
    return policy.of_the_command ? absl::InternalError(answer) : absl::UnavailableError(answer);
  }
  const bool promised = reply.type() == RedisReply::Type::kArray &&
                        std::cmp_equal(reply.integer(), numbers) && reply.size() == numbers + 1;
  return promised ? absl::OkStatus() : NotPromised(reply);
}

}  // namespace

ScriptCall ScriptCall::Of(Transaction& transaction) {
  ScriptCall call = {.transaction = &transaction};
  for (const Charge& charge : transaction.charges) {
    call.buckets.push_back(absl::HashOf(charge.limit, charge.bucket_key));
  }
  return call;
}

void ScriptCallBuilder::Write(std::string_view key_prefix) {
  struct Ends {
    std::size_t keys;
    std::size_t limits;
  };
  absl::InlinedVector<Ends, 1> ends;
  for (const ScriptCall& call : calls) {
    AppendKeys(*call.transaction, key_prefix, text);
    const std::size_t keys_end = text.size();
    AppendLimits(call, text);
    ends.push_back({.keys = keys_end, .limits = text.size()});
  }
  std::size_t begin = 0;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const auto [keys_end, limits_end] = ends[i];
    calls[i].keys = {text.data() + begin, keys_end - begin};
    calls[i].limits = {text.data() + keys_end, limits_end - keys_end};
    calls[i].limits_hash = HashOfLimits(calls[i]);
    begin = limits_end;
  }
}

bool CanCoalesce(const ScriptCall& one, const ScriptCall& other) {
  const bool plain = !one.asking && !one.touch_keys && !other.asking && !other.touch_keys;
  return plain && one.slot == other.slot && one.limits == other.limits &&
         std::ranges::equal(one.transaction->charges, other.transaction->charges, {},
                            &Charge::limit, &Charge::limit);
}

void AppendCommand(const ScriptCall& first, std::size_t calls, const Script& script, RunScript how,
                   CommandText& out) {
  constexpr std::size_t kNumbersPerLimit = 5;
  const std::size_t limits = first.transaction->charges.size();
  const std::size_t keys = calls * limits;
  CommandWriter command(out);
  command.Begin(4 + keys + kNumbersPerLimit * limits + keys);
  const bool by_sha1 = how == RunScript::kBySha1;
  command.Add({by_sha1 ? "EVALSHA" : "EVAL"});
  command.Add({by_sha1 ? script.sha1 : script.source});
  command.Add(keys);
  for (const ScriptCall* call = &first; call != nullptr; call = call->next) {
    command.AddWritten(call->keys);
  }
  command.AddWritten(first.limits);
  for (const ScriptCall* call = &first; call != nullptr; call = call->next) {
    for (const Charge& charge : call->transaction->charges) command.Add(charge.cost);
  }
}

void ParseReply(ScriptCall& first, std::size_t calls, const RedisReply& reply) {
  const std::size_t numbers = kNumbers * first.transaction->charges.size();
  const absl::Status checked = CheckReply(reply, calls * numbers);
  std::size_t at = 1;
  for (ScriptCall* call = &first; call != nullptr; call = call->next, at += numbers) {
    Transaction& transaction = *call->transaction;
    transaction.status = checked.ok() ? ParseDecisions(reply, at, transaction) : checked;
    call->answered = true;
  }
}

}  // namespace ratelimiter
