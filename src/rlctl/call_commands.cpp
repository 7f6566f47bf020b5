#include "call_commands.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <absl/functional/function_ref.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <nlohmann/json.hpp>

#include "daemon.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "limiter/limiter.grpc.pb.h"
#include "output.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using limiter::RateLimiter;

struct CallArguments {
  DaemonArguments daemon;
  RequestArguments request;
  bool dry_run = false;
};

using Call =
    absl::FunctionRef<grpc::Status(const std::shared_ptr<grpc::Channel>&, grpc::ClientContext&)>;

// Makes the call. False: it failed, and why was told.
bool Make(Call call, const CallArguments& arguments) {
  const std::shared_ptr<grpc::Channel> channel = OpenChannel(arguments.daemon);
  if (channel == nullptr) return false;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + arguments.daemon.answer.timeout);
  const grpc::Status status = call(channel, context);
  if (status.ok()) return true;
  TellError(DescribeFailure(status, arguments.daemon, *channel));
  return false;
}

nlohmann::ordered_json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  // A message that was parsed can be printed: its strings are valid UTF-8.
  (void)google::protobuf::util::MessageToJsonString(message, &text, options);
  return nlohmann::ordered_json::parse(text);
}

std::string Describe(const google::protobuf::Duration& wait) {
  return DescribeWait(
      std::chrono::seconds(wait.seconds()) +
      std::chrono::ceil<std::chrono::microseconds>(std::chrono::nanoseconds(wait.nanos())));
}

void FillRequest(const RequestArguments& arguments, auto& message) {
  message.set_user_id(arguments.user);
  message.set_path(arguments.path);
  message.mutable_attributes()->insert(arguments.attributes.begin(), arguments.attributes.end());
}

void PrintDecisions(const limiter::AllowRequestResponse& response) {
  if (response.allowed()) {
    PrintLine(response.reason(), Style::kAllowed);
  } else {
    // A limit's reason does not say it; that of FAIL_MODE=closed does.
    PrintLine(fmt::format("{}{}{}", response.has_limit_name() ? "Request refused. " : "",
                          response.reason(),
                          response.has_retry_after()
                              ? fmt::format("; retry in {}", Describe(response.retry_after()))
                              : ""),
              Style::kRefused);
  }
  if (response.limits().empty()) {
    PrintLine(response.has_fail_mode() ? "How its limits stand is not known."
                                       : "No limit applies to it.");
    return;
  }
  PrintLine("");
  Table table({"LIMIT", "SAYS", "LEFT", "CAPACITY", "RETRY IN", "FULL IN"});
  for (const limiter::LimitState& state : response.limits()) {
    const std::string says = state.allowed() ? "allowed" : "refused";
    std::string retry;
    if (state.has_retry_after()) {
      retry = Describe(state.retry_after());
    } else if (!state.allowed()) {
      retry = "never";
    }
    const Style style = state.allowed() ? Style::kAllowed : Style::kRefused;
    table.Add({state.name(), state.shadow() ? says + " (shadow)" : says,
               std::to_string(state.remaining()), std::to_string(state.limit()), retry,
               Describe(state.reset_after())},
              state.shadow() ? Style::kShadow : style);
  }
  table.Print();
}

int Check(const CallArguments& arguments) {
  limiter::AllowRequestRequest request;
  FillRequest(arguments.request, request);
  if (arguments.request.cost.has_value()) request.set_cost(*arguments.request.cost);
  request.set_dry_run(arguments.dry_run);
  request.set_details(true);
  limiter::AllowRequestResponse response;
  const auto call = [&](const auto& channel, grpc::ClientContext& context) {
    return RateLimiter::NewStub(channel)->AllowRequest(&context, request, &response);
  };
  if (!Make(call, arguments)) return kExitRuntime;
  if (arguments.daemon.answer.json) {
    PrintJson(ToJson(response));
  } else {
    PrintDecisions(response);
  }
  return response.allowed() ? kExitOk : kExitRefused;
}

