#pragma once

#include <cstdint>
#include <random>

namespace ratelimiter {

// Numbers from 0 to `count` - 1, where number i comes with a probability
// proportional to 1 / (i + 1)^exponent: the first is the most frequent one; with
// exponent 0 all are equally frequent. A draw takes the same time for any count.
class ZipfDistribution {
 public:
  // At least one number; an exponent of 0 or more.
  ZipfDistribution(std::uint32_t count, double exponent);

  std::uint32_t operator()(std::mt19937_64& random) const;

 private:
  double AreaUpTo(double x) const;
  double InverseOfArea(double area) const;

  std::uint32_t count_;
  double exponent_;
  double area_begin_;
  double area_end_;
};

}  // namespace ratelimiter
