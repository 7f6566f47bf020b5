#include "ratelimiter/config/limits_reloader.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/snapshot.h"
#include "support/eventually.h"
#include "support/log_file.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

namespace fs = std::filesystem;

using ::testing::ElementsAre;
using testing::Eventually;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A file of limits of these names.
std::string Yaml(const std::vector<std::string>& names) {
  std::string yaml = "limits:\n";
  for (const std::string& name : names) {
    yaml += fmt::format("  - {{name: {}, capacity: 5, refill: 1 per 1s}}\n", name);
  }
  return yaml;
}

// Writes a file in place.
void Write(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  file << text << std::flush;
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

// Whether every event of inotify was taken from the system by those who watch.
bool NoEventIsWaiting() {
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry, gone) != "anon_inode:inotify") continue;
    int bytes = 0;
    ioctl(std::stoi(entry.path().filename()), FIONREAD, &bytes);
    if (bytes > 0) return false;
  }
  return true;
}

class LimitsReloaderTest : public ::testing::Test {
 protected:
  LimitsReloaderTest() {
    std::string name = fs::temp_directory_path() / "limits_reloader_test.XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    root_ = name;
    folder_ = root_ / "folder";
    path_ = folder_ / "limits.yaml";
    fs::create_directory(folder_);
  }
  ~LimitsReloaderTest() override {
    reloader_.reset();
    fs::remove_all(root_);
  }

  // Keeps the limits of the file at path_ in force, from what was read of it.
  void Start(LimitsFile file) {
    ASSERT_THAT(file.errors, IsEmpty());
    in_force_.Set(file.limits);
    reloader_.emplace(
        path_, std::move(file),
        [this](const std::shared_ptr<const LimitSet>& limits) { in_force_.Set(limits); },
        log_.logger());
  }
  // What comes next is noticed by events alone.
  void Start() {
    Start(ReadLimitsFile(path_));
    AwaitSettled();
  }
  void StartWith(const std::vector<std::string>& names) {
    Write(path_, Yaml(names));
    Start();
  }

  std::vector<std::string> InForce() const {
    std::vector<std::string> names;
    for (const Limit& limit : in_force_.Get()->limits()) names.push_back(limit.name);
    return names;
  }
  bool ComesInForce(const std::vector<std::string>& names) const {
    return Eventually([&] { return InForce() == names; });
  }

  // Waits until all that happened in the folder so far was dealt with, but what
  // is given time to settle: it was once a later event is looked at.
  void AwaitNotice() const {
    for (int i = 0; i < 2; ++i) {
      Write(folder_ / "bystander", "");
      ASSERT_TRUE(Eventually(NoEventIsWaiting));
    }
  }
  // The same, what is given time to settle included.
  void AwaitSettled() const {
    const fs::path bystander = folder_ / "bystander.yaml";
    Write(bystander, Yaml({"x"}));
    const LimitsReloader other(
        bystander, ReadLimitsFile(bystander), [](const auto& /*limits*/) {},
        MakeLogger(spdlog::level::off, LogFormat::kText));
    AwaitNotice();
    fs::remove(bystander);
    ASSERT_TRUE(Eventually([&] { return other.state().failed == 1; }));
    AwaitNotice();
  }

  ReloadState AwaitFailures(std::uint64_t count) const {
    EXPECT_TRUE(Eventually([&] { return reloader_->state().failed == count; }));
    return reloader_->state();
  }
  ReloadState AwaitSuccesses(std::uint64_t count) const {
    EXPECT_TRUE(Eventually([&] { return reloader_->state().succeeded == count; }));
    return reloader_->state();
  }

  fs::path root_;
  fs::path folder_;
  fs::path path_;
  Snapshot<LimitSet> in_force_{nullptr};
  const testing::LogFile log_;
  std::optional<LimitsReloader> reloader_;
};

TEST_F(LimitsReloaderTest, CountsNothingBeforeAReload) {
  const auto before = std::chrono::system_clock::now();
  StartWith({"a"});
  const ReloadState state = reloader_->state();
  EXPECT_EQ(state.succeeded, 0U);
  EXPECT_EQ(state.failed, 0U);
  EXPECT_THAT(state.errors, IsEmpty());
  EXPECT_GE(state.loaded_at, before);
}

// --- What counts as a change ---

TEST_F(LimitsReloaderTest, AFileWrittenInPlaceCounts) {
  StartWith({"a"});
  Write(path_, Yaml({"b", "c"}));
  EXPECT_TRUE(ComesInForce({"b", "c"}));
}

TEST_F(LimitsReloaderTest, AFileRenamedIntoItsPlaceCounts) {
  StartWith({"a"});
  Write(folder_ / "limits.yaml.swp", Yaml({"b"}));
  fs::rename(folder_ / "limits.yaml.swp", path_);
  EXPECT_TRUE(ComesInForce({"b"}));
}

