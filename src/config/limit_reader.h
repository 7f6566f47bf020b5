#pragma once

#include <cstddef>
#include <optional>

#include "ratelimiter/limiter/limit.h"
#include "yaml_field.h"

namespace ratelimiter {

// The maximum number of overrides in a file. An alias may repeat a long list for every limit.
inline constexpr std::size_t kMaxOverrides = 1'000'000;

// Reads one limit, and reports errors through the field. nullopt: its conditions could not be
// read. Its spec is valid only if no error was reported.
//
// `overrides_left` is the number of overrides that it may have; reduced by those it has.
std::optional<Limit> ReadLimit(const YamlField& field, std::size_t& overrides_left);

}  // namespace ratelimiter
