#include "server/call_metadata.h"

#include <string>
#include <string_view>

#include <grpcpp/server_context.h>
#include <grpcpp/test/server_context_test_spouse.h>
#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using grpc::testing::ServerContextTestSpouse;

constexpr std::string_view kSpan = "b7ad6b7169203331";
const std::string kIds = "-0af7651916cd43dd8448eb211c80319c-" + std::string(kSpan) + "-";

TEST(CallMetadataTest, AreThoseOfTheMetadata) {
  grpc::ServerContext context;
  EXPECT_FALSE(RequestIdOf(context).has_value());
  EXPECT_FALSE(TraceParentOf(context).has_value());
  ServerContextTestSpouse spouse(&context);
  spouse.AddClientMetadata("x-request-id", "abc");
  spouse.AddClientMetadata("traceparent", "00" + kIds + "00");
  EXPECT_EQ(RequestIdOf(context), "abc");
  EXPECT_EQ(TraceParentOf(context)->span_id, kSpan);
}

TEST(CallMetadataTest, AreNoneWhereThereAreTwo) {
  grpc::ServerContext context;
  ServerContextTestSpouse spouse(&context);
  for (const char* id : {"abc", "def"}) spouse.AddClientMetadata("x-request-id", id);
  for (const char* flags : {"00", "01"})
    spouse.AddClientMetadata("traceparent", "00" + kIds + flags);
  EXPECT_FALSE(RequestIdOf(context).has_value());
  EXPECT_FALSE(TraceParentOf(context).has_value());
}

}  // namespace
}  // namespace ratelimiter
