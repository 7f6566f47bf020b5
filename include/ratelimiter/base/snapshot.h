#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

#include "ratelimiter/base/thread_stripe.h"

namespace ratelimiter {

// A value that many threads read and that is now and then replaced as a whole:
// a reader gets one version or the other, and keeps it while it needs it.
//
// Thread-safe. A reader takes a lock that it shares with few other threads, held
// for the copy of a pointer; it never waits for the making of a new version.
template <typename T>
class Snapshot {
 public:
  explicit Snapshot(const std::shared_ptr<const T>& value) { Set(value); }

  std::shared_ptr<const T> Get() const {
    const Copy& copy = copies_[ThreadStripe() % kCopies];
    const std::lock_guard lock(copy.mutex);
    return copy.value;
  }

  void Set(const std::shared_ptr<const T>& value) {
    for (Copy& copy : copies_) {
      // A count of references of its own, in a cache line of its own: else all
      // readers would write to the one of `value`.
      const auto owner = std::make_shared<const Owner>(value);
      // What was there is let go outside the lock: it may be much to destroy.
      std::shared_ptr<const T> replaced(owner, value.get());
      const std::lock_guard lock(copy.mutex);
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
    mutable std::mutex mutex;
    std::shared_ptr<const T> value;  // Guarded by mutex.
  };

  std::array<Copy, kCopies> copies_;
};

}  // namespace ratelimiter
