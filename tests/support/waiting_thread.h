#pragma once

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace ratelimiter::testing {

// A thread that can be seen to wait.
class WaitingThread {
 public:
  explicit WaitingThread(std::function<void()> action)
      : thread_([this, action = std::move(action)] {
          id_ = gettid();
          action();
        }) {}

  bool IsAsleep() const {
    if (id_ == 0) return false;
    std::ifstream stat("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string number;
    std::string name;
    std::string state;
    stat >> number >> name >> state;
    return state == "S";
  }

 private:
  std::atomic<pid_t> id_ = 0;
  std::jthread thread_;
};

}  // namespace ratelimiter::testing
