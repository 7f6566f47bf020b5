#include "script_call.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include <absl/hash/hash.h>

#include "command_writer.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxMessageBytes = 200;
constexpr std::size_t kMaxElements = 5;

// Of the script's reply for each charge of each call.
constexpr std::size_t kNumbers = 4;

std::string_view NameOf(Action action) {
  switch (action) {
    case Action::kTake:
      return "take";
    case Action::kGive:
      return "give";
    case Action::kLook:
      break;
  }
  return "look";
}

// The value at `at`, for a message.
std::string Describe(const Reply& reply, std::size_t at) {
  switch (reply.type(at)) {
    case Reply::Type::kError:
    case Reply::Type::kStatus:
    case Reply::Type::kString:
      return fmt::format("\"{}\"", Printable(reply.text(at), kMaxMessageBytes));
    case Reply::Type::kInteger:
      return fmt::format("the integer {}", reply.integer(at));
    case Reply::Type::kArray:
      return fmt::format("an array of {}", reply.integer(at));
    default:
      return "nil";
  }
}

std::string Describe(const Reply& reply) {
  std::string description = Describe(reply, 0);
  const std::size_t shown = std::min(reply.size(), kMaxElements + 1);
  for (std::size_t at = 1; at < shown; ++at) {
    description += (at == 1 ? ": " : ", ") + Describe(reply, at);
  }
  return description;
}

absl::Status NotPromised(const Reply& reply) {
  return absl::InternalError(fmt::format(
      "Redis's reply is not a decision of the token bucket script: {}", Describe(reply)));
}

// The script's answer to one call, which begins at the value `at` of the reply.
absl::Status ParseDecisions(const Reply& reply, std::size_t at, Transaction& transaction) {
  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    std::array<std::int64_t, kNumbers> numbers{};
    for (std::int64_t& number : numbers) {
      number = reply.integer(at);
      if (reply.type(at++) != Reply::Type::kInteger || number < 0) return NotPromised(reply);
    }
    const auto [allowed, remaining, retry_after, reset_after] = numbers;
    const bool promised = allowed <= 1 &&
                          std::cmp_less_equal(remaining, transaction.charges[i].quota.capacity) &&
                          (allowed == 1) == (retry_after == 0);
    if (!promised) return NotPromised(reply);
    transaction.decisions[i] = {.allowed = allowed == 1,
                                .remaining = static_cast<std::uint64_t>(remaining),
                                .retry_after = std::chrono::microseconds(retry_after),
                                .reset_after = std::chrono::microseconds(reset_after)};
  }
  return absl::OkStatus();
}

// OK if the reply holds as many numbers as `calls` have charges.
absl::Status CheckReply(const Reply& reply, std::size_t numbers) {
  if (reply.type() == Reply::Type::kError) {
    const std::string answer = fmt::format("Redis answered {}", Describe(reply));
    return IsOfTheCommand(reply) ? absl::InternalError(answer) : absl::UnavailableError(answer);
  }
  const bool promised = reply.type() == Reply::Type::kArray &&
                        std::cmp_equal(reply.integer(), numbers) && reply.size() == numbers + 1;
  return promised ? absl::OkStatus() : NotPromised(reply);
}

}  // namespace

std::size_t HashOfBucket(const Charge& charge) {
  return absl::HashOf(charge.limit, charge.subject);
}

void AppendArguments(const Transaction& transaction, std::string_view key_prefix,
                     fmt::memory_buffer& out) {
  CommandWriter arguments(out);
  for (const Charge& charge : transaction.charges) {
    arguments.Add({key_prefix, charge.limit, ":", charge.subject});
  }
  arguments.Add({NameOf(transaction.action)});
  for (const Charge& charge : transaction.charges) {
    arguments.Add(charge.quota.capacity);
    arguments.Add(charge.quota.refill_tokens);
    arguments.Add(static_cast<std::uint64_t>(charge.quota.refill_interval.count()));
    arguments.Add(Fingerprint(charge.quota));
    arguments.Add({charge.shadow ? "1" : "0"});
  }
}

void AppendEvalsha(const ScriptCall& first, std::size_t calls, std::string_view sha1,
                   fmt::memory_buffer& out) {
  constexpr std::size_t kNumbersPerCharge = 5;
  const std::size_t charges = first.transaction->charges.size();
  CommandWriter command(out);
  command.Begin(4 + charges + kNumbersPerCharge * charges + calls * charges);
  command.Add({"EVALSHA"});
  command.Add({sha1});
  command.Add(charges);
  command.AddWritten(first.arguments);
  for (const ScriptCall* call = &first; call != nullptr; call = call->next) {
    for (const Charge& charge : call->transaction->charges) command.Add(charge.cost);
  }
}

void Answer(ScriptCall& first, std::size_t calls, const Reply& reply) {
  const std::size_t numbers = kNumbers * first.transaction->charges.size();
  const absl::Status checked = CheckReply(reply, calls * numbers);
  std::size_t at = 1;
  for (ScriptCall* call = &first; call != nullptr; call = call->next, at += numbers) {
    Transaction& transaction = *call->transaction;
    transaction.status = checked.ok() ? ParseDecisions(reply, at, transaction) : checked;
  }
}

bool IsOfTheCommand(const Reply& error) {
  return error.IsError("ERR ") || error.IsError("WRONGTYPE ");
}

}  // namespace ratelimiter
