#include "ratelimiter/metrics/status_counter.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/base/text.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::string_literals;

using ::testing::ElementsAre;
using ::testing::Pair;

using enum RequestStatus;

// What a scrape shows: user and status, and how many requests. A series that is
// there twice, which fails a whole scrape, fails the test.
using Series = std::map<std::pair<std::string, std::string>, double>;

Series Scrape(const RequestCounter& counter) {
  Series series;
  for (const prometheus::MetricFamily& family : counter.Collect()) {
    for (const prometheus::ClientMetric& metric : family.metric) {
      const std::string user = metric.label.at(0).value;
      const std::string status = metric.label.at(1).value;
      EXPECT_TRUE(series.emplace(std::pair(user, status), metric.counter.value).second)
          << user << " " << status;
    }
  }
  return series;
}

// The users that have series, and the requests of each, whatever their status.
std::map<std::string, double> Users(const RequestCounter& counter) {
  std::map<std::string, double> users;
  for (const auto& [labels, requests] : Scrape(counter)) users[labels.first] += requests;
  return users;
}

double Total(const RequestCounter& counter) {
  double total = 0;
  for (const auto& [user, requests] : Users(counter)) total += requests;
  return total;
}

TEST(RequestCounterTest, CountsByUserAndStatus) {
  RequestCounter counter(10);
  counter.Count("a", kAllowed);
  counter.Count("a", kAllowed);
  counter.Count("a", kDenied);
  counter.Count("b", kError);
  EXPECT_THAT(Scrape(counter),
              ElementsAre(Pair(Pair("__other__", "allowed"), 0),
                          Pair(Pair("__other__", "denied"), 0), Pair(Pair("__other__", "error"), 0),
                          Pair(Pair("a", "allowed"), 2), Pair(Pair("a", "denied"), 1),
                          Pair(Pair("a", "error"), 0), Pair(Pair("b", "allowed"), 0),
                          Pair(Pair("b", "denied"), 0), Pair(Pair("b", "error"), 1)));
}

TEST(RequestCounterTest, TheFirstUsersKeepTheirSeriesAndAllOthersShareOne) {
  RequestCounter counter(2);
  for (const char* user : {"a", "b", "c", "d", "a", "c"}) counter.Count(user, kAllowed);
  EXPECT_THAT(Users(counter), ElementsAre(Pair("__other__", 3), Pair("a", 2), Pair("b", 1)));
  EXPECT_EQ(counter.tracked(), 2U);
}

TEST(RequestCounterTest, WithoutRoomForAnyUserAllShareOneSeries) {
  RequestCounter counter(0);
  counter.Count("a", kAllowed);
  counter.Count("b", kDenied);
  EXPECT_THAT(Users(counter), ElementsAre(Pair("__other__", 2)));
  EXPECT_EQ(counter.tracked(), 0U);
}

TEST(RequestCounterTest, ARequestWithoutAUserTakesNoPlace) {
  RequestCounter counter(1);
  counter.CountOther(kError);
  counter.Count("a", kAllowed);
  EXPECT_THAT(Users(counter), ElementsAre(Pair("__other__", 1), Pair("a", 1)));
}

TEST(RequestCounterTest, AUserCalledLikeTheOthersIsOneOfThem) {
  RequestCounter counter(10);
  counter.Count("__other__", kAllowed);
  counter.CountOther(kAllowed);
  EXPECT_THAT(Users(counter), ElementsAre(Pair("__other__", 2)));
}

TEST(RequestCounterTest, IdsThatLookAlikeShareASeries) {
  RequestCounter counter(10);
  for (const std::string& user : {"a\x01"s, "a\x02"s, "a\xFF"s, "a\uFFFD"s}) {
    counter.Count(user, kAllowed);
  }
  EXPECT_THAT(Users(counter), ElementsAre(Pair("__other__", 0), Pair("a\uFFFD", 4)));
}

TEST(RequestCounterTest, LongIdsAreCutBetweenCharacters) {
  RequestCounter counter(10);
  const std::string start(126, 'x');
  counter.Count(start + "€1", kAllowed);
  counter.Count(start + "€2", kAllowed);
  counter.Count(start + "ééé", kAllowed);
  EXPECT_THAT(Users(counter),
              ElementsAre(Pair("__other__", 0), Pair(start, 2), Pair(start + "é", 1)));
}

TEST(RequestCounterTest, NoIdBreaksALabel) {
  RequestCounter counter(1000);
  for (int first = 0; first < 256; ++first) {
    counter.Count(std::string(1, static_cast<char>(first)) + "\n\"\\{}\0"s, kAllowed);
  }
  for (const auto& [user, requests] : Users(counter)) {
    EXPECT_EQ(Printable(user, 128), user);
  }
  EXPECT_EQ(Total(counter), 256);
}

TEST(RequestCounterTest, IdsThatDifferAfterANulAreTwoUsers) {
  RequestCounter counter(10);
  counter.Count("a\0b"s, kAllowed);
  counter.Count("a\0c"s, kAllowed);
  EXPECT_THAT(Users(counter),
              ElementsAre(Pair("__other__", 0), Pair("a\uFFFDb", 1), Pair("a\uFFFDc", 1)));
}

TEST(RequestCounterTest, TellsTheTotalsOfAllUsers) {
  RequestCounter counter(2);
  for (const char* user : {"ann", "bob", "cid", "__other__"}) counter.Count(user, kDenied);
  counter.CountOther(kError);
  counter.Count("ann", kAllowed);
  const StatusCounter::Counts totals = counter.Totals();
  EXPECT_EQ(totals[static_cast<std::size_t>(kAllowed)], 1U);
  EXPECT_EQ(totals[static_cast<std::size_t>(kDenied)], 4U);
  EXPECT_EQ(totals[static_cast<std::size_t>(kError)], 1U);
}

TEST(RequestCounterTest, TellsWhatAUserHasWhoHasSeries) {
  RequestCounter counter(2);
  counter.Count("ann", kDenied);
  counter.Count("__other__", kDenied);
  counter.Count("cid", kDenied);
  ASSERT_TRUE(counter.CountsOf("ann").has_value());
  EXPECT_EQ(counter.CountsOf("ann")->at(static_cast<std::size_t>(kDenied)), 1U);
  for (const char* user : {"__other__", "cid", "dan"}) {
    EXPECT_FALSE(counter.CountsOf(user).has_value()) << user;
  }
}

TEST(RequestCounterTest, IsExactWhileItIsScraped) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kUsers = 2'000;
  constexpr std::size_t kMaxUsers = 500;
  RequestCounter counter(kMaxUsers);
  const auto count = [&](std::size_t thread) {
    for (std::size_t i = 0; i < kUsers; ++i) {
      counter.Count("user-" + std::to_string((i + thread * 100) % kUsers), kAllowed);
    }
  };
  const auto scrape = [&] {
    double before = 0;
    while (before < kThreads * kUsers && !::testing::Test::HasFailure()) {
      const double now = Total(counter);
      EXPECT_GE(now, before);  // A counter must not fall.
      before = now;
    }
  };
  testing::OnThreads(kThreads + 1, [&](std::size_t thread) {
    if (thread < kThreads) {
      count(thread);
    } else {
      scrape();
    }
  });
  const std::map<std::string, double> users = Users(counter);
  EXPECT_EQ(users.size(), kMaxUsers + 1);
  for (const auto& [user, requests] : users) {
    EXPECT_EQ(requests, user == "__other__" ? kThreads * (kUsers - kMaxUsers) : kThreads) << user;
  }
}

}  // namespace
}  // namespace ratelimiter
