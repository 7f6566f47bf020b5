#include "redis/turn_queue.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/eventually.h"
#include "support/threads.h"
#include "support/waiting_thread.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

struct Work {
  char name = '?';
  // Not atomic: the queue is what keeps leaders and callers apart.
  int carried = 0;
};

using Queue = TurnQueue<Work>;
using enum Queue::Entry;

class TurnQueueTest : public ::testing::Test {
 protected:
  // What became of a caller that came after those before it.
  struct Caller {
    Work work;
    Queue::Entry entry = kFull;
    std::unique_ptr<WaitingThread> thread;
  };

  // Comes with work on a thread of its own, and returns when that waits. If it is
  // to lead, it carries out the work of all others and notes whose.
  Caller& Come(char name, Deadline give_up = Deadline::max()) {
    Caller& caller = *callers_.emplace_back(std::make_unique<Caller>());
    caller.work.name = name;
    caller.thread = std::make_unique<WaitingThread>([this, &caller, give_up] {
      caller.entry = queue_.Enter(caller.work, give_up);
      if (caller.entry == kLeads) LeadAll(caller.work);
    });
    EXPECT_TRUE(Eventually([&] { return caller.thread->IsAsleep(); }));
    return caller;
  }

  void LeadAll(Work& own) {
    Queue::Turn turn(queue_);
    turns_ += own.name;
    ++own.carried;
    while (Work* work = turn.TakeNext()) {
      turns_ += work->name;
      ++work->carried;
    }
    turns_ += ' ';
  }

  void Join() {
    for (const auto& caller : callers_) caller->thread.reset();
  }

  Queue queue_{10};
  // Guarded by the turn.
  std::string turns_;
  std::vector<std::unique_ptr<Caller>> callers_;
};

TEST_F(TurnQueueTest, WhoeverFindsItFreeLeads) {
  Work work;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
    Queue::Turn turn(queue_);
    EXPECT_EQ(turn.TakeNext(), nullptr);
  }
}

TEST_F(TurnQueueTest, TheFirstWhoWaitsLeadsNextAndCarriesTheOthersInOrder) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    const Queue::Turn turn(queue_);
    for (const char name : {'a', 'b', 'c', 'd'}) Come(name);
  }
  Join();
  EXPECT_EQ(turns_, "abcd ");
  EXPECT_EQ(callers_[0]->entry, kLeads);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(callers_[i]->entry, kCarried);
  for (const auto& caller : callers_) EXPECT_EQ(caller->work.carried, 1);
}

TEST_F(TurnQueueTest, ATurnTakesThoseWhoComeWhileItLasts) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    Queue::Turn turn(queue_);
    EXPECT_EQ(turn.TakeNext(), nullptr);
    Caller& late = Come('a');
    EXPECT_EQ(turn.TakeNext(), &late.work);
    EXPECT_EQ(turn.TakeNext(), nullptr);
  }
  Join();
  EXPECT_EQ(callers_[0]->entry, kCarried);
}

TEST_F(TurnQueueTest, WhatATurnLeavesIsTheNextOnes) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    Queue::Turn turn(queue_);
    for (const char name : {'a', 'b', 'c', 'd'}) Come(name);
    EXPECT_EQ(turn.TakeNext()->name, 'a');
    for (const char name : {'e', 'f'}) Come(name);
  }
  Join();
  EXPECT_EQ(turns_, "bcdef ");
}

TEST_F(TurnQueueTest, WhoeverGivesUpIsNotCarried) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    Queue::Turn turn(queue_);
    Work impatient;
    OnThreads(1, [&](std::size_t) {
      EXPECT_EQ(queue_.Enter(impatient, std::chrono::steady_clock::now()), kGaveUp);
    });
    Caller& patient = Come('a');
    EXPECT_EQ(turn.TakeNext(), &patient.work);
    EXPECT_EQ(impatient.carried, 0);
  }
}

TEST_F(TurnQueueTest, TheNextLeaderIsOneWhoHasNotGivenUp) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    const Queue::Turn turn(queue_);
    OnThreads(3, [&](std::size_t) {
      Work impatient;
      EXPECT_EQ(queue_.Enter(impatient, std::chrono::steady_clock::now()), kGaveUp);
    });
    Come('a');
    Come('b');
  }
  Join();
  EXPECT_EQ(turns_, "ab ");
}

