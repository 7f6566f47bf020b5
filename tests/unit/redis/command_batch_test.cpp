#include "redis/command_batch.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/inlined_vector.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/redis/connection.h"
#include "redis/script_invocation.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using Hashes = absl::InlinedVector<std::size_t, 4>;

constexpr std::string_view kPrefix = "rl:1:";
constexpr BucketSpec kSpec = {5, 1, 2s};

Charge On(std::string_view limit, std::uint64_t cost = 1) {
  return {.limit = limit, .bucket_key = "{u}", .spec = kSpec, .cost = cost};
}

Charge WithSpec(Charge charge, const BucketSpec& spec) {
  charge.spec = spec;
  return charge;
}

Charge Shadow(Charge charge) {
  charge.shadow = true;
  return charge;
}

class CommandBatchTest : public ::testing::Test {
 protected:
  // A transaction and the call that a store makes of it.
  struct Call {
    std::vector<Charge> charges;
    Transaction transaction{};
    ScriptCallBuilder one{};
  };

  // A call, with these hashes of its buckets if any are given.
  ScriptCall& Make(std::vector<Charge> charges, Action action, const Hashes& hashes) {
    Call& made = calls_.emplace_back(Call{.charges = std::move(charges)});
    made.transaction = {.charges = made.charges, .action = action};
    ScriptCall& call = made.one.calls.emplace_back(ScriptCall::Of(made.transaction));
    made.one.Write(kPrefix);
    if (!hashes.empty()) call.buckets = hashes;
    return call;
  }

  void AddHashed(char name, std::vector<Charge> charges, const Hashes& hashes,
                 Action action = Action::kTake) {
    ScriptCall& call = Make(std::move(charges), action, hashes);
    names_[&call] = name;
    batch_.Add(call);
  }

  void Add(char name, std::vector<Charge> charges, Action action = Action::kTake) {
    AddHashed(name, std::move(charges), {}, action);
  }

  // The calls by name, those of one command side by side.
  std::string Coalesced() {
    std::string coalesced;
    for (const CommandBatch::Command& command : batch_.commands()) {
      if (!coalesced.empty()) coalesced += ' ';
      std::size_t calls = 0;
      const ScriptCall* last = nullptr;
      for (const ScriptCall* call = command.first; call != nullptr; call = call->next) {
        coalesced += names_.at(call);
        last = call;
        ++calls;
      }
      EXPECT_EQ(command.calls, calls);
      EXPECT_EQ(command.last, last);
    }
    return coalesced;
  }

  CommandBatch batch_;
  std::deque<Call> calls_;
  std::map<const ScriptCall*, char> names_;
};

TEST_F(CommandBatchTest, CallsOfOneLimitAreFoldedInOrder) {
  Add('a', {On("A", 1)});
  Add('b', {On("A", 3)});
  Add('c', {On("A", 0)});
  EXPECT_EQ(Coalesced(), "abc");
}

TEST_F(CommandBatchTest, CallsOfDifferentSlotsAreNot) {
  for (const std::uint16_t slot : std::vector<std::uint16_t>{1, 2, 1}) {
    ScriptCall& call = Make({On("A")}, Action::kTake, {slot});
    call.slot = slot;
    call.limits_hash += slot;
    names_[&call] = static_cast<char>('0' + slot);
    batch_.Add(call);
  }
  EXPECT_EQ(Coalesced(), "11 2");
}

TEST_F(CommandBatchTest, NorIsACallThatAsks) {
  for (const bool asking : {false, true, false}) {
    ScriptCall& call = Make({On("A")}, Action::kTake, {});
    call.asking = asking;
    names_[&call] = asking ? 'a' : 'b';
    batch_.Add(call);
  }
  batch_.Write({.source = {}, .sha1 = "sha1"}, RunScript::kBySha1);
  EXPECT_EQ(Coalesced(), "b a b");
  EXPECT_THAT(batch_.text(), ::testing::HasSubstr("*1\r\n$6\r\nASKING\r\n*"));
}