TEST_F(LimitsReloaderTest, AnEditorMayMoveTheOldFileAwayFirst) {
  StartWith({"a"});
  for (const char* name : {"b", "c", "d"}) {
    fs::rename(path_, folder_ / "limits.yaml~");
    Write(path_, Yaml({name}));
    EXPECT_TRUE(ComesInForce({name}));
  }
  AwaitSettled();
  EXPECT_EQ(reloader_->state().succeeded, 3U);
  EXPECT_EQ(reloader_->state().failed, 0U);
}

TEST_F(LimitsReloaderTest, HalfAFileIsNeverRead) {
  StartWith({"a"});
  const std::string whole = Yaml({"b", "c"});
  const std::size_t half = Yaml({"b"}).size();
  std::ofstream file(path_);
  file << whole.substr(0, half) << std::flush;
  AwaitSettled();
  EXPECT_THAT(InForce(), ElementsAre("a"));
  file << whole.substr(half) << std::flush;
  AwaitSettled();
  EXPECT_THAT(InForce(), ElementsAre("a"));
  file.close();
  EXPECT_TRUE(ComesInForce({"b", "c"}));
  EXPECT_EQ(AwaitSuccesses(1).failed, 0U);
}

TEST_F(LimitsReloaderTest, HalfANewFileIsNeverRead) {
  StartWith({"a"});
  const std::string whole = Yaml({"b", "c"});
  fs::remove(path_);
  std::ofstream file(path_);
  file << whole.substr(0, Yaml({"b"}).size()) << std::flush;
  AwaitSettled();
  EXPECT_THAT(InForce(), ElementsAre("a"));
  file << whole.substr(Yaml({"b"}).size());
  file.close();
  EXPECT_TRUE(ComesInForce({"b", "c"}));
  EXPECT_EQ(AwaitSuccesses(1).failed, 0U);
}

// As kubelet's AtomicWriter does it: limits.yaml is a link to ..data/limits.yaml,
// and ..data one to a folder with the time in its name.
TEST_F(LimitsReloaderTest, TheSwapOfAConfigMapCounts) {
  const auto write = [&](const std::string& time, const std::string& name) {
    fs::create_directory(folder_ / time);
    Write(folder_ / time / "limits.yaml", Yaml({name}));
    fs::create_directory_symlink(time, folder_ / "..data_tmp");
    fs::rename(folder_ / "..data_tmp", folder_ / "..data");
  };
  write("..2026_01_01_00_00_00.0", "v0");
  fs::create_symlink("..data/limits.yaml", path_);
  Start();
  for (int version = 1; version <= 5; ++version) {
    const std::string time = fmt::format("..2026_01_01_00_00_00.{}", version);
    const fs::path before = folder_ / fs::read_symlink(folder_ / "..data");
    write(time, fmt::format("v{}", version));
    fs::remove_all(before);
    EXPECT_TRUE(ComesInForce({fmt::format("v{}", version)}));
  }
  AwaitSettled();
  EXPECT_EQ(reloader_->state().succeeded, 5U);
  EXPECT_EQ(reloader_->state().failed, 0U);
}

TEST_F(LimitsReloaderTest, TheTargetOfALinkMayBeWrittenInPlace) {
  fs::create_directory(root_ / "elsewhere");
  const fs::path target = root_ / "elsewhere" / "real.yaml";
  Write(target, Yaml({"a"}));
  fs::create_symlink(target, path_);
  Start();
  Write(target, Yaml({"b"}));
  EXPECT_TRUE(ComesInForce({"b"}));
  Write(root_ / "elsewhere" / "new.yaml", Yaml({"c"}));
  fs::rename(root_ / "elsewhere" / "new.yaml", target);
  EXPECT_TRUE(ComesInForce({"c"}));
}

TEST_F(LimitsReloaderTest, ALinkMayBeReplacedAndItsNewTargetWritten) {
  const fs::path first = root_ / "first.yaml";
  const fs::path second = root_ / "second.yaml";
  Write(first, Yaml({"a"}));
  Write(second, Yaml({"b"}));
  fs::create_symlink("../first.yaml", path_);
  Start();
  fs::remove(path_);
  fs::create_symlink("../second.yaml", path_);
  EXPECT_TRUE(ComesInForce({"b"}));
  Write(second, Yaml({"c"}));
  EXPECT_TRUE(ComesInForce({"c"}));
}

TEST_F(LimitsReloaderTest, AFolderThatIsALinkMayBeTurnedToAnother) {
  for (const char* release : {"1", "2"}) {
    fs::create_directory(root_ / release);
    Write(root_ / release / "limits.yaml", Yaml({fmt::format("r{}", release)}));
  }
  fs::create_directory_symlink("1", root_ / "current");
  path_ = root_ / "current" / "limits.yaml";
  Start();
  fs::create_directory_symlink("2", root_ / "next");
  fs::rename(root_ / "next", root_ / "current");
  EXPECT_TRUE(ComesInForce({"r2"}));
  Write(root_ / "2" / "limits.yaml", Yaml({"b"}));
  EXPECT_TRUE(ComesInForce({"b"}));
}

