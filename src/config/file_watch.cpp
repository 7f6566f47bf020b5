#include "file_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <system_error>
#include <utility>
#include <vector>

namespace ratelimiter {
namespace {

namespace fs = std::filesystem;

using std::chrono::steady_clock;

// Never IN_MODIFY: it comes when half a file is written.
constexpr std::uint32_t kEntryEvents =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_MOVED_FROM;
// Besides its directory's events: the file may be written under another name, such as a hard
// link, or the host's name of a file mounted into a container.
constexpr std::uint32_t kFileEvents = IN_CLOSE_WRITE;

// The time that an editor may take between removing the old file and creating the new one, or
// the copy of a directory between the directory and its content.
constexpr std::chrono::milliseconds kSettle{100};

// The kernel's bound.
constexpr int kMaxLinks = 40;

// The parts of the path, the next one last.
std::vector<std::string> WayOf(const fs::path& path) {
  std::vector<std::string> way;
  for (const fs::path& part : path.relative_path()) way.push_back(part.string());
  std::ranges::reverse(way);
  return way;
}

}  // namespace

FileWatch::Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

FileWatch::FileWatch(const std::string& path, std::shared_ptr<Logger> logger)
    : path_(fs::absolute(path)),
      logger_(std::move(logger)),
      stop_(eventfd(0, EFD_CLOEXEC)),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  if (stop_.number() < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  if (inotify_.number() < 0) {
    logger_->Limited(LogKind::kReload, spdlog::level::warn,
                     "cannot watch {}: {}; it is reloaded only on SIGHUP", path_.string(),
                     std::generic_category().message(errno));
    return;
  }
  read_when_settled_ = Arm();
  settled_at_ = steady_clock::now() + kSettle;
}

bool FileWatch::Wait() {
  while (true) {
    // poll() skips negative descriptors: without inotify only Stop ends the wait.
    std::array<pollfd, 2> sources = {pollfd{stop_.number(), POLLIN, 0},
                                     pollfd{inotify_.number(), POLLIN, 0}};
    poll(sources.data(), sources.size(), UntilSettled());
    if (sources[0].revents != 0) return false;

    const News news = ReadEvents();
    if (news != News::kNone) {
      const bool found = Arm();
      if (news == News::kNewWay && found) read_when_settled_ = true;
      settled_at_ = steady_clock::now() + kSettle;
    }
    if (news != News::kWhole && UntilSettled() != 0) continue;
    settled_at_.reset();
    const bool read = std::exchange(read_when_settled_, false);
    std::error_code error;
    if (news == News::kWhole || read || !fs::exists(path_, error)) return true;
  }
}

int FileWatch::UntilSettled() const {
  if (!settled_at_.has_value()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*settled_at_ - steady_clock::now());
  return static_cast<int>(std::max(left.count(), decltype(left)::rep{0}));
}

void FileWatch::Stop() { eventfd_write(stop_.number(), 1); }

FileWatch::News FileWatch::ReadEvents() {
  News news = News::kNone;
  alignas(inotify_event) std::array<char, 16'384> buffer{};
  while (true) {
    const ssize_t size = read(inotify_.number(), buffer.data(), buffer.size());
    if (size <= 0) return news;
    for (const char* next = buffer.data(); next < buffer.data() + size;) {
      const auto& event = *reinterpret_cast<const inotify_event*>(next);
      news = std::max(news, Judge(event));
      next += sizeof event + event.len;
    }
  }
}

FileWatch::News FileWatch::Judge(const inotify_event& event) {
  // Events were lost: anything may have happened.
  if ((event.mask & IN_Q_OVERFLOW) != 0) return News::kWhole;
  const auto watched = watched_.find(event.wd);
  if (watched == watched_.end()) return News::kNone;
  if ((event.mask & IN_IGNORED) != 0) {  // It was deleted.
    watched_.erase(watched);
    return News::kGone;
  }
  const std::string name = event.len > 0 ? event.name : "";
  if (!watched->second.names.contains(name)) return News::kNone;
  if ((event.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0) return News::kWhole;
  if ((event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) return News::kGone;
  // A new file is not written yet; a new link or directory may lead to a complete one.
  std::error_code error;
  const bool leads_on =
      fs::symlink_status(watched->second.place / name, error).type() != fs::file_type::regular;
  return leads_on ? News::kNewWay : News::kNone;
}

bool FileWatch::Arm() {
  const auto watched_before = std::exchange(watched_, {});
  const auto unwatched_before = std::exchange(unwatched_, {});
  const bool found = FollowPath();
  for (const auto& [number, watched] : watched_before) {
    if (!watched_.contains(number)) inotify_rm_watch(inotify_.number(), number);
  }
  for (const auto& [place, why] : unwatched_) {
    if (unwatched_before.contains(place)) continue;
    logger_->Limited(LogKind::kReload, spdlog::level::warn,
                     "cannot watch {}: {}; after a change there, reload {} with SIGHUP",
                     place.string(), why, path_.string());
  }
  return found;
}

bool FileWatch::FollowPath() {
  fs::path place = path_.root_path();
  std::vector<std::string> way = WayOf(path_);
  auto type = fs::file_type::directory;
  int links = 0;
  while (!way.empty() && type != fs::file_type::not_found) {
    const std::string name = std::move(way.back());
    way.pop_back();
    if (name.empty() || name == ".") continue;
    if (name == "..") {  // `place` has no links left.
      place = place.parent_path();
      continue;
    }
    // Watch first, look then: changes after the look are reported.
    Watch(place, kEntryEvents, name);
    std::error_code error;
    type = fs::symlink_status(place / name, error).type();
    if (type != fs::file_type::symlink) {
      place /= name;
    } else if (++links > kMaxLinks) {
      return false;
    } else {
      const fs::path target = fs::read_symlink(place / name, error);
      if (target.is_absolute()) place = target.root_path();
      std::ranges::copy(WayOf(target), std::back_inserter(way));
    }
  }
  if (!way.empty() || type != fs::file_type::regular) return false;
  Watch(place, kFileEvents, "");
  return true;
}

void FileWatch::Watch(const fs::path& place, std::uint32_t events, const std::string& name) {
  const int number = inotify_add_watch(inotify_.number(), place.c_str(), events);
  if (number >= 0) {
    watched_.try_emplace(number, place).first->second.names.insert(name);
  } else if (errno != ENOENT && errno != ENOTDIR) {  // Those are reported as events.
    unwatched_.emplace(place, std::generic_category().message(errno));
  }
}

}  // namespace ratelimiter
