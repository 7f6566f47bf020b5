#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "futex.h"
#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// Lets callers who come at the same time share one turn at something that only
// one may use at a time. Whoever finds it free leads: carries out the work of
// those who wait, in the order in which they came, together with its own. Those
// who come meanwhile wait, and the first of them leads the next turn. (The idea
// of RocksDB's write groups: what comes during one turn is the next one's batch,
// so that batches grow with the load, and no timer is needed.)
//
//     switch (queue.Enter(work, give_up)) {
//       case Entry::kLeads: {
//         TurnQueue<Work>::Turn turn(queue);
//         while (Work* other = turn.TakeNext()) …
//         …  // Carries all of it out.
//       }  // The next leader is woken, and then those whose work this turn took.
//       …
//
// Arrivals take no lock. Each waiter sleeps on a word of its own. A caller who
// finds the queue free pays two atomic operations.
//
// Thread-safe. Nobody may be in it when it is destroyed.
template <typename Work>
class TurnQueue {
  struct Waiter;

 public:
  // Works of others that one turn takes at most.
  static constexpr std::size_t kMaxTaken = 127;

  enum class Entry : std::uint8_t {
    kLeads,    // The caller's work is its own: it must make a Turn now.
    kCarried,  // Another has carried the work out.
    kGaveUp,   // `give_up` passed before anybody took the work.
    kFull,     // `max_waiting` others wait already.
  };

  // `max_waiting`: how many may wait. One who gave up counts until a leader finds
  // out.
  explicit TurnQueue(std::size_t max_waiting) : max_waiting_(max_waiting) {}
  TurnQueue(const TurnQueue&) = delete;
  TurnQueue& operator=(const TurnQueue&) = delete;

  // Comes with `work`, which must stay until this returns: until `give_up` the
  // caller waits to be taken, and then, however long it takes, for the turn's end.
  Entry Enter(Work& work, Deadline give_up);

  // How many wait now.
  std::size_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

  // One caller's lead, until it is destroyed.
  class Turn {
   public:
    // Precondition: Enter has just told this thread that it leads.
    explicit Turn(TurnQueue& queue) : queue_(queue) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();

    // The work of the next who waits, which this turn is then to carry out.
    // nullptr: none waits, or the turn has taken kMaxTaken.
    Work* TakeNext();

   private:
    TurnQueue& queue_;
    // The leader's own, for the queue is the next leader's before these are woken.
    std::array<Waiter*, kMaxTaken> taken_;  // Of which `size_` are in use.
    std::size_t size_ = 0;
  };

 private:
  enum State : std::uint32_t { kWaiting, kTaken, kServed, kChosen, kGone };
  // Beside the state in a waiter's word: its thread sleeps, or is about to.
  static constexpr std::uint32_t kAsleep = 1U << 31U;
  static State StateOf(std::uint32_t word) { return static_cast<State>(word & ~kAsleep); }

  // Where so many wait, the processors have more than enough to do.
  static constexpr std::size_t kCrowd = 32;

  struct Waiter {
    FutexWord word{kWaiting};
    Work* work = nullptr;
    Waiter* before = nullptr;  // Who came before it; in the line who came after.
  };

  // Each thread's place in a queue. It is the queue's where its thread gave up,
  // until a leader finds it.
  static std::unique_ptr<Waiter>& Place() {
    static thread_local std::unique_ptr<Waiter> place;
    return place;
  }

  Entry Wait(Deadline give_up);

  // For the leader alone: the next who waits, moved to `state`, and woken if that is
  // kChosen; nullptr if there is none.
  Waiter* Next(State state);
  // Moves those who have come to the line.
  void FetchArrivals();
  // True: nobody leads any more. False: somebody has come.
  bool Release();

  // nullptr: nobody leads. Else who came last, linked to those before, down to led_.
  alignas(64) std::atomic<Waiter*> latest_ = nullptr;
  std::atomic<std::size_t> waiting_ = 0;

  // The leader's: those who came before it fetched the arrivals last, first come first.
  Waiter* line_ = nullptr;

  const std::size_t max_waiting_;
  // Stands for nobody: what latest_ points to while somebody leads and none waits.
  Waiter led_;
};

