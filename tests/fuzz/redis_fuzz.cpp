// Any bytes as what a Redis server sends. The first byte says where the rest is cut in two, as a
// network may. Every complete reply is read as the answer to the script and to CLUSTER SLOTS, and
// every error as a redirection: what is accepted keeps the bounds that callers rely on.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <hiredis/hiredis.h>

#include "ratelimiter/redis/redis_reply.h"
#include "redis/script_invocation.h"
#include "redis/slot_map.h"
#include "require.h"

namespace ratelimiter {
namespace {

const HostPort kAsked = {.host = "asked", .port = 7000};

bool Same(const RedisReply& one, const RedisReply& other) {
  if (one.size() != other.size()) return false;
  for (std::size_t i = 0; i < one.size(); ++i) {
    if (one.type(i) != other.type(i) || one.integer(i) != other.integer(i) ||
        one.text(i) != other.text(i)) {
      return false;
    }
  }
  return true;
}

// The complete replies in `chunks`, until the reader gives up.
std::vector<RedisReply> Replies(std::array<std::string_view, 2> chunks) {
  const std::unique_ptr<redisReader, void (*)(redisReader*)> reader(redisReaderCreate(),
                                                                    redisReaderFree);
  std::vector<RedisReply> replies;
  RedisReply reply;
  reply.ReadFrom(*reader);
  for (const std::string_view chunk : chunks) {
    if (redisReaderFeed(reader.get(), chunk.data(), chunk.size()) != REDIS_OK) return replies;
    while (true) {
      void* complete = nullptr;
      if (redisReaderGetReply(reader.get(), &complete) != REDIS_OK) return replies;
      if (complete == nullptr) break;
      replies.push_back(reply);
      reply.Clear();
    }
  }
  return replies;
}

void CheckShape(const RedisReply& reply) {
  // Arrays are as long as they say.
  std::int64_t open = 1;
  for (std::size_t i = 0; i < reply.size(); ++i) {
    Require(open > 0, "no value is outside of the reply");
    --open;
    if (reply.type(i) == RedisReply::Type::kArray)
      open += std::max<std::int64_t>(reply.integer(i), 0);
  }
  Require(open == 0, "every element has come");
}

void CheckAddress(const HostPort& address) {
  Require(!address.host.empty() && address.host != "?" && address.port != 0,
          "an address can be connected to");
}

void CheckSlots(const RedisReply& reply) {
  const auto ranges = ReadSlots(reply, kAsked);
  if (!ranges.ok()) {
    Require(ranges.status().code() == absl::StatusCode::kUnavailable, "bad slots are UNAVAILABLE");
    return;
  }
  for (const SlotRange& range : *ranges) {
    Require(range.first <= range.last && range.last < kSlots, "slots exist");
    CheckAddress(range.master);
  }
}

void CheckRedirection(std::string_view error) {
  const auto redirection = ReadRedirection(error, kAsked);
  if (redirection.has_value() && redirection->kind != Redirection::Kind::kTryAgain) {
    CheckAddress(redirection->to);
  }
}

// Two calls of two charges, answered by one run of the script.
void CheckScript(const RedisReply& reply) {
  constexpr BucketSpec kSpec = {
      .capacity = 5, .refill_tokens = 1, .refill_interval = kMinRefillInterval};
  const std::array<Charge, 2> charges = {Charge{.limit = "a", .bucket_key = "{u}", .spec = kSpec},
                                         Charge{.limit = "b", .bucket_key = "{u}", .spec = kSpec}};
  std::array<Decision, 4> decisions{};
  std::array<Transaction, 2> transactions{};
  ScriptCallBuilder builder;
  for (std::size_t i = 0; i < transactions.size(); ++i) {
    transactions[i].charges = charges;
    transactions[i].decisions = std::span(decisions).subspan(2 * i, 2);
    builder.calls.push_back(ScriptCall::Of(transactions[i]));
  }
  builder.calls[0].next = &builder.calls[1];
  ParseReply(builder.calls[0], transactions.size(), reply);
  for (std::size_t i = 0; i < transactions.size(); ++i) {
    Require(builder.calls[i].answered, "every call is answered");
    if (!transactions[i].status.ok()) continue;
    Require(reply.type() == RedisReply::Type::kArray, "only an array decides");
    for (const Decision& decision : transactions[i].decisions) {
      Require(decision.retry_after.count() >= 0 && decision.reset_after.count() >= 0,
              "no wait is negative");
      Require(decision.remaining <= kSpec.capacity, "no bucket holds more than its capacity");
      Require(decision.allowed == (decision.retry_after.count() == 0), "only a denial waits");
    }
  }
}

void CheckBytes(std::string_view bytes) {
  if (bytes.empty()) return;
  const std::string_view text = bytes.substr(1);
  const std::size_t cut = std::min<std::size_t>(static_cast<unsigned char>(bytes[0]), text.size());
  const std::vector<RedisReply> replies = Replies({text, {}});
  const std::vector<RedisReply> in_two = Replies({text.substr(0, cut), text.substr(cut)});
  Require(std::ranges::equal(replies, in_two, Same), "replies do not depend on how they arrive");
  for (const RedisReply& reply : replies) {
    CheckShape(reply);
    CheckSlots(reply);
    CheckScript(reply);
    if (reply.type() == RedisReply::Type::kError) CheckRedirection(reply.text());
  }
}

}  // namespace
}  // namespace ratelimiter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<char> bytes(data, data + size);
  ratelimiter::CheckBytes({bytes.data(), bytes.size()});
  return 0;
}
