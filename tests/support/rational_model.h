#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "ratelimiter/limiter/token_bucket_store.h"
#include "support/decide.h"

namespace ratelimiter::testing {

// The textbook token bucket: a rational level that rises continuously. The level is a 128-bit count
// of parts, `interval` of which make a token; only waits are rounded, at the end. Shares no code
// with the stores under test.
class RationalModel {
 public:
  // `forgets`: a bucket that a call finds full stays full even if time steps back.
  RationalModel(NamedSpec limit, std::chrono::microseconds now, bool forgets)
      : limit_(std::move(limit)), forgets_(forgets), level_(Full()), time_(now) {}

  Decision Decide(Ask charge, std::chrono::microseconds now) {
    const bool allowed = Has(charge.cost, now);
    return Carry(charge, allowed, now);
  }

  // Whether `cost` tokens are there at `now`.
  bool Has(std::uint64_t cost, std::chrono::microseconds now) const {
    return Tokens(cost) <= LevelAt(now);
  }

  // Decides one charge of a transaction that is `allowed` as a whole.
  Decision Carry(Ask charge, bool allowed, std::chrono::microseconds now) {
    const bool stepped_back = now < time_;
    const Wide level = LevelAt(now);
    if (forgets_ && level == Full()) {
      level_ = level;
      time_ = now;
    }
    const Wide cost = Tokens(charge.cost);
    Decision decision;
    decision.allowed = cost <= level;
    const bool pays = decision.allowed && allowed && charge.take;
    const Wide after = pays ? level - cost : level;
    decision.remaining = static_cast<std::uint64_t>(after / Token());
    decision.retry_after = decision.allowed ? std::chrono::microseconds(0) : Wait(cost - after);
    decision.reset_after = Wait(Full() - after);
    if (charge.take && charge.cost > 0 && (pays || stepped_back)) {
      level_ = after;
      time_ = now;
    }
    return decision;
  }

 private:
  __extension__ using Wide = __int128;

  Wide LevelAt(std::chrono::microseconds now) const {
    const Wide elapsed = std::max<Wide>((now - time_).count(), 0);
    return std::min(Full(), level_ + elapsed * Rate());
  }
  Wide Tokens(std::uint64_t count) const {
    return Wide{static_cast<std::int64_t>(count)} * Token();
  }
  Wide Token() const { return limit_.refill_interval.count(); }
  Wide Rate() const { return static_cast<std::int64_t>(limit_.refill_tokens); }
  Wide Full() const { return static_cast<std::int64_t>(limit_.capacity) * Token(); }
  std::chrono::microseconds Wait(Wide parts) const {
    return std::chrono::microseconds(static_cast<std::int64_t>((parts + Rate() - 1) / Rate()));
  }

  const NamedSpec limit_;
  const bool forgets_;
  Wide level_;
  std::chrono::microseconds time_;
};

}  // namespace ratelimiter::testing
