#include "ratelimiter/config/limits_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "support/any_limits.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr std::string_view kName = "limits.yaml";

std::shared_ptr<const LimitSet> Accepted(const std::string& yaml) {
  const LimitsFile file = ParseLimits(yaml, kName);
  EXPECT_THAT(file.errors, IsEmpty());
  EXPECT_THAT(file.warnings, IsEmpty());
  if (file.limits == nullptr) throw std::runtime_error("not accepted");
  return file.limits;
}

std::vector<std::string> ErrorsOf(const std::string& yaml) {
  const LimitsFile file = ParseLimits(yaml, kName);
  EXPECT_EQ(file.limits == nullptr, !file.errors.empty());
  return file.errors;
}

TEST(LimitsFileTest, ALimitNeedsNoMoreThanItsNumbers) {
  const auto set = Accepted(R"(
limits:
  - name: default
    capacity: 5
    refill: 1 per 2s
)");
  EXPECT_EQ(set->hash_by(), HashBy::kUser);
  ASSERT_THAT(set->limits(), SizeIs(1));
  const Limit& limit = set->limits()[0];
  EXPECT_EQ(limit.name, "default");
  EXPECT_TRUE(limit.path.any());
  EXPECT_THAT(limit.attributes, IsEmpty());
  EXPECT_TRUE(limit.by.user);
  EXPECT_FALSE(limit.by.path);
  EXPECT_THAT(limit.by.attributes, IsEmpty());
  EXPECT_EQ(limit.spec, (BucketSpec{5, 1, 2s}));
  EXPECT_EQ(limit.cost, 1U);
  EXPECT_FALSE(limit.shadow);
  EXPECT_EQ(limit.fail_mode, std::nullopt);
  EXPECT_THAT(limit.overrides, IsEmpty());
}

