#include "redis/pipeline.h"

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
#include "redis/script_call.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using Hashes = absl::InlinedVector<std::size_t, 4>;

constexpr std::string_view kPrefix = "rl:1:";
constexpr Quota kQuota = {5, 1, 2s};

Charge On(std::string_view limit, std::uint64_t cost = 1) {
  return {.limit = limit, .subject = "{u}", .quota = kQuota, .cost = cost};
}

Charge WithQuota(Charge charge, const Quota& quota) {
  charge.quota = quota;
  return charge;
}

Charge Shadow(Charge charge) {
  charge.shadow = true;
  return charge;
}

class PipelineTest : public ::testing::Test {
 protected:
  // A transaction and the call that a store makes of it.
  struct Call {
    std::vector<Charge> charges;
    Transaction transaction{};
    ScriptCalls one{};
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
    pipeline_.Add(call);
  }

  void Add(char name, std::vector<Charge> charges, Action action = Action::kTake) {
    AddHashed(name, std::move(charges), {}, action);
  }

  // The calls by name, those of one command side by side.
  std::string Folded() {
    std::string folded;
    for (const Pipeline::Command& command : pipeline_.commands()) {
      if (!folded.empty()) folded += ' ';
      std::size_t calls = 0;
      const ScriptCall* last = nullptr;
      for (const ScriptCall* call = command.first; call != nullptr; call = call->next) {
        folded += names_.at(call);
        last = call;
        ++calls;
      }
      EXPECT_EQ(command.calls, calls);
      EXPECT_EQ(command.last, last);
    }
    return folded;
  }

  Pipeline pipeline_;
  std::deque<Call> calls_;
  std::map<const ScriptCall*, char> names_;
};

TEST_F(PipelineTest, CallsOfOneLimitAreFoldedInOrder) {
  Add('a', {On("A", 1)});
  Add('b', {On("A", 3)});
  Add('c', {On("A", 0)});
  EXPECT_EQ(Folded(), "abc");
}

TEST_F(PipelineTest, CallsOfDifferentSlotsAreNot) {
  for (const std::uint16_t slot : std::vector<std::uint16_t>{1, 2, 1}) {
    ScriptCall& call = Make({On("A")}, Action::kTake, {slot});
    call.slot = slot;
    call.limits_hash += slot;
    names_[&call] = static_cast<char>('0' + slot);
    pipeline_.Add(call);
  }
  EXPECT_EQ(Folded(), "11 2");
}

TEST_F(PipelineTest, NorIsACallThatAsks) {
  for (const bool asking : {false, true, false}) {
    ScriptCall& call = Make({On("A")}, Action::kTake, {});
    call.asking = asking;
    names_[&call] = asking ? 'a' : 'b';
    pipeline_.Add(call);
  }
  pipeline_.Write("sha1");
  EXPECT_EQ(Folded(), "b a b");
  EXPECT_THAT(pipeline_.text(), ::testing::HasSubstr("*1\r\n$6\r\nASKING\r\n*"));
}

TEST_F(PipelineTest, SoAreCallsOfSeveralBuckets) {
  Add('a', {On("A", 1), On("B", 2)});
  Add('b', {On("A", 2), On("B", 1)});
  EXPECT_EQ(Folded(), "ab");
}

TEST_F(PipelineTest, SoAreCallsOfOtherUsers) {
  Charge other_user = On("A");
  other_user.subject = "{v}";
  Add('a', {On("A")});
  Add('b', {other_user});
  Add('c', {On("A")});
  EXPECT_EQ(Folded(), "abc");
}

TEST_F(PipelineTest, OtherLimitsAreNotFoldedThoughTheirNumbersAreTheSame) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  Add('c', {On("A"), On("B")});
  EXPECT_EQ(Folded(), "a b c");
}

TEST_F(PipelineTest, OtherNumbersAreNotFolded) {
  const Quota reloaded = {6, 1, 2s};
  Add('a', {On("A")});
  Add('b', {WithQuota(On("A"), reloaded)});
  Add('c', {WithQuota(On("A"), reloaded)});
  // Nor does it move past those with the other numbers.
  Add('d', {On("A")});
  EXPECT_EQ(Folded(), "a bc d");
}

TEST_F(PipelineTest, OtherNumbersOfTheSecondBucketAreNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("A"), WithQuota(On("B"), {5, 2, 2s})});
  EXPECT_EQ(Folded(), "a b");
}

