#include "command_batch.h"

namespace ratelimiter {

void CommandBatch::Clear() {
  commands_.clear();
  buckets_ = 0;
  text_.clear();
  ++round_;
}

void CommandBatch::Add(ScriptCall& call) {
  Command* const command = CommandFor(call);
  if (command == nullptr) return AddAlone(call);
  call.next = nullptr;
  command->last->next = &call;
  command->last = &call;
  ++command->calls;
  buckets_ += call.buckets.size();
  const auto number = static_cast<std::size_t>(command - commands_.data());
  for (const std::size_t bucket : call.buckets) Set(bucket, number);
}

void CommandBatch::AddAlone(ScriptCall& call) {
  const std::size_t number = commands_.size();
  call.next = nullptr;
  commands_.push_back({.first = &call, .last = &call, .calls = 1});
  buckets_ += call.buckets.size();
  Set(call.limits_hash, number);
  for (const std::size_t bucket : call.buckets) Set(bucket, number);
}

CommandBatch::Command* CommandBatch::CommandFor(const ScriptCall& call) {
  const Touch* const alike = Find(call.limits_hash);
  if (alike == nullptr) return nullptr;
  Command& command = commands_[alike->command];
  if (!CanCoalesce(*command.first, call)) return nullptr;
  for (const std::size_t bucket : call.buckets) {
    const Touch* const touch = Find(bucket);
    if (touch != nullptr && touch->command > alike->command) return nullptr;
  }
  return &command;
}

const CommandBatch::Touch* CommandBatch::Find(std::size_t hash) const {
  const Touch& touch = touches_[SlotOf(hash)];
  return touch.round == round_ ? &touch : nullptr;
}

void CommandBatch::Set(std::size_t hash, std::size_t command) {
  touches_[SlotOf(hash)] = {.round = round_, .hash = hash, .command = command};
}

std::size_t CommandBatch::SlotOf(std::size_t hash) const {
  std::size_t place = hash % touches_.size();
  while (touches_[place].round == round_ && touches_[place].hash != hash) {
    place = (place + 1) % touches_.size();
  }
  return place;
}

void CommandBatch::Write(const Script& script, RunScript how) {
  for (const Command& command : commands_) {
    if (command.first->asking) {
      CommandWriter asking(text_);
      asking.Begin(1);
      asking.Add({"ASKING"});
    }
    AppendCommand(*command.first, command.calls, script, how, text_);
  }
}

}  // namespace ratelimiter
