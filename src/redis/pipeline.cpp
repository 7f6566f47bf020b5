#include "pipeline.h"

#include <algorithm>

namespace ratelimiter {

void Pipeline::Clear() {
  commands_.clear();
  buckets_ = 0;
  text_.clear();
  ++round_;
}

void Pipeline::Add(ScriptCall& call) {
  buckets_ += call.buckets.size();
  call.next = nullptr;
  if (Command* command = CommandFor(call); command != nullptr) {
    command->last->next = &call;
    command->last = &call;
    ++command->calls;
    return;
  }
  for (const std::size_t bucket : call.buckets) TouchOf(bucket).command = commands_.size();
  commands_.push_back({.first = &call, .last = &call, .calls = 1});
}

Pipeline::Command* Pipeline::CommandFor(const ScriptCall& call) {
  std::size_t last = commands_.size();
  for (std::size_t i = 0; i < call.buckets.size(); ++i) {
    const std::size_t touched = TouchOf(call.buckets[i]).command;
    if (i > 0 && touched != last) return nullptr;
    last = touched;
  }
  if (last == commands_.size()) return nullptr;
  // Equal texts have the same keys, and none of them was touched since.
  Command& command = commands_[last];
  return command.first->arguments == call.arguments ? &command : nullptr;
}

Pipeline::Touch& Pipeline::TouchOf(std::size_t bucket) {
  for (std::size_t i = bucket;; ++i) {
    Touch& touch = touches_[i % touches_.size()];
    // A bucket that no command has touched is as good as touched by the next.
    if (touch.round != round_) touch = {round_, bucket, commands_.size()};
    if (touch.bucket == bucket) return touch;
  }
}

void Pipeline::Write(std::string_view sha1) {
  for (Command& command : commands_) {
    command.text_begin = text_.size();
    AppendEvalsha(*command.first, command.calls, sha1, text_);
    command.text_size = text_.size() - command.text_begin;
  }
}

}  // namespace ratelimiter
