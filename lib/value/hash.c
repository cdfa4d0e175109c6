/* SPDX-License-Identifier: MIT */
/* The value protocol's functions, and the process's secret.
 *
 * XXH3 with a secret instead of a seed: 192 bytes of the system's random numbers go into every step of the
 * hash, where a seed only changes a secret that everybody knows. It costs nothing more.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/value/value.h"

/* ---- the secret ---- */

static unsigned char secret[XXH3_SECRET_DEFAULT_SIZE];
/* 1 once the secret is there. Who sees that sees the secret. */
static gyre__atomic_u32 secret_is_drawn;

/* For a system that refuses random numbers: the clock and addresses, spread by the hash itself. */
static void secret_improvise(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  uint64_t seed = (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uint64_t)(uintptr_t)&now;
  for (size_t i = 0; i < sizeof secret; i += sizeof seed) {
    seed = XXH3_64bits_withSeed(&i, sizeof i, seed);
    memcpy(secret + i, &seed, sizeof seed);
  }
}

static void secret_draw(void) {
  size_t got = 0;
  while (got < sizeof secret) {
    ssize_t n = getrandom(secret + got, sizeof secret - got, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    got += (size_t)n;
  }
  if (got < sizeof secret) secret_improvise();
  /* release: the secret; pairs with gyre_hash_bytes(). */
  gyre__store_release(&secret_is_drawn, 1);
}

static GYRE_NOINLINE void secret_wait(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  int saved = errno;
  (void)pthread_once(&once, secret_draw);
  errno = saved;
}

uint64_t gyre_hash_bytes(const void *data, size_t length) {
  /* acquire: pairs with secret_draw(). */
  if (GYRE_UNLIKELY(gyre__load_acquire(&secret_is_drawn) == 0)) secret_wait();
  return XXH3_64bits_withSecret(data, length, secret, sizeof secret);
}

/* ---- the protocol ---- */

/* How deep this thread is in containers that ask for what is inside them. Each level takes some hundred
 * bytes of stack; threads with the smallest stacks have 16 KiB. */
#define DEPTH_MAX 64
static __thread unsigned depth;

int gyre_hash(const void *object, uint64_t *hash) {
  if (object == NULL) return -EINVAL;
  const gyre_type *type = gyre_type_of(object);
  if (type->hash == NULL) {
    *hash = gyre_hash_bytes(&object, sizeof object);
    return 0;
  }
  if (depth == DEPTH_MAX) return -ELOOP;
  depth++;
  int result = type->hash(object, hash);
  depth--;
  return result;
}

int gyre_equal(const void *a, const void *b) {
  if (a == b) return 1;
  if (a == NULL || b == NULL) return 0;
  const gyre_type *type = gyre_type_of(a);
  if (type->equal == NULL) {
    const void *swapped = a;
    a = b;
    b = swapped;
    type = gyre_type_of(a);
    if (type->equal == NULL) return 0;
  }
  if (depth == DEPTH_MAX) return -ELOOP;
  depth++;
  int result = type->equal(a, b);
  depth--;
  return result;
}

int gyre_hash_refuse(const void *object, uint64_t *hash) {
  (void)object, (void)hash;
  return -EINVAL;
}
