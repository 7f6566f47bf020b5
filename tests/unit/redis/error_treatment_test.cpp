#include "redis/error_treatment.h"

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

TEST(ErrorTreatmentTest, ThePageHasTheSameTable) {
  std::vector<std::string> rows;
  for (const ErrorTreatment& treatment : ErrorTreatments()) {
    rows.push_back(fmt::format(
        "| {} | {} | {} | {} | {} | {} |",
        treatment.code.empty() ? "anything else" : fmt::format("`{}`", treatment.code),
        treatment.of_the_command ? "the call's" : "the store's", treatment.reconnect ? "yes" : "no",
        treatment.redirects ? "yes" : "no",
        kRedisErrorNames[static_cast<std::size_t>(treatment.counted_as)], treatment.advice));
  }
  EXPECT_EQ(Rows(DOCS "/failures.md", "Redis's own errors"), rows);
}

TEST(ErrorTreatmentTest, ARowIsFoundByWholeWords) {
  EXPECT_EQ(TreatmentOf("OOM command not allowed").code, "OOM");
  EXPECT_EQ(TreatmentOf("OOM").code, "OOM");
  EXPECT_EQ(TreatmentOf("OOMPH").code, "");
  EXPECT_EQ(TreatmentOf("").code, "");
  EXPECT_EQ(TreatmentOf("ERR unknown").code, "ERR");
  EXPECT_EQ(TreatmentOf("ERR max number of clients reached").code,
            "ERR max number of clients reached");
}

TEST(ErrorTreatmentTest, EachRowCanBeFound) {
  for (const ErrorTreatment& treatment : ErrorTreatments()) {
    EXPECT_EQ(&TreatmentOf(fmt::format("{} and more", treatment.code)), &treatment);
  }
}

}  // namespace
}  // namespace ratelimiter::testing
