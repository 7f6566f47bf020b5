#include "redis/error_policy.h"

#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace ratelimiter::testing {
namespace {

// The rows of the table below a heading of a page, without the header.
std::vector<std::string> Rows(const std::string& page, const std::string& heading) {
  std::ifstream file(page);
  std::vector<std::string> rows;
  bool below = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) below = line == "## " + heading;
    if (below && line.starts_with("| ")) rows.push_back(line);
  }
  if (!rows.empty()) rows.erase(rows.begin());
  return rows;
}

TEST(ErrorPolicyTest, ThePageHasTheSameTable) {
  std::vector<std::string> rows;
  for (const ErrorPolicy& policy : ErrorPolicies()) {
    rows.push_back(
        fmt::format("| {} | {} | {} | {} | {} | {} |",
                    policy.code.empty() ? "anything else" : fmt::format("`{}`", policy.code),
                    policy.of_the_command ? "request" : "server", policy.reconnect ? "yes" : "no",
                    policy.redirects ? "yes" : "no",
                    kRedisErrorNames[static_cast<std::size_t>(policy.counted_as)], policy.advice));
  }
  EXPECT_EQ(Rows(DOCS "/operate/failures.md", "Redis's own errors"), rows);
}

TEST(ErrorPolicyTest, ARowIsFoundByWholeWords) {
  EXPECT_EQ(ErrorPolicyFor("OOM command not allowed").code, "OOM");
  EXPECT_EQ(ErrorPolicyFor("OOM").code, "OOM");
  EXPECT_EQ(ErrorPolicyFor("OOMPH").code, "");
  EXPECT_EQ(ErrorPolicyFor("").code, "");
  EXPECT_EQ(ErrorPolicyFor("ERR unknown").code, "ERR");
  EXPECT_EQ(ErrorPolicyFor("ERR max number of clients reached").code,
            "ERR max number of clients reached");
}

TEST(ErrorPolicyTest, EachRowCanBeFound) {
  for (const ErrorPolicy& policy : ErrorPolicies()) {
    EXPECT_EQ(&ErrorPolicyFor(fmt::format("{} and more", policy.code)), &policy);
  }
}

}  // namespace
}  // namespace ratelimiter::testing
