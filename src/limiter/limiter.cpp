#include "ratelimiter/limiter/limiter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "evaluation.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

absl::Status Decide(Evaluation& evaluation, Action action, TokenBucketStore& store,
                    Deadline deadline) {
  if (!evaluation.has_charges()) return absl::OkStatus();
  Transaction transaction = evaluation.transaction(action);
  store.Decide({&transaction, 1}, deadline);
  return transaction.status;
}

absl::Status NotSubjectTo(std::string_view limit, const auto& states) {
  std::string names;
  for (const auto& state : states) {
    names.append(names.empty() ? "" : ", ").append(state.limit->name);
  }
  return absl::NotFoundError(
      fmt::format("no limit \"{}\" applies to this request; applicable limits: {}",
                  Printable(limit, kMaxShownBytes), names.empty() ? "none" : names));
}

std::string Quoted(std::string_view text) {
  return fmt::format("\"{}\"", Printable(text, kMaxShownBytes));
}

// The first condition that the request does not meet, or all conditions if it meets them.
std::string Why(const Limit& limit, const Request& request) {
  if (!limit.path.Matches(request.path)) {
    return fmt::format("path is {}; the limit applies to {}", Quoted(request.path),
                       Quoted(limit.path.text()));
  }
  for (const auto& [key, value] : limit.attributes) {
    const auto given = request.Attribute(key);
    if (given == value) continue;
    return fmt::format("attribute {} is {}; the limit applies where it is {}", key,
                       given.has_value() ? Quoted(*given) : "missing", Quoted(value));
  }
  for (const std::string& key : limit.by.attributes) {
    if (request.Attribute(key).has_value()) continue;
    return fmt::format("attribute {} is missing; the limit counts by it", key);
  }
  std::string why =
      limit.path.any() ? "any path" : fmt::format("path {}", Quoted(limit.path.text()));
  for (const auto& [key, value] : limit.attributes)
    why += fmt::format(", {} is {}", key, Quoted(value));
  return why;
}

std::string ReasonByLimits(const Request& request, const Answer& answer) {
  if (answer.allowed) return "Request allowed";
  const LimitState* const deciding = answer.deciding_state();
  if (deciding == nullptr) return "Request refused";
  const LimitState& state = *deciding;
  if (state.spec.capacity == 0) {
    return fmt::format("Limit \"{}\" always refuses: its capacity is 0", state.limit->name);
  }
  return fmt::format("Limit \"{}\" exceeded: cost {}, {} of {} tokens left", state.limit->name,
                     request.cost * state.limit->cost, state.decision.remaining,
                     state.spec.capacity);
}

}  // namespace

std::string ReasonOf(const Request& request, const Answer& answer) {
  std::string reason = ReasonByLimits(request, answer);
  if (answer.fail_mode.has_value()) {
    fmt::format_to(std::back_inserter(reason), ": the store is not available (FAIL_MODE={})",
                   NameOf(*answer.fail_mode));
  }
  return reason;
}

Limiter::Limiter(const std::shared_ptr<const LimitSet>& limits, TokenBucketStore& store,
                 Fallback* fallback)
    : limits_(limits), store_(store), fallback_(fallback) {}

absl::StatusOr<Answer> Limiter::Allow(const Request& request, Deadline deadline) {
  EvaluationBatch batch{.limits = limits()};
  Evaluation evaluation(batch, request);
  if (absl::Status valid = evaluation.PlanAllow(); !valid.ok()) return valid;
  return Finish(evaluation, Decide(evaluation, evaluation.action(), store_, deadline));
}

void Limiter::AllowAll(std::span<const Request> requests, Deadline deadline,
                       absl::FunctionRef<void(std::size_t, const absl::StatusOr<Answer>&)> tell) {
  EvaluationBatch batch{.limits = limits()};
  std::vector<Evaluation> evaluations;
  std::vector<absl::Status> statuses;
  evaluations.reserve(requests.size());
  statuses.reserve(requests.size());
  for (const Request& request : requests) {
    statuses.push_back(evaluations.emplace_back(batch, request).PlanAllow());
  }
  std::vector<Transaction> transactions;
  std::vector<std::size_t> evaluation_of;  // By transaction.
  transactions.reserve(requests.size());
  evaluation_of.reserve(requests.size());
  for (std::size_t i = 0; i < evaluations.size(); ++i) {
    if (!statuses[i].ok() || !evaluations[i].has_charges()) continue;
    evaluation_of.push_back(i);
    transactions.push_back(evaluations[i].transaction(evaluations[i].action()));
  }
  store_.Decide(transactions, deadline);
  for (std::size_t i = 0; i < transactions.size(); ++i) {
    statuses[evaluation_of[i]] = std::move(transactions[i].status);
  }
  for (std::size_t i = 0; i < evaluations.size(); ++i) tell(i, Finish(evaluations[i], statuses[i]));
}

