#include "ratelimiter/base/periodic_worker.h"

#include <atomic>
#include <chrono>
#include <future>
#include <semaphore>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using std::chrono::nanoseconds;

TEST(PeriodicWorkerTest, RunsAtOnceAndAfterEachPause) {
  std::counting_semaphore<> runs(0);
  const PeriodicWorker worker([&] {
    runs.release();
    return nanoseconds(1);
  });
  for (int run = 0; run < 3; ++run) runs.acquire();
}

TEST(PeriodicWorkerTest, WakeEndsAPause) {
  std::counting_semaphore<> runs(0);
  PeriodicWorker worker([&] {
    runs.release();
    return PeriodicWorker::kForever;
  });
  for (int run = 0; run < 3; ++run) {
    runs.acquire();
    worker.Wake();
  }
  runs.acquire();
}

TEST(PeriodicWorkerTest, WakeDuringARunMakesItRunOnceMore) {
  std::promise<void> may_end;
  std::counting_semaphore<> runs(0);
  std::atomic<bool> first = true;
  PeriodicWorker worker([&, wait = may_end.get_future().share()] {
    runs.release();
    if (first.exchange(false)) wait.get();
    return PeriodicWorker::kForever;
  });
  runs.acquire();
  worker.Wake();
  may_end.set_value();
  runs.acquire();
}

TEST(PeriodicWorkerTest, DestroyingItEndsAPauseAndWaitsForARun) {
  std::binary_semaphore begun(0);
  std::atomic<bool> ended = false;
  {
    const PeriodicWorker worker([&] {
      begun.release();
      ended = true;
      return PeriodicWorker::kForever;
    });
    begun.acquire();
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace ratelimiter
