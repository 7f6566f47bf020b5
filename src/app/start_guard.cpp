#include "start_guard.h"

#include <unistd.h>

#include <csignal>
#include <cstring>

#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

// Allocates nothing, since there may be no memory.
void Write(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
}

[[noreturn]] void Fail(const char* why) {
  Write("cannot start: ");
  Write(why);
  Write(
      "; out of memory or threads? see ulimit -v, ulimit -u and the limits of the container or "
      "unit\n");
  _exit(kExitRuntime);
}

[[noreturn]] void OnTerminate() {
  if (const std::exception_ptr error = std::current_exception(); error != nullptr) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& known) {
      Fail(known.what());
    } catch (...) {
      Fail("an unknown exception");
    }
  }
  Fail("terminated");
}

void OnAbort(int /*signal*/) { Fail("a library gave up; its last message is above"); }

}  // namespace

StartGuard::StartGuard() : previous_(std::set_terminate(OnTerminate)) {
  std::signal(SIGABRT, OnAbort);
}

StartGuard::~StartGuard() {
  std::set_terminate(previous_);
  std::signal(SIGABRT, SIG_DFL);
}

}  // namespace ratelimiter
