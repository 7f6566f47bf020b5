#include "ratelimiter/metrics/heavy_hitters.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include <absl/hash/hash.h>

namespace ratelimiter {
namespace {

using std::chrono::microseconds;

// Those who count let a set's counters fade so often at most.
constexpr microseconds kBetweenFadings = std::chrono::seconds(1);

std::uint64_t Rounded(double count) { return static_cast<std::uint64_t>(std::llround(count)); }

struct Weight {
  std::string user;
  double count;
  double error;
};

// Makes one of those who are called the same.
void Merge(std::vector<Weight>& weights) {
  std::ranges::sort(weights, {}, &Weight::user);
  std::size_t size = 0;
  for (Weight& weight : weights) {
    if (size > 0 && weights[size - 1].user == weight.user) {
      weights[size - 1].count += weight.count;
      weights[size - 1].error += weight.error;
    } else {
      std::swap(weights[size++], weight);
    }
  }
  weights.resize(size);
}

}  // namespace

HeavyHitters::HeavyHitters(std::size_t capacity, UserLabel label, const Clock& clock)
    : label_(label), clock_(clock), sets_(std::bit_ceil((capacity + kWays - 1) / kWays)) {}

void HeavyHitters::Count(std::string_view user) {
  const std::size_t hash = absl::HashOf(user);
  const microseconds now = clock_.Now();
  Set& set = sets_[hash % sets_.size()];
  const std::lock_guard lock(set.mutex);
  set.counters.Fade(now, kBetweenFadings);
  set.counters.counts[set.counters.IndexOf(user.substr(0, kMaxUserBytes), hash)] += 1;
}

std::vector<HeavyUser> HeavyHitters::Top(std::size_t n) const {
  const microseconds now = clock_.Now();
  std::vector<Weight> weights;
  for (const Set& set : sets_) {
    // Copied, so that whoever counts waits for no more than that.
    Counters counters = [&] {
      const std::lock_guard lock(set.mutex);
      return set.counters;
    }();
    counters.Fade(now, microseconds(1));
    for (std::size_t i = 0; i < kWays; ++i) {
      if (counters.counts[i] <= 0) continue;
      weights.push_back({.user = LabelOf(counters.users[i].text(), label_),
                         .count = counters.counts[i],
                         .error = counters.errors[i]});
    }
  }
  Merge(weights);
  std::ranges::stable_sort(weights, std::ranges::greater(), &Weight::count);

  std::vector<HeavyUser> top;
  for (Weight& weight : weights) {
    // The rest are as good as gone.
    if (top.size() == n || Rounded(weight.count) == 0) break;
    top.push_back({.user = std::move(weight.user),
                   .count = Rounded(weight.count),
                   .error = Rounded(weight.error)});
  }
  return top;
}

void HeavyHitters::Counters::Fade(microseconds now, microseconds least) {
  const microseconds since = now - faded_at;
  if (since < least) return;
  const double left =
      std::exp(-std::chrono::duration<double>(since) / std::chrono::duration<double>(kFade));
  for (double& count : counts) count *= left;
  for (double& error : errors) error *= left;
  faded_at = now;
}

std::size_t HeavyHitters::Counters::IndexOf(std::string_view user, std::size_t hash) {
  for (std::size_t i = 0; i < kWays; ++i) {
    if (hashes[i] == hash && users[i].text() == user) return i;
  }
  const auto place = static_cast<std::size_t>(std::ranges::min_element(counts) - counts.begin());
  hashes[place] = hash;
  errors[place] = counts[place];
  users[place].size = user.size();
  std::ranges::copy(user, users[place].bytes.begin());
  return place;
}

}  // namespace ratelimiter
