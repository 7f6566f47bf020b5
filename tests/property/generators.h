#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <rapidcheck.h>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter::testing {

// A number up to `most` with a uniform length in bits, so that small, medium and huge ones all
// occur.
inline rc::Gen<std::uint64_t> UpTo(std::uint64_t most) {
  return rc::gen::exec([most] {
    const int bits = *rc::gen::inRange(1, 64);
    const std::uint64_t number = *rc::gen::noShrink(rc::gen::arbitrary<std::uint64_t>());
    return 1 + (number >> static_cast<unsigned>(64 - bits)) % most;
  });
}

// Any valid spec.
inline rc::Gen<BucketSpec> AnyBucketSpec() {
  using std::chrono::microseconds;
  const auto interval = rc::gen::oneOf(
      UpTo(static_cast<std::uint64_t>(kMaxRefillInterval.count())),
      rc::gen::element<std::uint64_t>(1'000, 3'000, 1'000'000, 2'000'000, 60'000'000,
                                      86'400'000'000, 2'592'000'000'000, 31'622'400'000'000));
  return rc::gen::suchThat(
      rc::gen::oneOf(rc::gen::element(BucketSpec{5, 1, std::chrono::seconds(2)},
                                      BucketSpec{1'000'000, 1'000'000, std::chrono::hours(24)},
                                      BucketSpec{7, 7, std::chrono::milliseconds(3)}),
                     rc::gen::map(rc::gen::tuple(UpTo(kExactBound), UpTo(kExactBound), interval),
                                  [](const auto& numbers) {
                                    const auto& [capacity, refill, micros] = numbers;
                                    return BucketSpec{
                                        capacity, 1 + refill % (kExactBound / capacity),
                                        microseconds(static_cast<std::int64_t>(micros))};
                                  })),
      [](const BucketSpec& spec) { return Validate(spec).ok(); });
}

// One step of a random walk: how time moves, and the cost of the next call.
struct Step {
  enum class Pace { kLittle, kAsTold, kOneShort, kAny, kBack } pace;
  std::uint64_t random;
  std::uint64_t cost_random;
  bool take;
};

inline rc::Gen<Step> AnyStep() {
  return rc::gen::map(
      rc::gen::tuple(rc::gen::weightedElement<Step::Pace>({{4, Step::Pace::kLittle},
                                                           {4, Step::Pace::kAsTold},
                                                           {4, Step::Pace::kOneShort},
                                                           {2, Step::Pace::kAny},
                                                           {1, Step::Pace::kBack}}),
                     rc::gen::arbitrary<std::uint64_t>(), rc::gen::arbitrary<std::uint64_t>(),
                     rc::gen::weightedElement<bool>({{4, true}, {1, false}})),
      [](const auto& parts) {
        const auto& [pace, random, cost_random, take] = parts;
        return Step{pace, random, cost_random, take};
      });
}

inline std::chrono::microseconds Below(std::uint64_t random, std::chrono::microseconds bound) {
  return std::chrono::microseconds(
      static_cast<std::int64_t>(random % (static_cast<std::uint64_t>(bound.count()) + 1)));
}

// The next time: a little later, when the last refusal's wait ends, one microsecond earlier, far
// ahead, or back.
inline std::chrono::microseconds Next(std::chrono::microseconds now, const Step& step,
                                      const Decision& last) {
  using std::chrono::microseconds;
  constexpr microseconds kFar{std::int64_t{1} << 40U};  // Twelve days.
  switch (step.pace) {
    case Step::Pace::kLittle:
      return now + Below(step.random, microseconds(5'000));
    case Step::Pace::kAsTold:
      return now + last.retry_after;
    case Step::Pace::kOneShort:
      return now + std::max(last.retry_after - microseconds(1), microseconds(0));
    case Step::Pace::kAny:
      return now + Below(step.random, std::min(last.reset_after + microseconds(1), kFar));
    case Step::Pace::kBack:
      return now - Below(step.random, kFar);
  }
  std::abort();
}

// A cost up to `capacity`: near the remaining tokens, where the decision changes, or any.
inline std::uint64_t CostOf(const Step& step, std::uint64_t remaining, std::uint64_t capacity) {
  const std::uint64_t near = remaining + step.cost_random % 3;
  return (step.random % 2 == 0 ? near : step.cost_random) % (capacity + 1);
}

}  // namespace ratelimiter::testing
