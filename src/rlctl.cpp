// rlctl: the daemon's command-line companion.

#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include "grpc/health/v1/health.grpc.pb.h"

namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// 0 if the daemon at `target` answers SERVING; 1 and a reason on stderr if not.
int CheckHealth(const std::string& target) {
  grpc::ChannelArguments arguments;
  // Whether the daemon answers is asked, not whether the environment's proxy does.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto stub = Health::NewStub(
      grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  HealthCheckRequest request;
  request.set_service("limiter.RateLimiter");
  HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, request, &response);
  if (!status.ok()) {
    std::cerr << "rlctl: " << target << " does not answer: " << status.error_message()
              << "; is ratelimiterd running there (--target, PORT)?\n";
    return 1;
  }
  if (response.status() != HealthCheckResponse::SERVING) {
    std::cerr << "rlctl: " << target << " is "
              << HealthCheckResponse::ServingStatus_Name(response.status())
              << "; its log says why\n";
    return 1;
  }
  std::cout << target << " is SERVING\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Talks to ratelimiterd.", "rlctl");
  app.set_version_flag("--version", "rlctl " RATELIMITER_VERSION);
  app.require_subcommand(1);

  std::uint16_t port = 50051;
  std::string target;
  CLI::App* healthcheck =
      app.add_subcommand("healthcheck", "Exit 0 if the daemon is ready for calls, 1 if not");
  healthcheck->add_option("--port", port, "The daemon's gRPC port on this machine")
      ->envname("PORT")
      ->capture_default_str();
  healthcheck->add_option("--target", target, "host:port, instead of this machine and PORT");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return CheckHealth(target.empty() ? "localhost:" + std::to_string(port) : target);
}
