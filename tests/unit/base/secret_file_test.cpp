#include "ratelimiter/base/secret_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"

namespace ratelimiter::testing {
namespace {

using namespace std::string_literals;

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SecretFileTest : public ::testing::Test {
 protected:
  SecretFileTest() { std::filesystem::create_directory(directory_); }
  ~SecretFileTest() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<std::string> Read(const std::string& content) const {
    std::ofstream(path_) << content;
    return ReadSecretFile(path_);
  }

  auto FailsFor(const std::string& reason) const {
    return FailsWith(absl::StatusCode::kFailedPrecondition, "cannot read " + path_ + ": " + reason);
  }

  const std::string directory_ =
      ::testing::TempDir() + "secret_file_test." + std::to_string(getpid());
  const std::string path_ = directory_ + "/secret";
};

TEST_F(SecretFileTest, TheFirstLineIsTheSecret) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"hunter2", "hunter2"},
      {"hunter2\n", "hunter2"},
      {"hunter2\r\n", "hunter2"},
      {"hunter2\r\n\r\n", "hunter2"},
      {"hunter2\nsecond\n", "hunter2"},
      {" p@ss word \n", " p@ss word "},
      {"a\0\xFF\n"s, "a\0\xFF"s},
      {std::string(4096, 'x') + "\nmore", std::string(4096, 'x')}};
  for (const auto& [content, secret] : cases) EXPECT_EQ(*Read(content), secret);
}

TEST_F(SecretFileTest, IsReadAnewEachTime) {
  EXPECT_EQ(*Read("old\n"), "old");
  EXPECT_EQ(*Read("new\n"), "new");
}

TEST_F(SecretFileTest, AFileWithoutASecretIsToldWithItsPath) {
  for (const char* content : {"", "\n", "\r\n", "\nhunter2\n"}) {
    EXPECT_THAT(Read(content), FailsFor("its first line is empty"));
  }
}

// Redis would answer WRONGPASS, and an editor shows nothing.
TEST_F(SecretFileTest, AByteOrderMarkIsNamed) {
  EXPECT_THAT(Read("\xEF\xBB\xBFhunter2\n"), FailsFor("it begins with a byte order mark of UTF-8"));
  EXPECT_THAT(Read("\xFF\xFEh\0u\0"s), FailsFor("it begins with a byte order mark of UTF-16"));
}

TEST_F(SecretFileTest, NothingOfAFileIsTold) {
  EXPECT_THAT(Read(std::string(4097, 'x') + "hunter2"),
              FailsFor("its first line is longer than 4096 bytes"));
}

TEST_F(SecretFileTest, WhatIsNoFileIsToldWithItsPath) {
  EXPECT_THAT(ReadSecretFile(path_), FailsFor("No such file or directory"));
  std::filesystem::create_directory(path_);
  EXPECT_THAT(ReadSecretFile(path_), FailsFor("it is not a regular file"));
}

TEST_F(SecretFileTest, NeverWaitsForAWriter) {
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(ReadSecretFile(path_), FailsFor("it is not a regular file"));
}

TEST_F(SecretFileTest, APathCannotForgeALine) {
  EXPECT_THAT(ReadSecretFile("/no\nsuch"),
              FailsWith(absl::StatusCode::kFailedPrecondition,
                        AllOf(HasSubstr("/no\uFFFDsuch"), Not(HasSubstr("\n")))));
}

}  // namespace
}  // namespace ratelimiter::testing