TEST_F(PipelineTest, AnotherActionIsNotFolded) {
  Add('a', {On("A")});
  Add('b', {On("A")}, Action::kLook);
  Add('c', {On("A")}, Action::kGive);
  Add('d', {On("A")}, Action::kGive);
  Add('e', {On("A")});
  EXPECT_EQ(Folded(), "a b cd e");
}

TEST_F(PipelineTest, AShadowIsNotFoldedWithWhatIsNone) {
  Add('a', {On("A")});
  Add('b', {Shadow(On("A"))});
  Add('c', {Shadow(On("A"))});
  EXPECT_EQ(Folded(), "a bc");
}

TEST_F(PipelineTest, AnotherOrderOfTheBucketsIsNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("B"), On("A")});
  EXPECT_EQ(Folded(), "a b");
}

TEST_F(PipelineTest, FewerOrMoreBucketsAreNotFolded) {
  Add('a', {On("A"), On("B")});
  Add('b', {On("A")});
  Add('c', {On("A"), On("B")});
  Add('d', {On("A"), On("B"), On("C")});
  EXPECT_EQ(Folded(), "a b c d");
}

TEST_F(PipelineTest, ACallMovesPastCallsOfOtherBuckets) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  Add('c', {On("A")});
  Add('d', {On("B")});
  EXPECT_EQ(Folded(), "ac bd");
}

TEST_F(PipelineTest, ACallMovesPastNoneThatSharesItsBucket) {
  Add('a', {On("A")});
  Add('b', {On("A"), On("B")});
  Add('c', {On("A")});
  EXPECT_EQ(Folded(), "a b c");
}

TEST_F(PipelineTest, ACallMovesPastNoneThatSharesAnyOfItsBuckets) {
  for (const char* shared : {"A", "B", "C"}) {
    pipeline_.Clear();
    Add('a', {On("A"), On("B"), On("C")});
    Add('b', {On(shared)});
    Add('c', {On("A"), On("B"), On("C")});
    EXPECT_EQ(Folded(), "a b c") << shared;
  }
}

TEST_F(PipelineTest, ABucketBetweenIsSeenThoughTheOthersWereTouchedTogether) {
  // Both buckets of the last were touched last by one command, of other keys.
  Add('a', {On("A"), On("B")});
  Add('b', {On("A"), On("B"), On("C")});
  Add('c', {On("A"), On("B")});
  EXPECT_EQ(Folded(), "a b c");
}

TEST_F(PipelineTest, ALimitThatAllShareKeepsUsersInTheirOrder) {
  const auto user = [](const char* limit) { return std::vector<Charge>{On(limit), On("global")}; };
  Add('a', user("u"));
  Add('b', user("v"));
  Add('c', user("u"));
  Add('d', user("u"));
  Add('e', user("v"));
  EXPECT_EQ(Folded(), "a b cd e");
}

TEST_F(PipelineTest, DifferentBucketsThatHashAlikeAreNotFolded) {
  AddHashed('a', {On("A")}, {7});
  AddHashed('b', {On("B")}, {7});
  AddHashed('c', {On("B")}, {7});
  AddHashed('d', {On("A")}, {7});
  AddHashed('e', {On("C"), On("D")}, {7, 7});
  AddHashed('f', {On("C"), On("D")}, {7, 7});
  EXPECT_EQ(Folded(), "a bc d ef");
}

TEST_F(PipelineTest, HashesOfOnePlaceAreToldApart) {
  // Beside one another in the table, and around its end.
  const std::size_t places = 4 * Pipeline::kMaxBuckets;
  const std::size_t last = std::numeric_limits<std::size_t>::max();
  AddHashed('a', {On("A")}, {last});
  AddHashed('b', {On("B")}, {last - places});
  AddHashed('c', {On("C")}, {0});
  AddHashed('d', {On("D")}, {places});
  AddHashed('e', {On("D")}, {places});
  AddHashed('f', {On("C")}, {0});
  AddHashed('g', {On("B")}, {last - places});
  AddHashed('h', {On("A")}, {last});
  EXPECT_EQ(Folded(), "ah bg cf de");
}

TEST_F(PipelineTest, OnceClearedItKnowsNothingOfWhatWas) {
  Add('a', {On("A")});
  Add('b', {On("B")});
  pipeline_.Write("sha");
  pipeline_.Clear();
  EXPECT_EQ(pipeline_.buckets(), 0U);
  EXPECT_TRUE(pipeline_.commands().empty());
  EXPECT_EQ(pipeline_.text(), "");
  Add('c', {On("B")});
  Add('d', {On("A")});
  Add('e', {On("B")});
  EXPECT_EQ(Folded(), "ce d");
}

