#pragma once

#include <cstddef>
#include <optional>

#include "ratelimiter/limiter/limit.h"
#include "yaml_field.h"

namespace ratelimiter {

// Overrides that a file may hold. An alias may repeat a long list of them for
// every limit.
inline constexpr std::size_t kMaxOverrides = 1'000'000;

// Reads one limit. What is not accepted is told by the field; nothing comes of a
// limit of which it cannot be said which requests it applies to. Its numbers hold
// only if nothing was told.
//
// `overrides_left` is how many overrides it may have, and is less by them after.
std::optional<Limit> ReadLimit(const YamlField& field, std::size_t& overrides_left);

}  // namespace ratelimiter
