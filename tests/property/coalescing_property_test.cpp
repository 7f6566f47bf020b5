// Transactions decided together, where one run of the script answers several, against the same
// transactions decided one by one: the answers and the state in Redis are equal.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "contract/stores.h"
#include "property/generators.h"

namespace ratelimiter::testing {
namespace {

using std::chrono::microseconds;

// One transaction, on shared buckets.
struct Asked {
  std::vector<Charge> charges;
  Action action = Action::kTake;
};

struct Answered {
  std::vector<absl::Status> statuses;
  std::vector<std::vector<Decision>> decisions;
};

// A bucket's fields and expiry.
struct Kept {
  std::map<std::string, std::string> fields;
  std::int64_t expires = 0;
};

class Coalescing {
 public:
  void Check() {
    under_test_.Clear();
    under_test_.SetTime(kStart);
    gave_ = false;
    for (auto& specs : specs_) {
      // Few tokens, so that some are refused, or any at all.
      const auto any = [] {
        return *rc::gen::oneOf(AnyBucketSpec(),
                               rc::gen::element(BucketSpec{6, 1, std::chrono::seconds(2)},
                                                BucketSpec{9, 7, std::chrono::milliseconds(3)},
                                                BucketSpec{4, 1, std::chrono::hours(1)}));
      };
      specs = {any(), any()};
    }
    // Connects now, so that the scripts of the connection check are not counted.
    RC_ASSERT(coalescing_.Check(Deadline::max()).ok());
    microseconds now = kStart;
    const int calls = *rc::gen::inRange(1, 4);
    for (int call = 0; call < calls; ++call) {
      const std::vector<Asked> asked = AnyTransactions();
      const Answered one_by_one = Decide(plain_, asked, /*together=*/false);
      const std::uint64_t before = Runs();
      const Answered together = Decide(coalescing_, asked, /*together=*/true);
      Count(Runs() - before, asked.size());
      RC_ASSERT(together.statuses == one_by_one.statuses);
      RC_ASSERT(together.decisions == one_by_one.decisions);
      const Answered remembered = Decide(known(), asked, /*together=*/true);
      RC_ASSERT(remembered.statuses == one_by_one.statuses);
      RC_ASSERT(remembered.decisions == one_by_one.decisions);
      CompareWhatIsKept();
      // In small steps, so that some calls hit the deny cache.
      const auto random = *rc::gen::arbitrary<std::uint64_t>();
      const microseconds passed = Below(random >> 3U, microseconds(60'000));
      now += random % 8 == 0 ? -passed : passed;
      under_test_.SetTime(now);
      clock_.Set(now);
    }
  }

  std::uint64_t coalesced_cases() const { return coalesced_cases_; }
  std::uint64_t cases() const { return cases_; }

 private:
  static constexpr std::array<const char*, 3> kUsers = {"{u}", "{v}", "{w}"};

  // Limits by user, and one that all users share.
  enum LimitNumber : std::size_t { kByUser, kShared, kOther, kLimits };
  static constexpr std::array<const char*, kLimits> kNames = {"user", "shared", "other"};

  std::vector<Asked> AnyTransactions() {
    // Switches between the specs in the middle, as a reload does.
    std::size_t current = *rc::gen::inRange<std::size_t>(0, 2);
    std::vector<Asked> all(*rc::gen::inRange<std::size_t>(2, 25));
    for (Asked& asked : all) {
      if (*rc::gen::inRange(0, 15) == 0) current = 1 - current;
      asked.action = *rc::gen::weightedElement<Action>(
          {{30, Action::kTake}, {2, Action::kPeek}, {2, Action::kRefund}});
      gave_ = gave_ || asked.action == Action::kRefund;
      const char* user = kUsers[*rc::gen::weightedElement<std::size_t>({{8, 0}, {4, 1}, {1, 2}})];
      // Mostly the same limits, so that calls coalesce.
      const auto which = *rc::gen::weightedElement<unsigned>(
          {{12, 0b001U}, {6, 0b011U}, {2, 0b010U}, {1, 0b101U}, {1, 0b111U}});
      for (std::size_t limit = 0; limit < kLimits; ++limit) {
        if ((which >> limit) % 2 == 0) continue;
        const BucketSpec& spec = specs_[limit][current];
        const std::uint64_t most = std::min<std::uint64_t>(spec.capacity, 4);
        const auto any = *rc::gen::weightedElement<std::uint64_t>({{8, most}, {1, spec.capacity}});
        asked.charges.push_back({.limit = kNames[limit],
                                 .bucket_key = limit == kShared ? "{%all}" : user,
                                 .spec = spec,
                                 .cost = *rc::gen::inRange<std::uint64_t>(0, any + 1),
                                 .shadow = *rc::gen::inRange(0, 25) == 0});
      }
      if (*rc::gen::inRange(0, 25) == 0) std::ranges::reverse(asked.charges);
    }
    return all;
  }

  static Answered Decide(TokenBucketStore& store, const std::vector<Asked>& asked, bool together) {
    Answered answered;
    for (const Asked& one : asked) answered.decisions.emplace_back(one.charges.size());
    std::vector<Transaction> transactions;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      transactions.push_back({.charges = asked[i].charges,
                              .action = asked[i].action,
                              .decisions = answered.decisions[i]});
    }
    if (together) {
      store.Decide(transactions, Deadline::max());
    } else {
      for (Transaction& transaction : transactions) {
        store.Decide({&transaction, 1}, Deadline::max());
      }
    }
    for (const Transaction& transaction : transactions) {
      if (!transaction.status.ok()) RC_LOG() << transaction.status << '\n';
      RC_ASSERT(transaction.status.ok());
      answered.statuses.push_back(transaction.status);
    }
    return answered;
  }

  Kept KeptUnder(const std::string& key) {
    Kept kept;
    const RedisReply fields = server_.Run({"HGETALL", key});
    for (std::size_t i = 1; i + 1 < fields.size(); i += 2) {
      kept.fields.emplace(fields.text(i), fields.text(i + 1));
    }
    kept.expires = server_.Run({"PEXPIRETIME", key}).integer();
    return kept;
  }

  void CompareWhatIsKept() {
    for (std::size_t limit = 0; limit < kLimits; ++limit) {
      for (const char* user : kUsers) {
        const std::string_view bucket_key = limit == kShared ? "{%all}" : user;
        const Kept one_by_one = KeptUnder(plain_.Key(kNames[limit], bucket_key));
        for (const RedisTokenBucket& store : {std::cref(coalescing_), std::cref(known())}) {
          const Kept together = KeptUnder(store.Key(kNames[limit], bucket_key));
          RC_ASSERT(together.fields == one_by_one.fields);
          // Refunds under another spec bring the full time forward. One by one, the key keeps the
          // expiry of the first refund.
          RC_ASSERT(together.expires == one_by_one.expires ||
                    (gave_ && together.expires < one_by_one.expires));
        }
      }
    }
  }

  RedisTokenBucket& known() { return dynamic_cast<RedisTokenBucket&>(under_test_.store()); }

  // The number of scripts that Redis has run.
  std::uint64_t Runs() {
    const std::string info(server_.Run({"INFO", "commandstats"}).text());
    const std::string label = "cmdstat_evalsha:calls=";
    const std::size_t at = info.find(label);
    return at == std::string::npos ? 0 : std::stoull(info.substr(at + label.size()));
  }

  void Count(std::uint64_t runs, std::size_t transactions) {
    RC_ASSERT(runs <= transactions);
    ++cases_;
    if (4 * runs <= 3 * transactions) ++coalesced_cases_;
  }

  RedisOptions Options(const char* key_prefix) {
    return {.server = server_.address(),
            .timeout = std::chrono::seconds(10),
            .key_prefix = key_prefix,
            .deny_cache_max_age = microseconds(0)};
  }

  RedisUnderTest under_test_;  // With a deny cache; the stores below have none.
  RedisServerProcess& server_ = under_test_.server();
  const Script script_ = RedisUnderTest::WithTimeFromKey(server_);
  Metrics metrics_{0, "test"};
  ManualClock clock_{kStart};
  RedisTokenBucket plain_{Options("plain"), metrics_, clock_, script_};
  RedisTokenBucket coalescing_{Options("folding"), metrics_, clock_, script_};

  // By limit: the specs before and after a reload.
  std::array<std::array<BucketSpec, 2>, kLimits> specs_{};
  bool gave_ = false;  // In this case.
  std::uint64_t cases_ = 0;
  std::uint64_t coalesced_cases_ = 0;
};

TEST(CoalescingProperty, TogetherIsTheSameAsOneByOne) {
  Coalescing coalescing;
  EXPECT_TRUE(rc::check([&] { coalescing.Check(); }));
  // In many cases a quarter of the transactions or more shared a run of the script.
  EXPECT_GT(10 * coalescing.coalesced_cases(), coalescing.cases());
}

}  // namespace
}  // namespace ratelimiter::testing
