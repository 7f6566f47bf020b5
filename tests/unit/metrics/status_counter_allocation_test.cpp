#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>

#include <gtest/gtest.h>

#include "ratelimiter/metrics/status_counter.h"

namespace {

std::atomic<int> allocations = 0;

}  // namespace

// These take the place of the library's in the whole program; new[] and the rest
// come here too.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size); memory != nullptr) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto multiple = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(multiple, (size + multiple - 1) / multiple * multiple);
      memory != nullptr) {
    return memory;
  }
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace ratelimiter {
namespace {

// Longer than what a std::string holds without allocating.
const std::string kUser(200, 'u');
const std::string kOtherUser(200, 'o');

int AllocationsToCount(RequestCounter& counter, const std::string& user) {
  const int before = allocations;
  counter.Count(user, RequestStatus::kAllowed);
  return allocations - before;
}

TEST(RequestCounterAllocationTest, AUserNotSeenBeforeAllocates) {
  RequestCounter counter(10);
  EXPECT_GT(AllocationsToCount(counter, kUser), 0);
}

TEST(RequestCounterAllocationTest, AUserAlreadySeenAllocatesNothing) {
  RequestCounter counter(10);
  counter.Count(kUser, RequestStatus::kAllowed);
  EXPECT_EQ(AllocationsToCount(counter, kUser), 0);
}

TEST(RequestCounterAllocationTest, AUserBeyondTheBoundAllocatesNothing) {
  RequestCounter counter(1);
  counter.Count(kUser, RequestStatus::kAllowed);
  EXPECT_EQ(AllocationsToCount(counter, kOtherUser), 0);
}

}  // namespace
}  // namespace ratelimiter