template <typename Work>
auto TurnQueue<Work>::Enter(Work& work, Deadline give_up) -> Entry {
  Waiter* latest = nullptr;
  if (latest_.compare_exchange_strong(latest, &led_, std::memory_order_acquire)) {
    return Entry::kLeads;
  }
  if (waiting_.fetch_add(1, std::memory_order_relaxed) >= max_waiting_) {
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    return Entry::kFull;
  }
  if (Place() == nullptr) Place() = std::make_unique<Waiter>();
  Waiter& waiter = *Place();
  waiter.word.store(kWaiting, std::memory_order_relaxed);
  waiter.work = &work;
  while (true) {
    if (latest == nullptr) {
      if (latest_.compare_exchange_weak(latest, &led_, std::memory_order_acquire)) {
        waiting_.fetch_sub(1, std::memory_order_relaxed);
        return Entry::kLeads;
      }
    } else {
      waiter.before = latest;
      if (latest_.compare_exchange_weak(latest, &waiter, std::memory_order_release)) break;
    }
  }
  return Wait(give_up);
}

template <typename Work>
auto TurnQueue<Work>::Wait(Deadline give_up) -> Entry {
  FutexWord& word = Place()->word;
  // In a crowd others are let run first: more often than not they carry the work
  // out meanwhile, and nobody has to fall asleep and be woken.
  if (waiting_.load(std::memory_order_relaxed) >= kCrowd) std::this_thread::yield();
  while (true) {
    std::uint32_t seen = word.load(std::memory_order_acquire);
    if (StateOf(seen) == kServed) return Entry::kCarried;
    if (StateOf(seen) == kChosen) return Entry::kLeads;
    if (!word.compare_exchange_strong(seen, seen | kAsleep, std::memory_order_relaxed)) continue;
    const Deadline until = StateOf(seen) == kWaiting ? give_up : Deadline::max();
    if (FutexWait(word, seen | kAsleep, until)) continue;
    seen = kWaiting | kAsleep;
    if (word.compare_exchange_strong(seen, kGone, std::memory_order_release)) {
      Place().release();  // NOLINT(bugprone-unused-return-value): the queue's from now on.
      return Entry::kGaveUp;
    }
  }
}

template <typename Work>
void TurnQueue<Work>::FetchArrivals() {
  // They are linked from the last to the first.
  Waiter* waiter = latest_.exchange(&led_, std::memory_order_acquire);
  while (waiter != &led_) {
    Waiter* const before = std::exchange(waiter->before, line_);
    line_ = waiter;
    waiter = before;
  }
}

template <typename Work>
auto TurnQueue<Work>::Next(State state) -> Waiter* {
  while (true) {
    if (line_ == nullptr) FetchArrivals();
    if (line_ == nullptr) return nullptr;
    Waiter* const waiter = line_;
    line_ = waiter->before;
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    std::uint32_t seen = waiter->word.load(std::memory_order_acquire);
    while (StateOf(seen) == kWaiting) {
      // With a release, for whoever is chosen finds the line as it is now.
      if (!waiter->word.compare_exchange_weak(seen, state | (seen & kAsleep),
                                              std::memory_order_acq_rel)) {
        continue;
      }
      if (state == kChosen && (seen & kAsleep) != 0) FutexWake(&waiter->word);
      return waiter;
    }
    const std::unique_ptr<Waiter> gone(waiter);
  }
}

template <typename Work>
bool TurnQueue<Work>::Release() {
  Waiter* latest = &led_;
  return latest_.compare_exchange_strong(latest, nullptr, std::memory_order_release);
}

template <typename Work>
Work* TurnQueue<Work>::Turn::TakeNext() {
  if (size_ == kMaxTaken) return nullptr;
  Waiter* const waiter = queue_.Next(kTaken);
  if (waiter == nullptr) return nullptr;
  taken_[size_++] = waiter;
  return waiter->work;
}

template <typename Work>
TurnQueue<Work>::Turn::~Turn() {
  // The next leader first: what it leads is what others wait for. It may be at it
  // at once, so that the queue is no longer ours.
  while (true) {
    if (queue_.Next(kChosen) != nullptr || queue_.Release()) break;
  }
  for (std::size_t i = 0; i < size_; ++i) {
    // Once it is told, the waiter may be gone: it is not touched any more.
    FutexWord* const word = &taken_[i]->word;
    const std::uint32_t before = word->exchange(kServed, std::memory_order_acq_rel);
    if ((before & kAsleep) != 0) FutexWake(word);
  }
}

}  // namespace ratelimiter
