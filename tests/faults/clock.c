/* For redis-server, by LD_PRELOAD: the wall clock, moved by the microseconds that the
   file REDIS_CLOCK_FILE begins with, an int64, which may change while it runs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *moved_us;

__attribute__((constructor)) static void map_file(void) {
  const int file = open(getenv("REDIS_CLOCK_FILE"), O_RDONLY);
  void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) abort();
  moved_us = page;
  close(file);
}

/* By the system call: what the library has is what is replaced here. */
static int64_t now_ns(clockid_t clock) {
  struct timespec now;
  syscall(SYS_clock_gettime, clock, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t moved_ns(void) { return moved_us == NULL ? 0 : *moved_us * 1000; }

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  const int64_t ns = now_ns(CLOCK_REALTIME) + moved_ns();
  time->tv_sec = ns / 1000000000;
  time->tv_usec = ns % 1000000000 / 1000;
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  const int64_t ns = now_ns(clock) + (clock == CLOCK_REALTIME ? moved_ns() : 0);
  time->tv_sec = ns / 1000000000;
  time->tv_nsec = ns % 1000000000;
  return 0;
}

time_t time(time_t *result) {
  const time_t seconds = (now_ns(CLOCK_REALTIME) + moved_ns()) / 1000000000;
  if (result != NULL) *result = seconds;
  return seconds;
}
