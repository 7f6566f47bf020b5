#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <gtest/gtest.h>

#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "support/decide.h"
#include "support/manual_clock.h"
#include "support/redis_server.h"

namespace ratelimiter::testing {

// The year 2041: far enough ahead that Redis expires no key by the real clock during a test.
inline constexpr std::chrono::microseconds kStart{std::int64_t{1} << 51U};

// The year 2112: the last time from which the slowest limit is full before 2^53 microseconds, the
// bound of Lua's exact integers.
inline constexpr std::chrono::microseconds kEnd{std::int64_t{1} << 52U};

// A store under test, with a clock that the test sets.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual TokenBucketStore& store() = 0;
  virtual void SetTime(std::chrono::microseconds now) = 0;
  // Drops the buckets whose lifetime is over by the time that was set, where the store would
  // only do so by a clock that the test does not control.
  virtual void Expire() {}
  // Forgets all buckets.
  virtual void Clear() = 0;
  // Whether a call that finds a bucket full forgets it.
  virtual bool forgets_full() const = 0;
};

class MemoryUnderTest final : public StoreUnderTest {
 public:
  TokenBucketStore& store() override { return *store_; }
  void SetTime(std::chrono::microseconds now) override { clock_.Set(now); }
  bool forgets_full() const override { return true; }
  void Clear() override { store_ = std::make_unique<MemoryTokenBucket>(1'000, clock_); }

 private:
  ManualClock clock_{kStart};
  std::unique_ptr<MemoryTokenBucket> store_ = std::make_unique<MemoryTokenBucket>(1'000, clock_);
};

class RedisUnderTest final : public StoreUnderTest {
 public:
  RedisUnderTest() { SetTime(kStart); }
  TokenBucketStore& store() override { return store_; }
  void SetTime(std::chrono::microseconds now) override {
    server_.Run({"SET", "now", std::to_string(now.count())});
    // The client's clock never steps back. It moves past the deny cache's maximum age, which bounds
    // how long a step back of Redis's clock may go unnoticed.
    clock_.Advance(now < now_ ? kDenyCacheMaxAge : now - now_);
    now_ = now;
  }
  // Redis expires keys by its own clock, which is far behind the test's.
  void Expire() override;
  bool forgets_full() const override { return false; }
  void Clear() override {
    server_.Run({"FLUSHALL"});
    clock_.Advance(kDenyCacheMaxAge);
  }
  RedisServerProcess& server() { return server_; }

  // The shipped script with a prefix that answers TIME from the key `now`.
  static Script WithTimeFromKey(RedisServerProcess& server);

 private:
  static constexpr std::chrono::microseconds kDenyCacheMaxAge = std::chrono::milliseconds(100);

  RedisServerProcess server_;
  Metrics metrics_{0, "test"};
  std::chrono::microseconds now_ = kStart;
  ManualClock clock_{kStart};
  RedisTokenBucket store_{{.server = server_.address(),
                           .timeout = std::chrono::seconds(10),
                           .deny_cache_max_age = kDenyCacheMaxAge},
                          metrics_,
                          clock_,
                          WithTimeFromKey(server_)};
};

// The result of a transaction.
struct Outcome {
  absl::Status status;
  std::vector<Decision> decisions;
  bool allowed = false;
};

inline Outcome Transact(TokenBucketStore& store, const std::vector<Charge>& charges,
                        Action action = Action::kTake) {
  Outcome outcome;
  outcome.decisions.resize(charges.size());
  Transaction transaction = {.charges = charges, .action = action, .decisions = outcome.decisions};
  store.Decide({&transaction, 1}, Deadline::max());
  outcome.status = transaction.status;
  outcome.allowed = transaction.status.ok() && transaction.allowed();
  return outcome;
}

// A contract suite that runs on each store. Time begins at kStart.
template <typename Store>
class StoreContract : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { under_test_ = std::make_unique<Store>(); }
  static void TearDownTestSuite() { under_test_.reset(); }
  void SetUp() override {
    under_test_->Clear();
    At(std::chrono::microseconds(0));
  }

  // Sets the time, counted from the test's start.
  void At(std::chrono::microseconds time) {
    under_test_->SetTime(kStart + time);
    under_test_->Expire();
  }

  TokenBucketStore& store() { return under_test_->store(); }

  static inline std::unique_ptr<Store> under_test_;
};

using Stores = ::testing::Types<MemoryUnderTest, RedisUnderTest>;

inline void RedisUnderTest::Expire() {
  server_.Run({"EVAL", R"(
    for _, key in ipairs(redis.call('KEYS', '*')) do
      local expires = redis.call('PEXPIRETIME', key)
      if expires >= 0 and expires <= tonumber(ARGV[1]) then redis.call('DEL', key) end
    end)",
               "0", std::to_string(now_.count() / 1'000)});
}

inline Script RedisUnderTest::WithTimeFromKey(RedisServerProcess& server) {
  const std::string shipped = TokenBucketScript().source;
  const std::size_t first_line = shipped.find('\n') + 1;
  const std::string source = shipped.substr(0, first_line) + R"(
local real = redis
local redis = { call = function(command, ...)
  if command ~= 'TIME' then return real.call(command, ...) end
  local now = real.call('GET', 'now')
  return { string.sub(now, 1, -7), string.sub(now, -6) }
end }
)" + shipped.substr(first_line);
  const RedisReply sha1 = server.Run({"SCRIPT", "LOAD", source});
  return {.source = source, .sha1 = std::string(sha1.text())};
}

}  // namespace ratelimiter::testing