void PrintUsage(const limiter::GetUsageResponse& response) {
  if (response.has_limit_name()) {
    PrintLine(fmt::format("{} of {} tokens used of limit \"{}\"", response.requests_used(),
                          response.requests_allowed(), response.limit_name()));
  } else {
    PrintLine("No limit that refuses applies.");
  }
  if (response.limits().empty()) return;
  PrintLine("");
  Table table({"LIMIT", "USED", "LEFT", "CAPACITY", "FULL IN"});
  for (const limiter::LimitState& state : response.limits()) {
    table.Add({state.shadow() ? state.name() + " (shadow)" : state.name(),
               std::to_string(state.limit() - state.remaining()), std::to_string(state.remaining()),
               std::to_string(state.limit()), Describe(state.reset_after())},
              state.shadow() ? Style::kShadow : Style::kPlain);
  }
  table.Print();
}

int Usage(const CallArguments& arguments) {
  limiter::GetUsageRequest request;
  FillRequest(arguments.request, request);
  request.set_limit_name(arguments.request.limit);
  limiter::GetUsageResponse response;
  const auto call = [&](const auto& channel, grpc::ClientContext& context) {
    return RateLimiter::NewStub(channel)->GetUsage(&context, request, &response);
  };
  if (!Make(call, arguments)) return kExitRuntime;
  if (arguments.daemon.answer.json) {
    PrintJson(ToJson(response));
  } else {
    PrintUsage(response);
  }
  return kExitOk;
}

int CheckHealth(const CallArguments& arguments) {
  HealthCheckRequest request;
  request.set_service(RateLimiter::service_full_name());
  HealthCheckResponse response;
  const auto call = [&](const auto& channel, grpc::ClientContext& context) {
    return Health::NewStub(channel)->Check(&context, request, &response);
  };
  if (!Make(call, arguments)) return kExitRuntime;
  const std::string status = HealthCheckResponse::ServingStatus_Name(response.status());
  const bool serving = response.status() == HealthCheckResponse::SERVING;
  if (arguments.daemon.answer.json) PrintJson({{"status", status}});
  if (!serving) {
    TellError(fmt::format("rlctl: {} is {}; its log says why", arguments.daemon.address(), status));
  } else if (!arguments.daemon.answer.json) {
    PrintLine(fmt::format("{} is SERVING", arguments.daemon.address()));
  }
  return serving ? kExitOk : kExitRuntime;
}

CLI::App& AddCommand(CLI::App& app, const std::string& name, const std::string& meaning,
                     int (*command)(const CallArguments&),
                     const std::shared_ptr<CallArguments>& arguments, Run& run) {
  CLI::App& added = *app.add_subcommand(name, meaning);
  added.callback([=, &run] { run = [=] { return command(*arguments); }; });
  return added;
}

}  // namespace

void AddCallCommands(CLI::App& app, Run& run) {
  const auto arguments = std::make_shared<CallArguments>();

  CLI::App& check = AddCommand(app, "check",
                               "Ask whether a request is allowed, and take its cost if it is: "
                               "exit 0 if it is, 3 if it is refused",
                               Check, arguments, run);
  AddRequest(check, arguments->request);
  AddCost(check, arguments->request);
  check.add_flag("--dry-run", arguments->dry_run, "Decide, but take nothing");
  AddDaemon(check, arguments->daemon);

  CLI::App& usage = AddCommand(app, "usage", "Show how much of its limits a user has used", Usage,
                               arguments, run);
  AddRequest(usage, arguments->request);
  AddLimit(usage, arguments->request);
  AddDaemon(usage, arguments->daemon);

  CLI::App& healthcheck =
      AddCommand(app, "healthcheck", "Exit 0 if the daemon is ready for calls, 1 if not",
                 CheckHealth, arguments, run);
  AddDaemon(healthcheck, arguments->daemon);
}

}  // namespace ratelimiter
