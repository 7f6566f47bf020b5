#include "admin/http_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string_view>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

class HttpConnectionTest : public ::testing::Test {
 protected:
  HttpConnectionTest() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_.data()), 0); }
  ~HttpConnectionTest() override { close(ends_[1]); }

  int server() const { return ends_[0]; }
  int client() const { return ends_[1]; }

 private:
  std::array<int, 2> ends_{-1, -1};
};

TEST_F(HttpConnectionTest, AnAnswerHasItsOwnTime) {
  HttpConnection connection(server(), nullptr, std::chrono::milliseconds(200));
  std::array<char, 8> bytes{};
  EXPECT_EQ(connection.read(bytes.data(), bytes.size()), -1);  // Until its time is over.
  ASSERT_FALSE(connection.is_readable());

  ASSERT_EQ(connection.write("late", 4), 4);
  EXPECT_EQ(recv(client(), bytes.data(), bytes.size(), 0), 4);
  EXPECT_EQ(std::string_view(bytes.data(), 4), "late");
}

TEST_F(HttpConnectionTest, WhoDoesNotReadTheAnswerIsLeft) {
  HttpConnection connection(server(), nullptr, std::chrono::milliseconds(1));
  std::array<char, 4096> much{};
  while (connection.write(much.data(), much.size()) > 0) {
  }
  EXPECT_FALSE(connection.is_writable());
}

}  // namespace
}  // namespace ratelimiter
