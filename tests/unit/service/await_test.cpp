#include "ratelimiter/service/await.h"

#include <memory>
#include <thread>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

TEST(AwaitTest, ReturnsWhatACompletionGotBeforeTheWait) {
  EXPECT_EQ(Await<int>([](auto completion) { completion(7); }), 7);
}

TEST(AwaitTest, WaitsForACompletionOnAnotherThread) {
  for (int i = 0; i < 2'000; ++i) {
    std::jthread other;
    const auto result = Await<std::unique_ptr<int>>([&](auto completion) {
      other = std::jthread([completion, i] { completion(std::make_unique<int>(i)); });
    });
    EXPECT_EQ(*result, i);
  }
}

}  // namespace
}  // namespace ratelimiter
