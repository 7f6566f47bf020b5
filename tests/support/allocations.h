#pragma once

#include <concepts>

namespace ratelimiter::testing {

// How often the program has called operator new, on any thread. Only where
// allocations.cpp is among the program's own sources, for it replaces operator new.
int Allocations();

// How often it does in `action`.
int AllocationsIn(const std::invocable auto& action) {
  const int before = Allocations();
  action();
  return Allocations() - before;
}

}  // namespace ratelimiter::testing