TEST_F(CommandBatchTest, SoAreCallsOfSeveralBuckets) {
  Add('a', {On("A", 1), On("B", 2)});
  Add('b', {On("A", 2), On("B", 1)});
  EXPECT_EQ(Coalesced(), "ab");
}

TEST_F(CommandBatchTest, SoAreCallsOfOtherUsers) {
  Charge other_user = On("A");
  other_user.bucket_key = "{v}";
  Add('a', {On("A")});
  Add('b', {other_user});
  Add('c', {On("A")});
  EXPECT_EQ(Coalesced(), "abc");
}

TEST_F(CommandBatchTest, OtherLimitsAreNotFoldedThoughTheirNumbersAreTheSame) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  Add('c', {On("A"), On("B")});
  EXPECT_EQ(Coalesced(), "a b c");
}

TEST_F(CommandBatchTest, OtherNumbersAreNotFolded) {
  const BucketSpec reloaded = {6, 1, 2s};
  Add('a', {On("A")});
  Add('b', {WithSpec(On("A"), reloaded)});
  Add('c', {WithSpec(On("A"), reloaded)});
  // Nor does it move past those with the other numbers.
  Add('d', {On("A")});
  EXPECT_EQ(Coalesced(), "a bc d");
}

TEST_F(CommandBatchTest, OtherNumbersOfTheSecondBucketAreNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("A"), WithSpec(On("B"), {5, 2, 2s})});
  EXPECT_EQ(Coalesced(), "a b");
}

TEST_F(CommandBatchTest, AnotherActionIsNotFolded) {
  Add('a', {On("A")});
  Add('b', {On("A")}, Action::kPeek);
  Add('c', {On("A")}, Action::kRefund);
  Add('d', {On("A")}, Action::kRefund);
  Add('e', {On("A")});
  EXPECT_EQ(Coalesced(), "a b cd e");
}

TEST_F(CommandBatchTest, AShadowIsNotFoldedWithWhatIsNone) {
  Add('a', {On("A")});
  Add('b', {Shadow(On("A"))});
  Add('c', {Shadow(On("A"))});
  EXPECT_EQ(Coalesced(), "a bc");
}

TEST_F(CommandBatchTest, AnotherOrderOfTheBucketsIsNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("B"), On("A")});
  EXPECT_EQ(Coalesced(), "a b");
}

TEST_F(CommandBatchTest, FewerOrMoreBucketsAreNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("A")});
  Add('c', {On("A"), On("B")});
  Add('d', {On("A"), On("B"), On("C")});
  EXPECT_EQ(Coalesced(), "a b c d");
}

TEST_F(CommandBatchTest, ACallMovesPastCallsOfOtherBuckets) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  Add('c', {On("A")});
  Add('d', {On("B")});
  EXPECT_EQ(Coalesced(), "ac bd");
}

TEST_F(CommandBatchTest, ACallMovesPastNoneThatSharesItsBucket) {
  Add('a', {On("A")});
  Add('b', {On("A"), On("B")});
  Add('c', {On("A")});
  EXPECT_EQ(Coalesced(), "a b c");
}

TEST_F(CommandBatchTest, ACallMovesPastNoneThatSharesAnyOfItsBuckets) {
  for (const char* shared : {"A", "B", "C"}) {
    batch_.Clear();
    Add('a', {On("A"), On("B"), On("C")});
    Add('b', {On(shared)});
    Add('c', {On("A"), On("B"), On("C")});
    EXPECT_EQ(Coalesced(), "a b c") << shared;
  }
}

TEST_F(CommandBatchTest, ABucketBetweenIsSeenThoughTheOthersWereTouchedTogether) {
  // Both buckets of the last were touched last by one command, of other keys.
  Add('a', {On("A"), On("B")});
  Add('b', {On("A"), On("B"), On("C")});
  Add('c', {On("A"), On("B")});
  EXPECT_EQ(Coalesced(), "a b c");
}

