#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "script_call.h"

namespace ratelimiter {

// The calls of one round trip to Redis, in the order in which they came.
//
// Calls that differ in their costs alone are folded: one run of the script
// answers them one after the other. That takes the later ones past the calls
// between, and so is done only where none of those has a bucket in common with
// them: nobody can tell it from the calls having been run one by one.
//
// To be used again and again. Not thread-safe.
class Pipeline {
 public:
  // Buckets that it takes at most.
  static constexpr std::size_t kMaxBuckets = 512;

  // One EVALSHA.
  struct Command {
    ScriptCall* first = nullptr;
    ScriptCall* last = nullptr;
    std::size_t calls = 0;
    std::size_t text_begin = 0;
    std::size_t text_size = 0;
    bool answered = false;
  };

  void Clear();

  // Precondition: with the call's, there are no more than kMaxBuckets.
  void Add(ScriptCall& call);

  // Of all calls added.
  std::size_t buckets() const { return buckets_; }

  // Forms the commands. Once, when all calls are there.
  void Write(std::string_view sha1);

  std::span<Command> commands() { return commands_; }
  // Of all commands, or of one.
  std::string_view text() const { return {text_.data(), text_.size()}; }
  std::string_view text(const Command& command) const {
    return text().substr(command.text_begin, command.text_size);
  }

 private:
  // The last command that touches a bucket.
  struct Touch {
    std::uint64_t round = 0;  // Which Clear it is of: others count as empty.
    std::size_t bucket = 0;   // Its hash.
    std::size_t command = 0;
  };

  Touch& TouchOf(std::size_t bucket);
  // The command that answers `call` as well, if there is one.
  Command* CommandFor(const ScriptCall& call);

  std::vector<Command> commands_;
  std::size_t buckets_ = 0;
  fmt::memory_buffer text_;
  // A hash table with open addressing, at most half full.
  std::array<Touch, 2 * kMaxBuckets> touches_;
  std::uint64_t round_ = 1;
};

}  // namespace ratelimiter