// As a file that is mounted into a container alone: its folder tells nothing.
TEST_F(LimitsReloaderTest, AFileWrittenUnderAnotherNameCounts) {
  Write(path_, Yaml({"a"}));
  fs::create_hard_link(path_, root_ / "other");
  Start();
  Write(root_ / "other", Yaml({"b"}));
  EXPECT_TRUE(ComesInForce({"b"}));
}

TEST_F(LimitsReloaderTest, AChangeBeforeTheWatchCounts) {
  Write(path_, Yaml({"a"}));
  LimitsFile file = ReadLimitsFile(path_);
  Write(path_, Yaml({"b"}));
  Start(std::move(file));
  EXPECT_TRUE(ComesInForce({"b"}));
}

TEST_F(LimitsReloaderTest, WhatIsNotTheFileCausesNothing) {
  StartWith({"a"});
  for (int i = 0; i < 100; ++i) {
    const fs::path other = folder_ / fmt::format("other-{}", i);
    Write(other, "bad");
    fs::rename(other, folder_ / "limits.yaml.bak");
    fs::create_directory(folder_ / "limits");
    fs::remove(folder_ / "limits");
  }
  Write(path_, Yaml({"a"}));  // The same again.
  AwaitSettled();
  EXPECT_EQ(reloader_->state().succeeded, 0U);
  EXPECT_EQ(reloader_->state().failed, 0U);
  EXPECT_EQ(log_.untimed(), "");
}

TEST_F(LimitsReloaderTest, ReloadWorksWhereNothingCanBeWatched) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the undefined-behaviour sanitizer needs descriptors to check an object's type";
#endif
  Write(path_, Yaml({"a"}));
  LimitsFile file = ReadLimitsFile(path_);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const int next = dup(STDERR_FILENO);
  close(next);
  // One descriptor is left, and inotify would be the second.
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next) + 1;
  setrlimit(RLIMIT_NOFILE, &tight);
  Start(std::move(file));
  setrlimit(RLIMIT_NOFILE, &before);

  EXPECT_EQ(log_.untimed(), fmt::format("warning  cannot watch {}: Too many open files; it is "
                                        "reloaded only on SIGHUP\tkind=reload\n",
                                        path_.string()));
  Write(path_, Yaml({"b"}));
  EXPECT_EQ(reloader_->Reload().succeeded, 1U);
  EXPECT_THAT(InForce(), ElementsAre("b"));
}

// --- What is not accepted ---

TEST_F(LimitsReloaderTest, ABadFileChangesNothingAndIsTold) {
  StartWith({"a"});
  const auto loaded_at = reloader_->state().loaded_at;
  Write(path_, "limits: [{name: b}]\n");
  const ReloadState failed = AwaitFailures(1);
  EXPECT_THAT(InForce(), ElementsAre("a"));
  EXPECT_EQ(failed.errors, ReadLimitsFile(path_).errors);
  EXPECT_EQ(failed.succeeded, 0U);
  EXPECT_EQ(failed.loaded_at, loaded_at);

  Write(path_, Yaml({"c"}));
  const ReloadState succeeded = AwaitSuccesses(1);
  EXPECT_THAT(InForce(), ElementsAre("c"));
  EXPECT_THAT(succeeded.errors, IsEmpty());
  EXPECT_EQ(succeeded.failed, 1U);
  EXPECT_GT(succeeded.loaded_at, loaded_at);
}

TEST_F(LimitsReloaderTest, TheFileInForceCountsAgainAfterABadOne) {
  StartWith({"a"});
  Write(path_, "bad");
  AwaitFailures(1);
  Write(path_, Yaml({"a"}));
  EXPECT_THAT(AwaitSuccesses(1).errors, IsEmpty());
}

TEST_F(LimitsReloaderTest, ADeletedFileChangesNothingAndIsToldOnce) {
  StartWith({"a"});
  fs::remove(path_);
  EXPECT_THAT(AwaitFailures(1).errors, ElementsAre(HasSubstr("No such file")));
  for (int i = 0; i < 10; ++i) {
    fs::create_symlink("nowhere", path_);
    AwaitNotice();
    fs::remove(path_);
  }
  AwaitSettled();
  EXPECT_EQ(reloader_->state().failed, 1U);
  EXPECT_THAT(InForce(), ElementsAre("a"));
  Write(path_, Yaml({"a"}));
  EXPECT_EQ(AwaitSuccesses(1).failed, 1U);
}

