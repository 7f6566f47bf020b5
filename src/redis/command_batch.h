#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "command_writer.h"
#include "ratelimiter/redis/script.h"
#include "script_invocation.h"

namespace ratelimiter {

// The calls of one round trip to Redis, in the order in which they came.
//
// Calls that ask the same of the same limits go together: one run of the script
// answers them one after the other. That takes the later ones past the calls
// between, and so is done only where none of those has a bucket in common with
// them: nobody can tell it from the calls having been run one by one.
//
// To be used again and again. Not thread-safe.
class CommandBatch {
 public:
  // Buckets that it takes at most.
  static constexpr std::size_t kMaxBuckets = 512;

  // One run of the script.
  struct Command {
    ScriptCall* first = nullptr;
    ScriptCall* last = nullptr;
    std::size_t calls = 0;
  };

  void Clear();

  // Precondition: with the call's, there are no more than kMaxBuckets.
  void Add(ScriptCall& call);
  // The same, in a run of its own.
  void AddAlone(ScriptCall& call);

  // Of all calls added.
  std::size_t buckets() const { return buckets_; }

  // Forms the commands. Once, when all calls are there.
  void Write(const Script& script, RunScript how);

  std::span<const Command> commands() const { return commands_; }
  // Of all commands.
  std::string_view text() const { return {text_.data(), text_.size()}; }

 private:
  // The last command that touches a bucket, or that has certain limits.
  struct Touch {
    std::uint64_t round = 0;  // Which Clear it is of: others count as empty.
    std::size_t hash = 0;     // Of the bucket or the limits.
    std::size_t command = 0;
  };

  // nullptr: no command has touched it.
  const Touch* Find(std::size_t hash) const;
  void Set(std::size_t hash, std::size_t command);
  // The place in the table of what has this hash, or where it is to go.
  std::size_t SlotOf(std::size_t hash) const;
  // The command that answers `call` as well, if there is one.
  Command* CommandFor(const ScriptCall& call);

  std::vector<Command> commands_;
  std::size_t buckets_ = 0;
  CommandText text_;
  // A hash table with open addressing, at most half full.
  std::array<Touch, 4 * kMaxBuckets> touches_;
  std::uint64_t round_ = 1;
};

}  // namespace ratelimiter
