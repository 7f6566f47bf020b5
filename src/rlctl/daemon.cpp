#include "daemon.h"

#include <string_view>

#include <absl/status/status.h>
#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "output.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/regular_file.h"

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
  AddTls(command, arguments.tls, "RLCTL_TLS", "RLCTL_TLS");
  AddPath(command, "--tls-cert", "RLCTL_TLS_CERT",
          "rlctl's own certificate, in PEM, where the daemon asks for one; asks for TLS",
          arguments.certificate_file);
  AddPath(command, "--tls-key", "RLCTL_TLS_KEY", "Its key, in PEM", arguments.key_file);
  AddAnswer(command, arguments.answer);
}

namespace {

// nullptr: a file cannot be used, and that was told.
std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const DaemonArguments& arguments) {
  if (!arguments.tls.on() && arguments.certificate_file.empty() && arguments.key_file.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  if (arguments.certificate_file.empty() != arguments.key_file.empty()) {
    TellError(
        "rlctl: --tls-cert, --tls-key: one is given without the other; accepted: both, or none");
    return nullptr;
  }
  bool read = true;
  const auto read_file = [&](const char* option, const std::string& path) -> std::string {
    constexpr std::size_t kMaxBytes = std::size_t{1024} * 1024;
    if (path.empty()) return {};
    absl::StatusOr<std::string> text = ReadRegularFile(path, kMaxBytes);
    if (text.ok()) return *std::move(text);
    TellError(fmt::format("rlctl: {}: {}; accepted: a file in PEM", option,
                          std::string(text.status().message())));
    read = false;
    return {};
  };
  const grpc::SslCredentialsOptions options = {
      .pem_root_certs = read_file("--tls-ca", arguments.tls.ca_file),
      .pem_private_key = read_file("--tls-key", arguments.key_file),
      .pem_cert_chain = read_file("--tls-cert", arguments.certificate_file)};
  return read ? grpc::SslCredentials(options) : nullptr;
}

// What is taken for granted of a daemon, and may be why it does not answer.
std::string_view TakenForGranted(const DaemonArguments& arguments) {
  if (!arguments.tls.on()) return "without TLS (--tls)";
  return arguments.certificate_file.empty()
             ? "over TLS (--tls), and without asking for a certificate (--tls-cert)"
             : "over TLS (--tls)";
}

}  // namespace

std::shared_ptr<grpc::Channel> OpenChannel(const DaemonArguments& arguments,
                                           grpc::ChannelArguments channel_arguments) {
  // A proxy is the way to the world, not to the daemon.
  channel_arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Else channels to one address share a connection.
  channel_arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (!arguments.tls.server_name.empty()) {
    channel_arguments.SetSslTargetNameOverride(arguments.tls.server_name);
  }
  const std::shared_ptr<grpc::ChannelCredentials> credentials = CredentialsOf(arguments);
  if (credentials == nullptr) return nullptr;
  return grpc::CreateCustomChannel(arguments.address(), credentials, channel_arguments);
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
        "rlctl: {} does not answer: {}; is ratelimiterd running there (--target, PORT), and is it "
        "{}?",
        address, status.error_message(), TakenForGranted(arguments));
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