TEST_F(CommandBatchTest, ALimitThatAllShareKeepsUsersInTheirOrder) {
  const auto user = [](const char* limit) { return std::vector<Charge>{On(limit), On("global")}; };
  Add('a', user("u"));
  Add('b', user("v"));
  Add('c', user("u"));
  Add('d', user("u"));
  Add('e', user("v"));
  EXPECT_EQ(Coalesced(), "a b cd e");
}

TEST_F(CommandBatchTest, DifferentBucketsThatHashAlikeAreNotFolded) {
  AddHashed('a', {On("A")}, {7});
  AddHashed('b', {On("B")}, {7});
  AddHashed('c', {On("B")}, {7});
  AddHashed('d', {On("A")}, {7});
  AddHashed('e', {On("C"), On("D")}, {7, 7});
  AddHashed('f', {On("C"), On("D")}, {7, 7});
  EXPECT_EQ(Coalesced(), "a bc d ef");
}

TEST_F(CommandBatchTest, HashesOfOnePlaceAreToldApart) {
  // Beside one another in the table, and around its end.
  const std::size_t places = 4 * CommandBatch::kMaxBuckets;
  const std::size_t last = std::numeric_limits<std::size_t>::max();
  AddHashed('a', {On("A")}, {last});
  AddHashed('b', {On("B")}, {last - places});
  AddHashed('c', {On("C")}, {0});
  AddHashed('d', {On("D")}, {places});
  AddHashed('e', {On("D")}, {places});
  AddHashed('f', {On("C")}, {0});
  AddHashed('g', {On("B")}, {last - places});
  AddHashed('h', {On("A")}, {last});
  EXPECT_EQ(Coalesced(), "ah bg cf de");
}

TEST_F(CommandBatchTest, OnceClearedItKnowsNothingOfWhatWas) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  batch_.Write({.source = {}, .sha1 = "sha"}, RunScript::kBySha1);
  batch_.Clear();
  EXPECT_EQ(batch_.buckets(), 0U);
  EXPECT_TRUE(batch_.commands().empty());
  EXPECT_EQ(batch_.text(), "");
  Add('c', {On("B")});
  Add('d', {On("A")});
  Add('e', {On("B")});
  EXPECT_EQ(Coalesced(), "ce d");
}

TEST_F(CommandBatchTest, ACallThatIsAddedAnewBringsNoneOfThoseBehindItThen) {
  ScriptCall& first = Make({On("A")}, Action::kTake, {1});
  ScriptCall& second = Make({On("A")}, Action::kTake, {1});
  names_ = {{&first, 'a'}, {&second, 'b'}};
  batch_.Add(first);
  batch_.Add(second);
  batch_.Clear();
  batch_.Add(first);
  EXPECT_EQ(Coalesced(), "a");
}

TEST_F(CommandBatchTest, WritesWhatTheScriptsHeaderStates) {
  Charge second = Shadow(WithSpec(On("B", 7), {9, 2, 1ms}));
  second.bucket_key = "{a%7D\r\n}";
  Add('a', {On("A", 1), second});
  Add('b', {On("C", 5)}, Action::kRefund);
  second.cost = 0;
  Add('c', {On("A", 2), second});
  batch_.Write({.source = {}, .sha1 = "the-sha1"}, RunScript::kBySha1);
  const std::string one = std::to_string(Fingerprint(kSpec));
  const std::string two = std::to_string(Fingerprint({9, 2, 1ms}));
  const std::string coalesced = FormatCommand({"EVALSHA",
                                               "the-sha1",
                                               "4",
                                               "rl:1:A:{u}",
                                               "rl:1:B:{a%7D\r\n}",
                                               "rl:1:A:{u}",
                                               "rl:1:B:{a%7D\r\n}",
                                               "take",
                                               "5",
                                               "1",
                                               "2000000",
                                               one,
                                               "0",
                                               "9",
                                               "2",
                                               "1000",
                                               two,
                                               "1",
                                               "1",
                                               "7",
                                               "2",
                                               "0"});
  const std::string single = FormatCommand(
      {"EVALSHA", "the-sha1", "1", "rl:1:C:{u}", "refund", "5", "1", "2000000", one, "0", "5"});
  ASSERT_EQ(Coalesced(), "ac b");
  EXPECT_EQ(batch_.text(), coalesced + single);
  EXPECT_EQ(batch_.buckets(), 5U);
}

