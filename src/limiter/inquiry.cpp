#include "inquiry.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

bool Refuses(const LimitState& state) { return !state.limit->shadow && !state.decision.allowed; }

// For one that refuses: whether waiting does not help.
bool IsForGood(const LimitState& state) {
  return state.decision.retry_after == std::chrono::microseconds(0);
}

// The place of the state that `precedes` the others; of equals the first.
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

Inquiry::Inquiry(std::shared_ptr<const LimitSet> limits, const Request& request)
    : request_(request), answer_{.limits = std::move(limits)} {}

absl::Status Inquiry::AskToAllow() {
  const MatchedLimits matched = answer_.limits->Match(request_);
  for (const MatchedLimit& match : matched) {
    const auto& [limit, quota] = match;
    const std::uint64_t cost = request_.cost * limit->cost;
    if (quota.capacity == 0) {
      answer_.states.push_back(
          {.limit = limit, .quota = quota, .decision = {.allowed = cost == 0}});
      blocked_ = blocked_ || Refuses(answer_.states.back());
    } else if (cost <= quota.capacity) {
      Ask(match, cost);
    } else if (limit->shadow) {
      Ask(match, 0);  // It shows how it stands; Conclude has it refuse.
    } else {
      charges_.clear();
      return absl::InvalidArgumentError(fmt::format(
          "cost is {}, above the capacity of limit \"{}\", so it could never pass; accepted: 0 "
          "to {}",
          request_.cost, limit->name, quota.capacity / limit->cost));
    }
  }
  if (blocked_ && !request_.details) AskNothing();
  return absl::OkStatus();
}

void Inquiry::Ask(const MatchedLimit& matched, std::uint64_t cost) {
  const auto& [limit, quota] = matched;
  states_.push_back(answer_.states.size());
  answer_.states.push_back({.limit = limit, .quota = quota});
  AppendSubject(*limit, answer_.limits->hash_by(), request_, subjects_);
  subject_ends_.push_back(subjects_.size());
  charges_.push_back({.limit = limit->name, .quota = quota, .cost = cost, .shadow = limit->shadow});
}

Transaction Inquiry::transaction(Action action) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < charges_.size(); ++i) {
    charges_[i].subject = {subjects_.data() + begin, subject_ends_[i] - begin};
    begin = subject_ends_[i];
  }
  decisions_.resize(charges_.size());
  return {.charges = charges_,
          .action = action,
          .complete = request_.details,
          .decisions = decisions_};
}

Action Inquiry::action() const {
  return request_.charges() && !blocked_ ? Action::kTake : Action::kLook;
}

absl::StatusOr<Answer> Inquiry::Conclude(const absl::Status& status) {
  if (!status.ok()) {
    // What the store says of shadows, or beside a limit that refuses anyway, does
    // not change the decision. (Of a call that is invalid nothing is asked.)
    const bool decided = blocked_ || std::ranges::all_of(charges_, &Charge::shadow);
    if (charges_.empty() || !decided) return status;
    AskNothing();
  }
  for (std::size_t i = 0; i < charges_.size(); ++i) {
    LimitState& state = answer_.states[states_[i]];
    state.decision = decisions_[i];
    // The charge was a look then.
    if (request_.cost * state.limit->cost > state.quota.capacity) state.decision.allowed = false;
  }
  const auto asked = std::remove_if(answer_.states.begin(), answer_.states.end(),
                                    [](const LimitState& state) { return !state.decision.known; });
  answer_.states.erase(asked, answer_.states.end());
  answer_.allowed = std::ranges::none_of(answer_.states, Refuses);
  answer_.deciding = answer_.allowed ? Tightest(answer_, request_.cost) : LongestWait(answer_);
  return std::move(answer_);
}

// Leaves what needs no store.
void Inquiry::AskNothing() {
  decltype(answer_.states) refusing;
  for (const LimitState& state : answer_.states) {
    if (state.quota.capacity == 0) refusing.push_back(state);
  }
  answer_.states = std::move(refusing);
  charges_.clear();
}

}  // namespace ratelimiter
