#include "evaluation.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <absl/utility/utility.h>
#include <fmt/format.h>

namespace ratelimiter {
namespace {

bool Refuses(const LimitState& state) { return !state.limit->shadow && !state.decision.allowed; }

// Whether waiting does not help. REQUIRES: the state refuses.
bool IsForGood(const LimitState& state) {
  return state.decision.retry_after == std::chrono::microseconds(0);
}

// The index of the state that `precedes` the others, the first of equals. Ignores shadows.
std::optional<std::size_t> First(const Answer& answer, const auto& precedes) {
  std::optional<std::size_t> first;
  for (std::size_t i = 0; i < answer.states.size(); ++i) {
    if (answer.states[i].limit->shadow) continue;
    if (!first.has_value() || precedes(answer.states[i], answer.states[*first])) first = i;
  }
  return first;
}

std::optional<std::size_t> LongestWait(const Answer& answer) {
  return First(answer, [](const LimitState& one, const LimitState& other) {
    if (!Refuses(one) || !Refuses(other)) return Refuses(one) && !Refuses(other);
    if (IsForGood(one) || IsForGood(other)) return IsForGood(one) && !IsForGood(other);
    return one.decision.retry_after > other.decision.retry_after;
  });
}

}  // namespace

std::optional<std::size_t> Tightest(const Answer& answer, std::uint64_t cost) {
  const std::uint64_t each = std::max<std::uint64_t>(cost, 1);
  const auto calls_left = [&](const LimitState& state) {
    return state.decision.remaining / (each * state.limit->cost);
  };
  return First(answer, [&](const LimitState& one, const LimitState& other) {
    return calls_left(one) < calls_left(other);
  });
}

Evaluation::Evaluation(EvaluationBatch& batch, const Request& request)
    : batch_(batch),
      request_(request),
      states_begin_(batch.states.size()),
      charges_begin_(batch.charges.size()),
      states_end_(states_begin_),
      charges_end_(charges_begin_) {}

std::span<LimitState> Evaluation::states() const {
  return {batch_.states.data() + states_begin_, states_end_ - states_begin_};
}

std::span<Charge> Evaluation::charges() const {
  return {batch_.charges.data() + charges_begin_, charges_end_ - charges_begin_};
}

absl::Status Evaluation::PlanAllow() {
  const MatchedLimits matched = batch_.limits->Match(request_);
  for (const MatchedLimit& match : matched) {
    const auto& [limit, spec] = match;
    const std::uint64_t cost = request_.cost * limit->cost;
    if (spec.capacity == 0) {
      batch_.states.push_back({.limit = limit, .spec = spec, .decision = {.allowed = cost == 0}});
      ++states_end_;
      blocked_ = blocked_ || Refuses(batch_.states.back());
    } else if (cost <= spec.capacity) {
      AddCharge(match, cost);
    } else if (limit->shadow) {
      AddCharge(match, 0);  // A peek at its state; Finish refuses it.
    } else {
      charges_end_ = charges_begin_;
      return absl::InvalidArgumentError(fmt::format(
          "cost is {}, above the capacity of limit \"{}\", so it could never pass; accepted: 0 "
          "to {}",
          request_.cost, limit->name, spec.capacity / limit->cost));
    }
  }
  if (blocked_ && !request_.details) DropCharges();
  return absl::OkStatus();
}

void Evaluation::AddCharge(const MatchedLimit& matched, std::uint64_t cost) {
  const auto& [limit, spec] = matched;
  const std::size_t key_begin = batch_.bucket_keys.size();
  AppendBucketKey(*limit, batch_.limits->hash_by(), request_, batch_.bucket_keys);
  batch_.sources.push_back(
      {.state = states_end_, .key_begin = key_begin, .key_end = batch_.bucket_keys.size()});
  batch_.states.push_back({.limit = limit, .spec = spec});
  ++states_end_;
  batch_.charges.push_back(
      {.limit = limit->name, .spec = spec, .cost = cost, .shadow = limit->shadow});
  ++charges_end_;
}

Transaction Evaluation::transaction(Action action) const {
  batch_.decisions.resize(batch_.charges.size());
  for (std::size_t i = charges_begin_; i < charges_end_; ++i) {
    const auto& [state, begin, end] = batch_.sources[i];
    batch_.charges[i].bucket_key = {batch_.bucket_keys.data() + begin, end - begin};
  }
  return {.charges = charges(),
          .action = action,
          .complete = request_.details,
          .decisions = {batch_.decisions.data() + charges_begin_, charges().size()}};
}

Action Evaluation::action() const {
  return request_.charges() && !blocked_ ? Action::kTake : Action::kPeek;
}

// The store cannot change the decision if another limit refuses anyway, or if it is asked about
// shadows only.
bool Evaluation::DecidedWithoutStore() const {
  return has_charges() && (blocked_ || std::ranges::all_of(charges(), &Charge::shadow));
}

std::optional<FailMode> Evaluation::StrictestMode(FailMode mode) const {
  if (!has_charges() || DecidedWithoutStore()) return std::nullopt;
  FailMode strictest = FailMode::kOpen;
  for (std::size_t i = charges_begin_; i < charges_end_; ++i) {
    const Limit& limit = *batch_.states[batch_.sources[i].state].limit;
    if (!limit.shadow) strictest = std::max(strictest, limit.fail_mode.value_or(mode));
  }
  return strictest;
}

void Evaluation::ScaleTo(Fraction fraction) {
  for (std::size_t i = charges_begin_; i < charges_end_; ++i) {
    LimitState& state = batch_.states[batch_.sources[i].state];
    Charge& charge = batch_.charges[i];
    state.spec = Scale(state.spec, fraction);
    charge.spec = state.spec;
    if (charge.cost <= state.spec.capacity) continue;
    charge.cost = 0;  // A peek at its state; Finish refuses it.
    blocked_ = blocked_ || !charge.shadow;
  }
}

Answer Evaluation::FinishWithoutStore(FailMode mode) const {
  return {.allowed = mode == FailMode::kOpen || request_.cost == 0,
          .limits = batch_.limits,
          .fail_mode = mode};
}

absl::StatusOr<Answer> Evaluation::Finish(const absl::Status& status) {
  if (!status.ok()) {
    if (!DecidedWithoutStore()) return status;
    DropCharges();
  }
  for (std::size_t i = charges_begin_; i < charges_end_; ++i) {
    LimitState& state = batch_.states[batch_.sources[i].state];
    state.decision = batch_.decisions[i];
    // The charge was a peek then.
    if (request_.cost * state.limit->cost > state.spec.capacity) state.decision.allowed = false;
  }
  absl::StatusOr<Answer> result(absl::in_place);
  Answer& answer = *result;
  for (const LimitState& state : states()) {
    if (state.decision.known) answer.states.push_back(state);
  }
  answer.limits = batch_.limits;
  answer.allowed = std::ranges::none_of(answer.states, Refuses);
  answer.deciding = answer.allowed ? Tightest(answer, request_.cost) : LongestWait(answer);
  return result;
}

// Keeps only the states that were decided without the store.
void Evaluation::DropCharges() {
  const auto refusing =
      std::remove_if(states().begin(), states().end(),
                     [](const LimitState& state) { return state.spec.capacity != 0; });
  states_end_ -= static_cast<std::size_t>(states().end() - refusing);
  charges_end_ = charges_begin_;
}

}  // namespace ratelimiter
