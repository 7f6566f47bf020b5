#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "ratelimiter/resilience/breaker.h"

namespace ratelimiter {

// Probes on a thread of its own while a breaker is open, one probe at a time, so
// that no call has to wait to find out. While it is closed the thread sleeps.
//
// Destroying it waits for a probe that is under way.
class Prober {
 public:
  // `name`: whose breaker it is, for messages. `probe`: asks, and tells whether it was answered.
  // `tell`: is told of each change of the breaker, in order, with what to say of it. `breaker` must
  // outlive this.
  Prober(std::string name, Breaker& breaker, std::function<bool()> probe,
         std::function<void(bool open, const std::string& message)> tell);

 private:
  void Run(const std::stop_token& stop);

  const std::string name_;
  Breaker& breaker_;
  const std::function<bool()> probe_;
  const std::function<void(bool open, const std::string& message)> tell_;
  std::jthread thread_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
