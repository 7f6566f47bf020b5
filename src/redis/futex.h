#pragma once

#include <atomic>
#include <cstdint>

#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// A word that one thread sleeps on and others wake it by. Linux's futex itself,
// because std::atomic's wait has no deadline, and its notify touches state that
// all words share.
using FutexWord = std::atomic<std::uint32_t>;

// Sleeps while `word` holds `value`, until woken or `deadline`. May return early.
// False: the deadline has passed.
bool FutexWait(FutexWord& word, std::uint32_t value, Deadline deadline);

// Wakes the thread that sleeps on the word at this address. The word itself is
// not touched: it may be gone by now.
void FutexWake(FutexWord* word);

}  // namespace ratelimiter