TEST_F(CommandBatchTest, TakesAsManyBucketsAsItSays) {
  constexpr std::size_t kHalf = CommandBatch::kMaxBuckets / 2;
  // All of them belong to one place of the table.
  for (const std::size_t stride : {std::size_t{1}, 4 * CommandBatch::kMaxBuckets}) {
    batch_.Clear();
    std::deque<std::string> limits;
    for (std::size_t i = 0; i < kHalf; ++i) limits.push_back(fmt::format("l{}", i));
    for (int twice = 0; twice < 2; ++twice) {
      for (std::size_t i = 0; i < kHalf; ++i) AddHashed('x', {On(limits[i])}, {i * stride});
    }
    EXPECT_EQ(batch_.buckets(), CommandBatch::kMaxBuckets);
    ASSERT_EQ(batch_.commands().size(), kHalf);
    for (const CommandBatch::Command& command : batch_.commands()) EXPECT_EQ(command.calls, 2U);

    batch_.Clear();
    for (std::size_t i = 0; i < CommandBatch::kMaxBuckets; ++i) {
      AddHashed('x', {On("all differ")}, {i * stride});
    }
    ASSERT_EQ(batch_.commands().size(), 1U);
    EXPECT_EQ(batch_.commands()[0].calls, CommandBatch::kMaxBuckets);
  }
}

// Whatever comes: a command's calls are of the same limits and keep their
// order, and calls that share a bucket run in the order in which they came.
TEST_F(CommandBatchTest, NobodyCanTellTheOrderFromThatInWhichTheyCame) {
  constexpr std::size_t kCalls = 30;
  const std::vector<std::string> limits = {"A", "B", "C", "D"};
  std::mt19937_64 random(1);
  std::size_t coalesced = 0;
  for (int round = 0; round < 2'000; ++round) {
    batch_.Clear();
    calls_.clear();
    const std::size_t hashes = round % 2 == 0 ? 100 : 3;  // Or some that clash.
    std::map<const ScriptCall*, std::size_t> came;
    for (std::size_t i = 0; i < kCalls; ++i) {
      std::vector<Charge> charges;
      Hashes buckets;
      const std::size_t which = 1 + random() % 15;
      for (std::size_t limit = 0; limit < limits.size(); ++limit) {
        if ((which >> limit) % 2 == 0) continue;
        charges.push_back(On(limits[limit], random() % 5));
        if (random() % 8 == 0) charges.back().spec = {6, 1, 2s};
        buckets.push_back(limit % hashes);
      }
      ScriptCall& call = Make(std::move(charges), Action::kTake, buckets);
      came[&call] = i;
      batch_.Add(call);
    }
    std::vector<const ScriptCall*> runs;
    for (const CommandBatch::Command& command : batch_.commands()) {
      for (const ScriptCall* call = command.first; call != nullptr; call = call->next) {
        ASSERT_TRUE(CanCoalesce(*command.first, *call));
        runs.push_back(call);
      }
    }
    ASSERT_EQ(runs.size(), kCalls);
    coalesced += kCalls - batch_.commands().size();
    for (std::size_t later = 0; later < kCalls; ++later) {
      for (std::size_t earlier = 0; earlier < later; ++earlier) {
        if (came[runs[earlier]] < came[runs[later]]) continue;
        for (const Charge& charge : runs[later]->transaction->charges) {
          for (const Charge& other : runs[earlier]->transaction->charges) {
            ASSERT_NE(charge.limit, other.limit);
          }
        }
      }
    }
  }
  EXPECT_GT(coalesced, 1'000U);
}

}  // namespace
}  // namespace ratelimiter::testing
