/* SPDX-License-Identifier: MIT */
/* The operating system, on Linux: memory, time, sleeping, names of threads. The only file that
 * knows. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/base.h"

#define NS_PER_S UINT64_C(1000000000)

/* ---- time ---- */

uint64_t gyre__clock_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t gyre__os_random(void) {
  /* The kernel leaves 16 random bytes for the C library: half of them are the stack protector's. */
  uint64_t word = gyre__clock_ns();
  const char *bytes = (const char *)(uintptr_t)getauxval(AT_RANDOM);
  uint64_t given = 0;
  if (bytes != NULL) memcpy(&given, bytes + sizeof given, sizeof given);
  word = (word ^ given) * UINT64_C(0x9E3779B97F4A7C15);
  return word ^ word >> 32;
}

/* ---- memory ---- */

size_t gyre__os_page_size(void) {
  static gyre__atomic_size known;
  /* relaxed: every thread that computes it finds the same number; pairs with the store below. */
  size_t size = gyre__load_relaxed(&known);
  if (GYRE_LIKELY(size != 0)) return size;
  size = (size_t)sysconf(_SC_PAGESIZE);
  /* relaxed: as above. */
  gyre__store_relaxed(&known, size);
  return size;
}

size_t gyre__os_whole_pages(size_t size) {
  size_t mask = gyre__os_page_size() - 1;
  return (size + mask) & ~mask;
}

static void *map_anywhere(size_t size, int extra_flags) {
  void *address =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  return address == MAP_FAILED ? NULL : address;
}

void *gyre__os_map(size_t size, size_t alignment) {
  if (GYRE_FAULT()) {
    errno = ENOMEM;
    return NULL;
  }
  if (gyre__source_is_set()) return gyre__source_map(gyre__os_whole_pages(size), alignment);
  size_t page_size = gyre__os_page_size();
  size = gyre__os_whole_pages(size);
  if (alignment <= page_size) return map_anywhere(size, 0);
  /* Map more than is wanted and cut off both ends. */
  size_t slack = alignment - page_size;
  if (size > SIZE_MAX - slack) {
    errno = ENOMEM;
    return NULL;
  }
  char *wide = map_anywhere(size + slack, 0);
  if (wide == NULL) return NULL;
  char *address = (char *)(((uintptr_t)wide + alignment - 1) & ~(uintptr_t)(alignment - 1));
  size_t before = (size_t)(address - wide);
  if (before != 0) (void)munmap(wide, before);
  if (before != slack) (void)munmap(address + size, slack - before);
  return address;
}

void *gyre__os_reserve(size_t size) {
  if (GYRE_FAULT()) {
    errno = ENOMEM;
    return NULL;
  }
  size = gyre__os_whole_pages(size);
  if (gyre__source_is_set()) return gyre__source_map(size, gyre__os_page_size());
  return map_anywhere(size, MAP_NORESERVE);
}

void *gyre__os_map_aside(size_t size) {
  size = gyre__os_whole_pages(size);
  if (gyre__source_is_set()) return gyre__source_map(size, gyre__os_page_size());
  return map_anywhere(size, 0);
}

bool gyre__os_forbid(void *address, size_t size) {
  if (gyre__source_is_set()) return false;
  int before = errno;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  bool done = mmap(address, size, PROT_NONE, flags, -1, 0) != MAP_FAILED;
  errno = before;
  return done;
}

void gyre__os_unmap(void *address, size_t size) {
  if (gyre__source_is_set()) {
    gyre__source_unmap(address, gyre__os_whole_pages(size));
    return;
  }
  int before = errno;
  int result = munmap(address, gyre__os_whole_pages(size));
  /* The kernel may be unable to split a mapping (too many of them): the memory at least can go. */
  if (result != 0) (void)gyre__os_purge(address, size);
  errno = before;
}

