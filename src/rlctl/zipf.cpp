#include "zipf.h"

#include <algorithm>
#include <cmath>

namespace ratelimiter {
namespace {

// By rejection-inversion (W. Hörmann, G. Derflinger, 1996). Under the curve
// h(x) = x^-exponent a point of the area is drawn, and the rank k is the whole
// number nearest to its x. The strip from k - 1/2 to k + 1/2 is at least h(k) large,
// for h is convex; the point counts if it lies in the last h(k) of it. So each
// rank gets exactly h(k). The first strip begins where it is h(1) large.
constexpr double kHalf = 0.5;

// With exponents so near to 1 the area is the logarithm, to a double's precision.
constexpr double kNearlyOne = 1e-12;

}  // namespace

ZipfDistribution::ZipfDistribution(std::uint32_t count, double exponent)
    : count_(count),
      exponent_(exponent),
      area_begin_(AreaUpTo(1 + kHalf) - 1),
      area_end_(AreaUpTo(count + kHalf)) {}

// The integral of h from 1 to x.
double ZipfDistribution::AreaUpTo(double x) const {
  const double power = 1 - exponent_;
  if (std::abs(power) < kNearlyOne) return std::log(x);
  return std::expm1(power * std::log(x)) / power;
}

double ZipfDistribution::InverseOfArea(double area) const {
  const double power = 1 - exponent_;
  if (std::abs(power) < kNearlyOne) return std::exp(area);
  return std::exp(std::log1p(area * power) / power);
}

std::uint32_t ZipfDistribution::operator()(std::mt19937_64& random) const {
  if (count_ == 1) return 0;
  std::uniform_real_distribution<double> point(area_begin_, area_end_);
  while (true) {
    const double area = point(random);
    const double rank =
        std::clamp(std::round(InverseOfArea(area)), 1.0, static_cast<double>(count_));
    if (area >= AreaUpTo(rank + kHalf) - std::pow(rank, -exponent_)) {
      return static_cast<std::uint32_t>(rank) - 1;
    }
  }
}

}  // namespace ratelimiter
