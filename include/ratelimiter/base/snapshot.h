#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <utility>

#include "ratelimiter/base/mutex.h"
#include "ratelimiter/base/thread_stripe.h"

namespace ratelimiter {

// An immutable value that many threads read and that is sometimes replaced as a whole. A
// reader gets the current version and keeps it alive as long as it holds it.
//
// Thread-safe. A reader takes a lock that it shares with few other threads, to copy a pointer;
// it never waits while a new version is made.
template <typename T>
class Snapshot {
 public:
  explicit Snapshot(const std::shared_ptr<const T>& value) { Set(value); }

  std::shared_ptr<const T> Get() const {
    const Copy& copy = copies_[ThreadStripe() % kCopies];
    const MutexLock lock(copy.mutex);
    return copy.value;
  }

  void Set(const std::shared_ptr<const T>& value) {
    for (Copy& copy : copies_) {
      // Each copy counts its references in its own cache line: all readers would contend for
      // the count of `value`.
      const auto owner = std::make_shared<const Owner>(value);
      // Released after the lock: destroying the old version may take long.
      std::shared_ptr<const T> replaced(owner, value.get());
      const MutexLock lock(copy.mutex);
      copy.value.swap(replaced);
    }
  }

 private:
  static constexpr std::size_t kCopies = 16;

  struct alignas(64) Owner {
    explicit Owner(std::shared_ptr<const T> owned) : value(std::move(owned)) {}
    std::shared_ptr<const T> value;
  };

  struct alignas(64) Copy {
    mutable Mutex mutex;
    std::shared_ptr<const T> value GUARDED_BY(mutex);
  };

  std::array<Copy, kCopies> copies_;
};

}  // namespace ratelimiter