void gyre__os_populate(void *address, size_t size) {
#ifdef MADV_POPULATE_WRITE
  if (gyre__source_is_set()) return;
  int before = errno;
  (void)madvise(address, gyre__os_whole_pages(size), MADV_POPULATE_WRITE); /* Linux 5.14 */
  errno = before;
#else
  (void)address, (void)size;
#endif
}

void gyre__os_huge_pages(void *address, size_t size) {
  uint64_t thp = gyre__option(thp);
  if (thp == GYRE__THP_DEFAULT || gyre__source_is_set()) return;
  int before = errno;
  /* A kernel without huge pages has nothing to be told. */
  (void)madvise(address, size, thp == GYRE__THP_ALWAYS ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  errno = before;
}

bool gyre__os_purge(void *address, size_t size) {
  if (gyre__source_is_set()) return gyre__source_purge(address, size);
  int before = errno;
  if (gyre__option(purge) == GYRE__PURGE_FREE && madvise(address, size, MADV_FREE) == 0)
    return false;
  while (madvise(address, size, MADV_DONTNEED) != 0)
    GYRE_REQUIRE(errno == EAGAIN || errno == EINTR, "cannot purge %zu bytes at %p: %s", size,
                 address, strerror(errno));
  errno = before;
  return true;
}

/* A move that failed may have unmapped where it was to go: the kernel does that first. */
static void map_again(void *address, size_t size) {
  if (errno == EINVAL) return; /* a kernel that has no such move */
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  void *there = mmap(address, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  GYRE_REQUIRE(there == address || errno == EEXIST, "cannot map %zu bytes at %p again: %s", size,
               address, strerror(errno));
}

size_t gyre__os_move(void *from, size_t size, size_t piece, void *to) {
  size_t done = 0;
#ifdef MREMAP_DONTUNMAP
  int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP; /* Linux 5.7 */
  int before = errno;
  if (gyre__source_is_set()) return 0;
  for (; done < size; done += piece) {
    if (GYRE_FAULT()) break;
    if (mremap((char *)from + done, piece, piece, flags, (char *)to + done) == MAP_FAILED) {
      map_again((char *)to + done, piece);
      break;
    }
  }
  errno = before;
#else
  (void)from, (void)size, (void)piece, (void)to;
#endif
  return done;
}

void *gyre__os_remap(void *address, size_t old_size, size_t new_size) {
  if (GYRE_FAULT()) {
    errno = ENOMEM;
    return NULL;
  }
  old_size = gyre__os_whole_pages(old_size);
  new_size = gyre__os_whole_pages(new_size);
  if (gyre__source_is_set()) return gyre__source_remap(address, old_size, new_size);
  void *moved = mremap(address, old_size, new_size, MREMAP_MAYMOVE);
  return moved == MAP_FAILED ? NULL : moved;
}

/* ---- sleeping ---- */

bool gyre__futex_wait(gyre__atomic_u32 *word, uint32_t expected, uint64_t timeout_ns) {
  struct timespec limit = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                           .tv_nsec = (long)(timeout_ns % NS_PER_S)};
  int before = errno;
  long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected,
                        timeout_ns == UINT64_MAX ? NULL : &limit, NULL, 0);
  bool in_time = result == 0 || errno != ETIMEDOUT;
  errno = before;
  return in_time;
}

void gyre__futex_wake(gyre__atomic_u32 *word, int count) {
  int before = errno;
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
  errno = before;
}

/* ---- threads ---- */

uint32_t gyre__os_thread_id(void) { return (uint32_t)syscall(SYS_gettid); }

void gyre__os_thread_name(char out[32]) {
  memset(out, 0, 32);
  (void)prctl(PR_GET_NAME, out, 0L, 0L, 0L); /* at most 16 bytes, with the 0 */
}

int gyre__cancel_put_off(void) {
  int state;
  (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return state;
}

void gyre__cancel_restore(int state) { (void)pthread_setcancelstate(state, NULL); }
