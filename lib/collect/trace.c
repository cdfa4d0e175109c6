/* SPDX-License-Identifier: MIT */
/* GYRE_GCTRACE=1, or option gc_trace: a line on stderr for each collection of the collector's.
 *
 *     gyre: gc 7 full beside, bytes: 1600000 candidates, 400021 suspects, 399968 condemned,
 *     12.8 MB freed; 61.30 ms: find 40.11, prove 9.20, condemn 2.01, free 9.90; handshakes 0.03 0.04
 *     0.02, slowest "worker-1" 0.04; 1.2 MB in 38112 objects new since
 *
 * (one line). Times are milliseconds of the collecting thread. `new since` is what has been promoted
 * since the collection began: what waits for the next.
 */
#include <stdio.h>

#include "lib/collect/collect.h"

static const char *const generations[GYRE_GC_NGEN] = {"young", "middle", "full"};
static const char *const reasons[GYRE__REASONS] = {"call",   "objects", "bytes",
                                                   "memory", "always",  "shutdown"};

static double ms(uint64_t ns) { return (double)ns * 1e-6; }
static double mb(uint64_t bytes) { return (double)bytes * 1e-6; }

void gyre__trace(const struct gyre__collection *c, uint64_t duration_ns) {
  if (!gyre__option(gc_trace)) return;
  static uint64_t number; /* under the collector's lock */
  char shakes[96] = "none";
  size_t length = 0;
  for (unsigned i = 0; i < c->handshakes && i < GYRE__HANDSHAKES; i++)
    length += (size_t)snprintf(shakes + length, sizeof shakes - length, i == 0 ? "%.2f" : " %.2f",
                               ms(c->handshake_ns[i]));
  uint64_t bytes, objects;
  gyre__generation_waiting(&bytes, &objects);
  gyre__log("gc %llu %s %s, %s: %llu candidates, %llu suspects, %llu condemned, %.1f MB freed; "
            "%.2f ms: find %.2f, prove %.2f, condemn %.2f, free %.2f; handshakes %s, slowest "
            "\"%s\" %.2f; %.1f MB in %llu objects new since",
            (unsigned long long)++number, generations[c->generation],
            c->beside ? "beside" : "stopped", reasons[c->reason], (unsigned long long)c->candidates,
            (unsigned long long)c->first_suspects, (unsigned long long)c->dead, mb(c->freed_bytes),
            ms(duration_ns), ms(c->phase_ns[GYRE__PHASE_FIND]), ms(c->phase_ns[GYRE__PHASE_PROVE]),
            ms(c->phase_ns[GYRE__PHASE_CONDEMN]), ms(c->phase_ns[GYRE__PHASE_FREE]), shakes,
            c->slowest, ms(c->slowest_ns), mb(bytes), (unsigned long long)objects);
}
