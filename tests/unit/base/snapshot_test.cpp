#include "ratelimiter/base/snapshot.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "support/threads.h"

namespace ratelimiter {
namespace {

// A value that is whole only if all its parts are the same.
using Version = std::array<std::size_t, 64>;

std::shared_ptr<const Version> Make(std::size_t number) {
  auto version = std::make_shared<Version>();
  version->fill(number);
  return version;
}

bool IsWhole(const Version& version) {
  return std::ranges::all_of(version, [&](std::size_t part) { return part == version.front(); });
}

TEST(SnapshotTest, GivesWhatWasSetLast) {
  Snapshot<Version> snapshot(Make(1));
  EXPECT_EQ(snapshot.Get()->front(), 1U);
  snapshot.Set(Make(2));
  EXPECT_EQ(snapshot.Get()->front(), 2U);
}

TEST(SnapshotTest, AReaderKeepsItsVersionWhileItNeedsIt) {
  Snapshot<Version> snapshot(Make(1));
  const auto kept = snapshot.Get();
  snapshot.Set(Make(2));
  EXPECT_EQ(*kept, *Make(1));
}

TEST(SnapshotTest, LetsGoWhatWasReplaced) {
  auto first = Make(1);
  const std::weak_ptr<const Version> watched = first;
  Snapshot<Version> snapshot(std::move(first));
  EXPECT_FALSE(watched.expired());
  snapshot.Set(Make(2));
  EXPECT_TRUE(watched.expired());
}

TEST(SnapshotTest, ManyReadersSeeWholeVersionsInTheirOrder) {
  // More than there are copies, so that some share one.
  constexpr std::size_t kReaders = 20;
  constexpr std::size_t kVersions = 500;
  Snapshot<Version> snapshot(Make(0));
  std::atomic<std::size_t> torn = 0;
  std::atomic<std::size_t> backwards = 0;
  testing::OnThreads(kReaders + 1, [&](std::size_t thread) {
    if (thread == kReaders) {
      for (std::size_t number = 1; number <= kVersions; ++number) snapshot.Set(Make(number));
      return;
    }
    for (std::size_t seen = 0; seen < kVersions;) {
      const auto version = snapshot.Get();
      if (!IsWhole(*version)) ++torn;
      if (version->front() < seen) ++backwards;
      seen = version->front();
    }
  });
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(backwards, 0U);
}

}  // namespace
}  // namespace ratelimiter