TEST_F(LimitsReloaderTest, AFolderMayBeDeletedAndMadeAgain) {
  StartWith({"a"});
  for (const char* name : {"b", "c", "d"}) {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    Write(path_, Yaml({name}));
    EXPECT_TRUE(ComesInForce({name}));
  }
}

TEST_F(LimitsReloaderTest, AFolderMayBeAwayForLong) {
  folder_ = root_ / "deep" / "down";
  path_ = folder_ / "limits.yaml";
  fs::create_directories(folder_);
  StartWith({"a"});
  fs::remove_all(root_ / "deep");
  AwaitFailures(1);
  fs::create_directories(folder_);
  Write(path_, Yaml({"b"}));
  EXPECT_TRUE(ComesInForce({"b"}));

  fs::rename(root_ / "deep", root_ / "away");
  AwaitFailures(2);
  Write(root_ / "away" / "down" / "limits.yaml", Yaml({"c"}));
  fs::rename(root_ / "away", root_ / "deep");
  EXPECT_TRUE(ComesInForce({"c"}));
}

// --- What is told ---

TEST_F(LimitsReloaderTest, AReloadIsALineAndEachWarningAnother) {
  StartWith({"a"});
  Write(path_, "hash_by: global\n" + Yaml({"b", "c"}));
  AwaitSuccesses(1);
  EXPECT_EQ(log_.untimed(),
            fmt::format("info  reloaded: 2 limits of {}\tkind=reload\nwarning  {}\tkind=reload\n",
                        path_.string(), ReadLimitsFile(path_).warnings.at(0)));
}

TEST_F(LimitsReloaderTest, OfManyErrorsTheFirstAreLogged) {
  StartWith({"a"});
  std::string bad = "limits:\n";
  for (int i = 0; i < 25; ++i) bad += "  - 1\n";
  Write(path_, bad);
  const ReloadState state = AwaitFailures(1);
  ASSERT_THAT(state.errors, SizeIs(25));
  std::string lines =
      fmt::format("error  not reloaded, the old limits stay: {} is not accepted\tkind=reload\n",
                  path_.string());
  for (std::size_t i = 0; i < 10; ++i)
    lines += fmt::format("error  {}\tkind=reload\n", state.errors[i]);
  EXPECT_EQ(log_.untimed(), lines + "error  and 15 more\tkind=reload\n");
}

// --- When told to ---

TEST_F(LimitsReloaderTest, ReloadReadsAFileThatDidNotChange) {
  StartWith({"a"});
  const ReloadState state = reloader_->Reload();
  EXPECT_EQ(state.succeeded, 1U);
  EXPECT_EQ(state.failed, 0U);
  EXPECT_THAT(InForce(), ElementsAre("a"));
}

TEST_F(LimitsReloaderTest, ReloadAnswersWithWhatCameOfIt) {
  StartWith({"a"});
  Write(path_, Yaml({"b"}));
  EXPECT_GE(reloader_->Reload().succeeded, 1U);
  EXPECT_THAT(InForce(), ElementsAre("b"));
  fs::remove(path_);
  const ReloadState failed = reloader_->Reload();
  EXPECT_THAT(failed.errors, ElementsAre(HasSubstr("cannot read")));
  EXPECT_THAT(InForce(), ElementsAre("b"));
}

TEST_F(LimitsReloaderTest, ManyMayReloadAtOnceWhileTheFileChanges) {
  constexpr std::size_t kCallers = 4;
  constexpr std::size_t kReloads = 50;
  StartWith({"a"});
  testing::OnThreads(kCallers + 1, [&](std::size_t thread) {
    for (std::size_t i = 0; i < kReloads; ++i) {
      if (thread == kCallers) {
        const fs::path next = folder_ / "next";
        Write(next, Yaml({fmt::format("n{}", i)}));
        fs::rename(next, path_);
      } else {
        EXPECT_THAT(reloader_->Reload().errors, IsEmpty());
      }
    }
  });
  EXPECT_TRUE(ComesInForce({fmt::format("n{}", kReloads - 1)}));
  EXPECT_GE(reloader_->state().succeeded, kCallers * kReloads);
  EXPECT_EQ(reloader_->state().failed, 0U);
}

TEST_F(LimitsReloaderTest, EndsWhileTheFileChanges) {
  Write(path_, Yaml({"a"}));
  std::atomic<bool> over = false;
  testing::OnThreads(2, [&](std::size_t thread) {
    if (thread == 0) {
      for (int i = 0; i < 100; ++i) {
        Start(ReadLimitsFile(path_));
        reloader_.reset();
      }
      over = true;
      return;
    }
    for (int i = 0; !over; ++i) {
      Write(folder_ / "next", Yaml({fmt::format("n{}", i)}));
      fs::rename(folder_ / "next", path_);
    }
  });
}

}  // namespace
}  // namespace ratelimiter