TEST_F(PipelineTest, ACallThatIsAddedAnewBringsNoneOfThoseBehindItThen) {
  ScriptCall& first = Make({On("A")}, Action::kTake, {1});
  ScriptCall& second = Make({On("A")}, Action::kTake, {1});
  names_ = {{&first, 'a'}, {&second, 'b'}};
  pipeline_.Add(first);
  pipeline_.Add(second);
  pipeline_.Clear();
  pipeline_.Add(first);
  EXPECT_EQ(Folded(), "a");
}

TEST_F(PipelineTest, WritesWhatTheScriptsHeaderStates) {
  Charge second = Shadow(WithQuota(On("B", 7), {9, 2, 1ms}));
  second.subject = "{a%7D\r\n}";
  Add('a', {On("A", 1), second});
  Add('b', {On("C", 5)}, Action::kGive);
  second.cost = 0;
  Add('c', {On("A", 2), second});
  pipeline_.Write("the-sha1");
  const std::string one = std::to_string(Fingerprint(kQuota));
  const std::string two = std::to_string(Fingerprint({9, 2, 1ms}));
  const std::string folded = FormatCommand({"EVALSHA",
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
      {"EVALSHA", "the-sha1", "1", "rl:1:C:{u}", "give", "5", "1", "2000000", one, "0", "5"});
  ASSERT_EQ(Folded(), "ac b");
  EXPECT_EQ(pipeline_.text(), folded + single);
  EXPECT_EQ(pipeline_.buckets(), 5U);
}

TEST_F(PipelineTest, TakesAsManyBucketsAsItSays) {
  constexpr std::size_t kHalf = Pipeline::kMaxBuckets / 2;
  // All of them belong to one place of the table.
  for (const std::size_t stride : {std::size_t{1}, 4 * Pipeline::kMaxBuckets}) {
    pipeline_.Clear();
    std::deque<std::string> limits;
    for (std::size_t i = 0; i < kHalf; ++i) limits.push_back(fmt::format("l{}", i));
    for (int twice = 0; twice < 2; ++twice) {
      for (std::size_t i = 0; i < kHalf; ++i) AddHashed('x', {On(limits[i])}, {i * stride});
    }
    EXPECT_EQ(pipeline_.buckets(), Pipeline::kMaxBuckets);
    ASSERT_EQ(pipeline_.commands().size(), kHalf);
    for (const Pipeline::Command& command : pipeline_.commands()) EXPECT_EQ(command.calls, 2U);

    pipeline_.Clear();
    for (std::size_t i = 0; i < Pipeline::kMaxBuckets; ++i) {
      AddHashed('x', {On("all differ")}, {i * stride});
    }
    ASSERT_EQ(pipeline_.commands().size(), 1U);
    EXPECT_EQ(pipeline_.commands()[0].calls, Pipeline::kMaxBuckets);
  }
}

// Whatever comes: a command's calls are of the same limits and keep their
// order, and calls that share a bucket run in the order in which they came.
TEST_F(PipelineTest, NobodyCanTellTheOrderFromThatInWhichTheyCame) {
  constexpr std::size_t kCalls = 30;
  const std::vector<std::string> limits = {"A", "B", "C", "D"};
  std::mt19937_64 random(1);
  std::size_t folded = 0;
  for (int round = 0; round < 2'000; ++round) {
    pipeline_.Clear();
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
        if (random() % 8 == 0) charges.back().quota = {6, 1, 2s};
        buckets.push_back(limit % hashes);
      }
      ScriptCall& call = Make(std::move(charges), Action::kTake, buckets);
      came[&call] = i;
      pipeline_.Add(call);
    }
    std::vector<const ScriptCall*> runs;
    for (const Pipeline::Command& command : pipeline_.commands()) {
      for (const ScriptCall* call = command.first; call != nullptr; call = call->next) {
        ASSERT_TRUE(GoTogether(*command.first, *call));
        runs.push_back(call);
      }
    }
    ASSERT_EQ(runs.size(), kCalls);
    folded += kCalls - pipeline_.commands().size();
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
  EXPECT_GT(folded, 1'000U);
}

}  // namespace
}  // namespace ratelimiter::testing