TEST(LimitsFileTest, ReadsAllThatALimitCanHave) {
  const auto set = Accepted(R"(# Comments are allowed.
hash_by: user
limits:
  - name: Login_2-a.b
    path: /login/*
    attributes: {plan: free, "zone": 1}
    by: [path, attributes.tenant, user, attributes.app]
    capacity: 100
    refill: 10 per 250ms
    cost: 3
    shadow: true
    fail_mode: local
    overrides: []
  - name: closed
    path: "/closed"
    shadow: false
    capacity: 0
)");
  ASSERT_THAT(set->limits(), SizeIs(2));
  const Limit& limit = set->limits()[0];
  EXPECT_EQ(limit.name, "Login_2-a.b");
  EXPECT_EQ(limit.path.text(), "/login/*");
  EXPECT_THAT(limit.attributes, ElementsAre(Pair("plan", "free"), Pair("zone", "1")));
  EXPECT_TRUE(limit.by.user);
  EXPECT_TRUE(limit.by.path);
  EXPECT_THAT(limit.by.attributes, ElementsAre("app", "tenant"));
  EXPECT_EQ(limit.spec, (BucketSpec{100, 10, 250ms}));
  EXPECT_EQ(limit.cost, 3U);
  EXPECT_TRUE(limit.shadow);
  EXPECT_EQ(limit.fail_mode, FailMode::kLocal);
  EXPECT_EQ(set->limits()[1].spec, BucketSpec{});
  EXPECT_FALSE(set->limits()[1].shadow);
}

TEST(LimitsFileTest, MergeKeysAddTheEntriesOfOtherMaps) {
  const auto set = Accepted(R"(
limits:
  - &base {name: base, capacity: 5, refill: 1 per 1s, attributes: &free {plan: free}, cost: 2}
  - &slow
    <<: *base
    name: slow
    refill: 1 per 1m
  - <<: [*slow, *base]  # The first one has the refill, and merges the rest.
    name: both
    attributes: {<<: *free, zone: eu}
    overrides: [{<<: {capacity: 9}, user: u}]
)");
  ASSERT_THAT(set->limits(), SizeIs(3));
  EXPECT_EQ(set->limits()[1].name, "slow");
  EXPECT_EQ(set->limits()[1].spec, (BucketSpec{5, 1, 1min}));
  EXPECT_EQ(set->limits()[1].cost, 2U);
  EXPECT_EQ(set->limits()[2].spec, (BucketSpec{5, 1, 1min}));
  EXPECT_THAT(set->limits()[2].attributes, ElementsAre(Pair("plan", "free"), Pair("zone", "eu")));
  EXPECT_EQ(set->limits()[2].overrides[0].spec, (BucketSpec{9, 1, 1min}));
}

TEST(LimitsFileTest, AByteOrderMarkOfUtf8IsSkipped) {
  EXPECT_THAT(Accepted("\uFEFFlimits: [{name: a, capacity: 1, refill: 1 per 366d}]")->limits(),
              SizeIs(1));
}

TEST(LimitsFileTest, ByMayBeNothing) {
  const auto set = Accepted("limits: [{name: all, by: [], capacity: 1, refill: 1 per 1s}]");
  EXPECT_FALSE(set->limits()[0].by.user);
  EXPECT_FALSE(set->limits()[0].by.path);
  EXPECT_THAT(set->limits()[0].by.attributes, IsEmpty());
}

TEST(LimitsFileTest, AnOverrideLeavesToItsLimitWhatItDoesNotGive) {
  const auto set = Accepted(R"(
limits:
  - name: l
    path: /api/*
    by: [user, path, attributes.tenant]
    capacity: 5
    refill: 1 per 2s
    cost: 2
    overrides:
      - {user: a, path: /api/x, attributes: {tenant: acme}, capacity: 50}
      - {user: b, refill: 7 per 1d}
      - {user: c, capacity: 8, refill: 9 per 1h, unlimited: false}
      - {user: d, capacity: 0}
      - {path: /api/, unlimited: true}
  - name: closed
    path: /closed
    capacity: 0
    overrides:
      - {user: e, capacity: 5, refill: 1 per 1m}
)");
  const std::vector<Override>& overrides = set->limits()[0].overrides;
  ASSERT_THAT(overrides, SizeIs(5));
  EXPECT_EQ(overrides[0].user, "a");
  EXPECT_EQ(overrides[0].path, "/api/x");
  EXPECT_THAT(overrides[0].attributes, ElementsAre(Pair("tenant", "acme")));
  EXPECT_EQ(overrides[0].spec, (BucketSpec{50, 1, 2s}));
  EXPECT_EQ(overrides[1].path, std::nullopt);
  EXPECT_EQ(overrides[1].spec, (BucketSpec{5, 7, 24h}));
  EXPECT_EQ(overrides[2].spec, (BucketSpec{8, 9, 1h}));
  EXPECT_EQ(overrides[3].spec, BucketSpec{});
  EXPECT_EQ(overrides[4].user, std::nullopt);
  EXPECT_EQ(overrides[4].spec, std::nullopt);
  EXPECT_EQ(set->limits()[1].overrides[0].spec, (BucketSpec{5, 1, 1min}));
}

TEST(LimitsFileTest, NarrowerOverridesMayStandBeforeWiderOnes) {
  Accepted(R"(
limits:
  - name: l
    by: [user, path]
    capacity: 5
    refill: 1 per 2s
    overrides:
      - {user: a, path: /x, capacity: 1}
      - {user: a, path: /y, capacity: 2}
      - {user: a, capacity: 3}
      - {path: /x, capacity: 4}
      - {user: b, capacity: 5}
)");
}

TEST(LimitsFileTest, AShadowMayCostMoreThanItsCapacity) {
  Accepted("limits: [{name: l, shadow: true, cost: 9, capacity: 5, refill: 1 per 1s}]");
  Accepted("limits: [{name: l, cost: 9, capacity: 0}]");
}

TEST(LimitsFileTest, WhatIsUsualInYamlIsRead) {
  const auto set = Accepted(
      "\xEF\xBB\xBF---\r\nlimits:\r\n- name: 'l'\r\n  capacity: &five 5\r\n  refill: 1 per 1s\r\n"
      "- {name: m, capacity: *five, refill: \"1 per 1s\"}\r\n...\r\n");
  ASSERT_THAT(set->limits(), SizeIs(2));
  EXPECT_EQ(set->limits()[0].name, "l");
  EXPECT_EQ(set->limits()[1].spec, (BucketSpec{5, 1, 1s}));
}

TEST(LimitsFileTest, HashByGlobalIsAcceptedWithAWarning) {
  const LimitsFile file = ParseLimits(R"(hash_by: global
limits:
  - {name: a, capacity: 1, refill: 1 per 1s}
  - {name: b, by: [], capacity: 1, refill: 1 per 1s}
)",
                                      kName);
  EXPECT_THAT(file.errors, IsEmpty());
  EXPECT_THAT(
      file.warnings,
      ElementsAre(
          "limits.yaml:1:10: hash_by is global, so that one node of a Redis Cluster holds "
          "all buckets and decides all calls, about 100,000 a second at the most "
          "(docs/use/limits.md); accepted: this, or hash_by user, which spreads users over all "
          "nodes"));
  ASSERT_NE(file.limits, nullptr);
  EXPECT_EQ(file.limits->hash_by(), HashBy::kGlobal);
}

TEST(LimitsFileTest, LimitsThatCannotMeetMayCountByTheUserOrNot) {
  Accepted(R"(
limits:
  - {name: a, path: /a/*, capacity: 1, refill: 1 per 1s}
  - {name: b, path: /b, by: [], capacity: 1, refill: 1 per 1s}
  - {name: c, path: /a, by: [path], capacity: 1, refill: 1 per 1s}
  - {name: d, path: /d, attributes: {plan: free}, capacity: 1, refill: 1 per 1s}
  - {name: e, path: /d, attributes: {plan: paid}, by: [], capacity: 1, refill: 1 per 1s}
)");
}

std::string Written(const Limit& limit) {
  std::string by;
  if (limit.by.user) by += "user, ";
  if (limit.by.path) by += "path, ";
  for (const std::string& key : limit.by.attributes) by += "attributes." + key + ", ";
  std::string attributes;
  for (const auto& [key, value] : limit.attributes) {
    attributes += fmt::format("{}: \"{}\", ", key, value);
  }
  return fmt::format(
      "  - {{name: {}, path: \"{}\", attributes: {{{}}}, by: [{}], capacity: 1, refill: 1 per "
      "1s}}\n",
      limit.name, limit.path.text(), attributes, by);
}

TEST(LimitsFileTest, TellsOfEachLimitThatCanMeetOneBeforeItOfTheOtherKind) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<Limit> limits =
        testing::AnyLimits([](std::size_t n) { return *rc::gen::inRange<std::size_t>(0, n); });
    RC_PRE(!limits.empty());
    std::string yaml = "limits:\n";
    std::vector<std::string> expected;
    for (std::size_t i = 0; i < limits.size(); ++i) {
      yaml += Written(limits[i]);
      for (std::size_t j = 0; j < i; ++j) {
        if (limits[i].by.user == limits[j].by.user || !CanBothApply(limits[i], limits[j])) continue;
        expected.push_back(fmt::format(
            "limits.yaml:{}:5: limit \"{}\" {} by user, limit \"{}\"", i + 2, limits[i].name,
            limits[i].by.user ? "counts" : "does not count", limits[j].name));
        break;
      }
    }
    std::vector<std::string> told = ErrorsOf(yaml);
    for (std::string& line : told) line.resize(line.find(" at line "));
    RC_ASSERT(told == expected);
  }));
}

std::string ManyLimits(int count) {
  std::string yaml = "limits:\n";
  for (int i = 0; i < count; ++i) {
    yaml += fmt::format(
        "  - name: limit-{0}\n    path: /service-{1}/*\n    attributes: {{tenant: t{0}}}\n"
        "    by: [{2}]\n    capacity: 5\n    refill: 1 per 1s\n",
        i, i % 10, i % 2 == 0 ? "user" : "");
  }
  return yaml;
}

TEST(LimitsFileTest, HoldsThousandsOfLimits) {
  const auto set = Accepted(ManyLimits(10'000));
  EXPECT_THAT(set->limits(), SizeIs(10'000));
  EXPECT_EQ(set->most_per_call(), 1U);
}

TEST(LimitsFileTest, NoMoreLimitsThanACallCanHave) {
  std::string yaml = "limits:\n";
  for (int i = 0; i < 64; ++i) {
    yaml += fmt::format("  - {{name: l{}, capacity: 5, refill: 1 per 1s}}\n", i);
  }
  Accepted(yaml);
  yaml += "  - {name: l, path: /x, capacity: 5, refill: 1 per 1s}\n";
  EXPECT_THAT(ErrorsOf(yaml),
              ElementsAre("limits.yaml:2:3: a request may be subject to 65 limits; accepted: at "
                          "most 64"));
}

TEST(LimitsFileTest, NoMoreLimitsThanASetCanHold) {
  std::string yaml = "limits:\n";
  for (std::size_t i = 0; i <= kMaxLimits; ++i) yaml += "- a\n";
  EXPECT_THAT(ErrorsOf(yaml), ElementsAre("limits.yaml:2:1: limits is a list of 100001; accepted: "
                                          "at most 100000"));
}

TEST(LimitsFileTest, AliasesDoNotMultiplyWhatMustBeRead) {
  std::string yaml = "limits:\n- name: l\n  overrides: &overrides\n";
  for (int i = 0; i < 1'000; ++i) yaml += fmt::format("  - {{user: u{}, unlimited: true}}\n", i);
  yaml += "  capacity: 5\n  refill: 1 per 1s\n";
  for (int i = 0; i < 1'000; ++i) {
    yaml += fmt::format(
        "- {{name: l{0}, path: /{0}, capacity: 5, refill: 1 per 1s, "
        "overrides: *overrides}}\n",
        i);
  }
  EXPECT_THAT(ErrorsOf(yaml),
              ElementsAre("limits.yaml:3:14: overrides is a list of 1000; accepted: "
                          "at most 0"));
}

TEST(LimitsFileTest, AFileOfErrorsIsNotToldWhole) {
  std::string yaml = "limits:\n";
  for (int i = 0; i < 10'000; ++i) yaml += "- a\n";
  const std::vector<std::string> errors = ErrorsOf(yaml);
  ASSERT_THAT(errors, SizeIs(1'001));
  EXPECT_EQ(errors.back(),
            "limits.yaml: more than this is not told; accepted: a file without errors");
}

TEST(LimitsFileTest, AnythingButTextIsTold) {
  const std::string text = "limits:\n  - name: ";
  const auto told = [](std::string_view byte) {
    return ElementsAre(fmt::format(
        "limits.yaml:2:11: unexpected byte 0x{}; accepted: UTF-8 without control characters",
        byte));
  };
  EXPECT_THAT(ErrorsOf(text + std::string(1, '\0') + "a"), told("00"));
  EXPECT_THAT(ErrorsOf(text + "\x04 a"), told("04"));
  EXPECT_THAT(ErrorsOf(text + "\x1B[2J"), told("1B"));
  EXPECT_THAT(ErrorsOf(text + "\x7F"), told("7F"));
  EXPECT_THAT(ErrorsOf(text + "\xFF"), told("FF"));
  EXPECT_THAT(ErrorsOf(text + "\xC3"), told("C3"));
  EXPECT_THAT(ErrorsOf(text + "\xED\xA0\x80"), told("ED"));
  EXPECT_THAT(ErrorsOf("\xFF\xFEl"),
              ElementsAre("limits.yaml:1:1: the file begins with a byte order "
                          "mark of UTF-16; accepted: UTF-8"));
}

TEST(LimitsFileTest, NestingIsBounded) {
  for (const std::string_view part : {"[", "{a: ", "- ", "? "}) {
    std::string yaml;
    for (int i = 0; i < 100'000; ++i) yaml += part;
    const std::vector<std::string> errors = ErrorsOf(yaml);
    ASSERT_THAT(errors, SizeIs(1)) << part;
    EXPECT_THAT(errors[0], ::testing::EndsWith(": lists or maps are nested too deep; accepted: as "
                                               "documented"))
        << part;
  }
}

TEST(LimitsFileTest, NoNameOfAFileForgesALine) {
  EXPECT_THAT(ParseLimits("", "a\nb\x1B.yaml").errors,
              ElementsAre("a�b�.yaml:1:1: the file is empty; accepted: a map with limits"));
}

// Of a file that is this process's alone.
std::string PathFor(const std::string& name) {
  return fmt::format("{}{}.{}", ::testing::TempDir(), getpid(), name);
}

TEST(ReadLimitsFileTest, ReadsAFile) {
  const std::string path = PathFor("limits_file_test.yaml");
  std::ofstream(path) << "limits:\n  - {name: a, capacity: 1, refill: 1 per 1s}\n";
  const LimitsFile file = ReadLimitsFile(path);
  EXPECT_THAT(file.errors, IsEmpty());
  ASSERT_NE(file.limits, nullptr);
  EXPECT_EQ(file.limits->limits()[0].name, "a");

  std::ofstream(path) << "limits:\n";
  EXPECT_THAT(ReadLimitsFile(path).errors,
              ElementsAre(path + ":1:1: limits has no value; accepted: a list of limits"));
  ASSERT_EQ(std::remove(path.c_str()), 0);
}

TEST(ReadLimitsFileTest, TellsWhyAFileCannotBeRead) {
  EXPECT_THAT(ReadLimitsFile("/no/such\nfile").errors,
              ElementsAre("cannot read /no/such�file: No such file or directory; the path contains "
                          "a line break at character 9; accepted: a regular file of up to 16 MiB"));
  EXPECT_THAT(ReadLimitsFile("/").errors,
              ElementsAre("cannot read /: it is not a regular file; accepted: a regular file of up "
                          "to 16 MiB"));
  EXPECT_THAT(ReadLimitsFile("").errors,
              ElementsAre("cannot read : No such file or directory; accepted: a regular file of up "
                          "to 16 MiB"));
}

TEST(ReadLimitsFileTest, ReadsNoMoreThanItAccepts) {
  const std::string path = PathFor("large.yaml");
  std::ofstream(path).close();
  std::filesystem::resize_file(path, std::uintmax_t{1} << 30U);
  EXPECT_THAT(ReadLimitsFile(path).errors,
              ElementsAre("cannot read " + path +
                          ": it is longer than 16777216 bytes; accepted: a "
                          "regular file of up to 16 MiB"));
  std::filesystem::remove(path);
}

// One that nobody writes into would hold up whoever opens it.
TEST(ReadLimitsFileTest, ReadsNoPipeAndNoDevice) {
  const std::string path = PathFor("pipe.yaml");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ReadLimitsFile(path).errors,
              ElementsAre("cannot read " + path +
                          ": it is not a regular file; accepted: a regular "
                          "file of up to 16 MiB"));
  std::filesystem::remove(path);
  EXPECT_THAT(
      ReadLimitsFile("/dev/zero").errors,
      ElementsAre("cannot read /dev/zero: it is not a regular file; accepted: a regular file "
                  "of up to 16 MiB"));
}

// A file that is not accepted, and each line that is told of it.
struct BadFile {
  std::string title;
  std::string yaml;
  std::string errors;
};

// "## title", the file, and "=> " before each error.
std::vector<BadFile> ReadBadFiles() {
  std::vector<BadFile> files;
  std::ifstream table(TEST_DATA "/bad_limits.txt");
  for (std::string line; std::getline(table, line);) {
    if (line.starts_with("## ")) {
      files.push_back({.title = line.substr(3), .yaml = {}, .errors = {}});
    } else if (line.starts_with("=> ")) {
      files.back().errors += line.substr(3) + "\n";
    } else {
      files.back().yaml += line + "\n";
    }
  }
  return files;
}

TEST(BadLimitsFileTest, TellsEveryErrorWithItsPlace) {
  const std::vector<BadFile> files = ReadBadFiles();
  EXPECT_GE(files.size(), 60U);
  for (const BadFile& file : files) {
    std::string told;
    for (const std::string& error : ErrorsOf(file.yaml)) told += error + "\n";
    EXPECT_EQ(told, file.errors) << file.title;
  }
}

}  // namespace
}  // namespace ratelimiter