absl::StatusOr<Answer> Limiter::Finish(Evaluation& evaluation, const absl::Status& status) {
  if (fallback_ == nullptr || !evaluation.has_charges()) return evaluation.Finish(status);
  return fallback_->Finish(evaluation, status);
}

absl::StatusOr<Answer> Limiter::GetUsage(const Request& request, std::string_view limit,
                                         Deadline deadline) {
  Request peek = request;
  peek.cost = 1;
  peek.dry_run = true;
  peek.details = true;
  EvaluationBatch batch{.limits = limits()};
  Evaluation evaluation(batch, peek);
  if (absl::Status valid = evaluation.PlanAllow(); !valid.ok()) return valid;
  if (absl::Status asked = Decide(evaluation, Action::kPeek, store_, deadline); !asked.ok()) {
    return asked;
  }
  absl::StatusOr<Answer> answer = evaluation.Finish(absl::OkStatus());
  answer->deciding = Tightest(*answer, peek.cost);
  if (limit.empty()) return answer;

  const auto& states = answer->states;
  std::size_t named = 0;
  while (named < states.size() && states[named].limit->name != limit) ++named;
  if (named == states.size()) return NotSubjectTo(limit, states);
  answer->deciding = named;
  return answer;
}

absl::StatusOr<Answer> Limiter::Refund(const Request& request, std::string_view limit,
                                       Deadline deadline) {
  return ReturnTokens(request, limit, deadline, [&](const MatchedLimit& match) {
    return std::min(request.cost * match.limit->cost, match.spec.capacity);
  });
}

absl::StatusOr<Answer> Limiter::Reset(const Request& request, std::string_view limit,
                                      Deadline deadline) {
  return ReturnTokens(request, limit, deadline, [&](const MatchedLimit& match) {
    return match.limit->by.user || !limit.empty() ? match.spec.capacity : 0;
  });
}

absl::StatusOr<Answer> Limiter::ReturnTokens(
    const Request& request, std::string_view limit, Deadline deadline,
    absl::FunctionRef<std::uint64_t(const MatchedLimit&)> tokens) {
  EvaluationBatch batch{.limits = limits()};
  Evaluation evaluation(batch, request);
  const MatchedLimits matched = batch.limits->Match(request);
  bool found = limit.empty();
  for (const MatchedLimit& match : matched) {
    if (!limit.empty() && match.limit->name != limit) continue;
    found = true;
    if (const std::uint64_t given = tokens(match); given > 0) evaluation.AddCharge(match, given);
  }
  if (!found) return NotSubjectTo(limit, matched);
  if (absl::Status given = Decide(evaluation, Action::kRefund, store_, deadline); !given.ok()) {
    return given;
  }
  return evaluation.Finish(absl::OkStatus());
}

std::vector<Explanation> Limiter::Explain(const LimitSet& limits, const Request& request) {
  std::vector<Explanation> explanations;
  explanations.reserve(limits.limits().size());
  for (const Limit& limit : limits.limits()) {
    Explanation& explanation = explanations.emplace_back();
    explanation.limit = &limit;
    explanation.applies = limit.AppliesTo(request);
    explanation.why = Why(limit, request);
    if (!explanation.applies) continue;
    explanation.bucket_key = BucketKeyOf(limit, limits.hash_by(), request);
    const auto override = std::ranges::find_if(
        limit.overrides, [&](const Override& candidate) { return candidate.Matches(request); });
    if (override == limit.overrides.end()) {
      explanation.spec = limit.spec;
    } else {
      explanation.spec = override->spec;
      explanation.why +=
          fmt::format("; override {} applies", override - limit.overrides.begin() + 1);
    }
  }
  return explanations;
}

}  // namespace ratelimiter
