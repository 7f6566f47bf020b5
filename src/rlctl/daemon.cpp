#include "daemon.h"

#include <absl/status/status.h>
#include <fmt/format.h>
#include <grpcpp/create_channel.h>

#include "ratelimiter/base/duration.h"

namespace ratelimiter {

std::string DaemonArguments::address() const {
  return target.empty() ? fmt::format("localhost:{}", port) : target;
}

void AddDaemon(CLI::App& command, DaemonArguments& arguments) {
  command
      .add_option_function<std::string>(
          "--port",
          [&arguments](const std::string& text) {
            constexpr std::uint32_t kMaxPort = 65535;
            arguments.port = ReadNumber("--port, PORT", text, 0, kMaxPort);
          },
          "The daemon's gRPC port on this machine")
      ->envname("PORT")
      ->type_name("N")
      ->default_str(std::to_string(arguments.port));
  command.add_option("--target", arguments.target, "Instead of this machine and PORT")
      ->type_name("HOST:PORT");
  AddAnswer(command, arguments.answer);
}

std::shared_ptr<grpc::Channel> OpenChannel(const DaemonArguments& arguments,
                                           grpc::ChannelArguments channel_arguments) {
  // A proxy is the way to the world, not to the daemon.
  channel_arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Else channels to one address share a connection.
  channel_arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(arguments.address(), grpc::InsecureChannelCredentials(),
                                   channel_arguments);
}

std::string NameOf(grpc::StatusCode code) {
  // absl's codes are gRPC's.
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

std::string DescribeFailure(const grpc::Status& status, const DaemonArguments& arguments,
                            grpc::Channel& channel) {
  const std::string address = arguments.address();
  if (channel.GetState(false) != GRPC_CHANNEL_READY) {
    return fmt::format(
        "rlctl: {} does not answer: {}; is ratelimiterd running there (--target, PORT)?", address,
        status.error_message());
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return fmt::format("rlctl: {} does not answer within {} (--timeout)", address,
                       FormatDuration(arguments.answer.timeout));
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return fmt::format("rlctl: {} does not know this call; is it ratelimiterd (--target, PORT)?",
                       address);
  }
  return fmt::format("rlctl: {} answers {}: {}", address, NameOf(status.error_code()),
                     status.error_message());
}

}  // namespace ratelimiter
