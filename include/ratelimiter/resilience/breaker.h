#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>

#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// The circuit breaker of one Redis: where it fails, calls are to be answered at once
// instead of each waiting for it (open), until probes find that it answers again.
//
// It opens where kConsecutive round trips failed one after the other, or at least
// half of those of the last kWindow, if they are kLeastTrips or more. It closes with
// the first good probe. If it opens again before it was closed for kCalm, then Redis
// answers some and fails some: so that it does not flap it now closes after
// kGoodProbes good ones in a row, and the time between probes grows on from where
// it was.
//
// Thread-safe. While it is closed, open() is all that a call pays.
class Breaker {
 public:
  static constexpr int kConsecutive = 3;
  static constexpr std::chrono::seconds kWindow{10};
  static constexpr std::uint32_t kLeastTrips = 20;
  static constexpr int kGoodProbes = 3;
  static constexpr std::chrono::seconds kCalm{10};
  // Between probes, before the jitter takes up to half of it away. It doubles with
  // each that fails.
  static constexpr std::chrono::milliseconds kFirstRest{50};
  static constexpr std::chrono::milliseconds kLongestRest{2000};

  // `clock` never steps back and outlives this. `seed`: of the jitter.
  Breaker(const Clock& clock, std::uint32_t seed);

  bool open() const { return open_.load(std::memory_order_relaxed); }
  // How often it has opened.
  std::uint64_t openings() const { return openings_.load(std::memory_order_relaxed); }

  // A round trip's outcome. While it is open, all that counts is the error.
  void Succeeded();
  void Failed(std::string error);

  // A probe's outcome. Nothing while it is closed.
  void Probed(bool answered);

  // The error of the last round trip that failed.
  std::string error() const;
  // How long it has been open, or was the last time.
  std::chrono::microseconds open_for() const;
  // How long the next probe is to wait.
  std::chrono::microseconds rest() const;

  // Waits until it is open. False: it was stopped.
  bool AwaitOpening(const std::stop_token& stop);

 private:
  // The round trips of a part of the window, which is a second long.
  struct Second {
    std::int64_t number = std::numeric_limits<std::int64_t>::min();  // Since the clock began.
    std::uint32_t trips = 0;
    std::uint32_t failed = 0;
  };

  // Of the current second.
  Second& Now();
  bool HalfFailed();
  void Open();
  void Close();
  void Rest(std::chrono::microseconds most);

  // Written under mutex_.
  std::atomic<bool> open_ = false;
  std::atomic<std::uint64_t> openings_ = 0;

  const Clock& clock_;

  mutable std::mutex mutex_;
  std::condition_variable_any opened_;
  // Guarded by mutex_.
  std::array<Second, kWindow.count()> seconds_{};
  int consecutive_ = 0;
  std::string error_;
  std::chrono::microseconds opened_at_{0};
  std::optional<std::chrono::microseconds> closed_at_;
  std::chrono::microseconds longest_rest_ = kFirstRest;  // As it is now.
  std::chrono::microseconds rest_{0};
  int needed_probes_ = 1;
  int good_probes_ = 0;
  std::minstd_rand random_;
};

}  // namespace ratelimiter