TEST_F(TurnQueueTest, WhoeverWasTakenStaysThoughItsTimeEnds) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  Deadline give_up;
  {
    Queue::Turn turn(queue_);
    give_up = std::chrono::steady_clock::now() + 1s;
    Caller& caller = Come('a', give_up);
    ASSERT_EQ(turn.TakeNext(), &caller.work);
    EXPECT_TRUE(Eventually([&] { return std::chrono::steady_clock::now() > give_up + 50ms; }));
    EXPECT_EQ(caller.entry, kFull);  // It has not returned.
  }
  Join();
  EXPECT_EQ(callers_[0]->entry, kCarried);
}

TEST_F(TurnQueueTest, IsFullWhereSoManyWait) {
  Work work;
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  {
    const Queue::Turn turn(queue_);
    for (char name = 'a'; name < 'a' + 10; ++name) Come(name);
    Work further;
    EXPECT_EQ(queue_.Enter(further, Deadline::max()), kFull);
  }
  Join();
  EXPECT_EQ(turns_, "abcdefghij ");
  ASSERT_EQ(queue_.Enter(work, Deadline::max()), kLeads);
  const Queue::Turn turn(queue_);
  Come('k');
}

TEST_F(TurnQueueTest, ATurnTakesSoManyAndNoMore) {
  Queue queue(Queue::kMaxTaken + 1);
  Work work;
  ASSERT_EQ(queue.Enter(work, Deadline::max()), kLeads);
  std::vector<std::unique_ptr<WaitingThread>> threads;
  std::optional<Queue::Turn> turn(std::in_place, queue);
  std::vector<Work> works(Queue::kMaxTaken + 1);
  for (Work& other : works) {
    threads.push_back(std::make_unique<WaitingThread>([&] {
      if (queue.Enter(other, Deadline::max()) == kLeads) const Queue::Turn next(queue);
    }));
    ASSERT_TRUE(Eventually([&] { return threads.back()->IsAsleep(); }));
  }
  for (std::size_t i = 0; i < Queue::kMaxTaken; ++i) ASSERT_EQ(turn->TakeNext(), &works[i]);
  EXPECT_EQ(turn->TakeNext(), nullptr);
  turn.reset();
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kEntries = 500'000;
#else
constexpr std::uint64_t kEntries = 10'000'000;
#endif

// Callers come, wait, give up at random moments, and lead. Everyone's work is
// carried out exactly once, or not at all if the caller gave up; one leads at a time.
TEST(TurnQueueStressTest, NobodyIsForgottenOrCarriedTwice) {
  constexpr std::size_t kThreads = 8;
  Queue queue(1'000'000);  // Those who gave up count until a leader finds out.
  // Not atomic: guarded by the turn.
  std::uint64_t led = 0;
  std::uint64_t carried = 0;
  std::atomic<std::uint64_t> gave_up = 0;
  OnThreads(kThreads, [&](std::size_t thread) {
    std::mt19937_64 random(thread);
    for (std::uint64_t i = 0; i < kEntries / kThreads; ++i) {
      Work work;
      const auto now = std::chrono::steady_clock::now();
      // From "at once" to what several turns take, and some who wait for ever.
      const std::uint64_t dice = random() % 100;
      const Deadline deadline =
          dice < 50 ? Deadline::max() : now + std::chrono::nanoseconds(dice * dice * 4);
      switch (queue.Enter(work, deadline)) {
        case kLeads: {
          Queue::Turn turn(queue);
          ++led;
          ++work.carried;
          // So that all the others come meanwhile: a tenth of the works or more is
          // carried by others then.
          if (random() % 40 == 0) std::this_thread::yield();
          const std::uint64_t most = random() % 4 == 0 ? random() % kThreads : kThreads;
          for (std::uint64_t taken = 0; taken < most; ++taken) {
            Work* other = turn.TakeNext();
            if (other == nullptr) break;
            ++other->carried;
            ++carried;
          }
          break;
        }
        case kCarried:
          break;
        case kGaveUp:
          ++gave_up;
          ASSERT_EQ(work.carried, 0);
          continue;
        case kFull:
          FAIL() << "far more may wait";
      }
      ASSERT_EQ(work.carried, 1);
    }
  });
  EXPECT_EQ(led + carried + gave_up, kEntries);
  EXPECT_GT(led, 0U);
  EXPECT_GT(carried, kEntries / 100);
  EXPECT_GT(gave_up, 0U);
  Work work;
  EXPECT_EQ(queue.Enter(work, Deadline::max()), kLeads);
  const Queue::Turn turn(queue);
}

}  // namespace
}  // namespace ratelimiter::testing
