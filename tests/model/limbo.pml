/* SPDX-License-Identifier: MIT */
/* Limbo: when the memory of what dies beside a collection is free again, so that the collector, which reads its
 * candidates at any time between the end of its first handshake and its last, never reads a block that is on a
 * free list or somebody's new object.
 *
 * ROUNDS collections follow one another; THREADS threads make objects, promote, merge and destroy them, pass
 * safepoints when asked, park, and exit with their limbo list, which an heir inherits: NOPS operations in
 * all. No references here: an object dies when a thread says so. README.md lists the switches. */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef NOBJ
#define NOBJ 2
#endif
#ifndef NOPS
#define NOPS 6
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define NONE 255
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)

#define IDLE 0
#define PINNED 1
#define LOGGING 2
#define WORD(epoch, mode) ((epoch) << 2 | (mode))
#define MODE(word) ((word) & 3)
#define EPOCH(word) ((word) >> 2)
byte word;
bit running[THREADS];
bit asked[THREADS];

/* ---- blocks: sets. The header says present, dead, promoted. The page's owner makes and promotes. ---- */
byte alive; /* ghosts: has a count; its block is not on a free list */
byte used;
byte present;
byte dead;
byte promoted;
byte merged;     /* has no owner: anybody may destroy it */
byte candidates; /* what the collector may read */
byte page_owner[NOBJ];
byte ops = NOPS;

/* ---- each slot's lists, which an heir inherits ---- */
byte limbo[THREADS];
byte limbo_word[THREADS]; /* the mode word in which it was filled */
byte ripe[THREADS];
byte dying[THREADS];

/* A block goes to a free list. */
inline free(set) {
  assert(!(candidates & (set)));
  used = used & ~(set);
  present = present & ~(set); dead = dead & ~(set); promoted = promoted & ~(set); merged = merged & ~(set)
}

/* ---- the threads ---- */
#if defined(RIPE_ANY_WORD)
#define IS_RIPE (m != limbo_word[me])
#elif defined(RIPE_PINNED)
#define IS_RIPE (m != limbo_word[me] && MODE(m) != LOGGING)
#elif defined(ONE_LIST) /* what is added later to a list that was ripe goes with it */
#define IS_RIPE (MODE(m) == IDLE || (EPOCH(m) != EPOCH(limbo_word[me]) && MODE(m) == LOGGING))
#elif defined(RIPE_IDLE) /* the older rule, which is safe too */
#define IS_RIPE (MODE(m) == IDLE)
#else
#define IS_RIPE (MODE(m) == IDLE || EPOCH(m) != EPOCH(limbo_word[me]))
#endif
inline adopt() {
  d_step {
    m = word;
    if
    :: limbo[me] != 0 && IS_RIPE -> ripe[me] = ripe[me] | limbo[me]; limbo[me] = 0; limbo_word[me] = 0
    :: else
    fi
  }
}

#ifdef NO_LIMBO
#define TO_LIMBO(v) false
#elif defined(PROMOTED_ONLY)
#define TO_LIMBO(v) (MODE(m) != IDLE && HAS(promoted, v))
#else
#define TO_LIMBO(v) (MODE(m) != IDLE && (HAS(promoted, v) || HAS(merged, v)))
#endif

#define OPERATIONS(v)                                                                              \
  :: d_step { ops > 0 && page_owner[v] == me && !HAS(used, v) -> ops--; alive = alive | B(v); used = used | B(v); \
       present = present | B(v); dead = dead & ~B(v); promoted = promoted & ~B(v) } \
  :: d_step { ops > 0 && HAS(alive & ~merged, v) && (page_owner[v] == me || !running[page_owner[v]]) -> \
       ops--; merged = merged | B(v) }                                                             \
  :: atomic { ops > 0 && page_owner[v] == me && HAS(present & ~dead & ~promoted, v) -> ops--;      \
       PROMOTE_GAP; present = present | B(v); promoted = promoted | B(v) }                                                   \
  /* Dies: flagged, to be taken apart at once or at a later safepoint; or a leaf, in one go. */   \
  :: d_step { ops > 0 && HAS(alive, v) && (HAS(merged, v) || page_owner[v] == me) -> ops--;        \
       alive = alive & ~B(v); dead = dead | B(v); dying[me] = dying[me] | B(v) }                   \
  :: d_step { HAS(dying[me], v) -> dying[me] = dying[me] & ~B(v); z = TO_LIMBO(v) }; GIVE_UP(v)    \
  :: d_step { ops > 0 && HAS(alive, v) && (HAS(merged, v) || page_owner[v] == me) -> ops--;        \
       alive = alive & ~B(v) };                                                                    \
     z = TO_LIMBO(v); GIVE_UP(v)
#define GIVE_UP(v)                                                                                 \
  if                                                                                               \
  :: d_step { z -> z = 0; dead = dead | B(v); limbo[me] = limbo[me] | B(v); LIMBO_WORD }           \
  :: d_step { !z -> free(B(v)) }                                                                   \
  fi
#ifdef PROMOTE_BLIND
#define PROMOTE_GAP ops = ops }; atomic { ops = ops
#else
#define PROMOTE_GAP skip /* one compare-exchange */
#endif
#define LIMBO_WORD if :: limbo_word[me] == 0 -> limbo_word[me] = m :: else fi

inline safepoint() {
  asked[me] = 0;
  adopt()
}

proctype thread(byte me) {
  byte m, w, o;
  bit z;
  adopt();
  do
  OPERATIONS(0)
#if NOBJ > 1
  OPERATIONS(1)
#endif
#if NOBJ > 2
  OPERATIONS(2)
#endif
  :: d_step { ripe[me] != 0 -> free(ripe[me]); ripe[me] = 0 } /* at leisure */
  /* Frees what another, who is idle, has in limbo; it passes no safepoint after it has read the word. */
  :: d_step { ops > 0 -> ops--; w = word };
#ifdef HELP_ACROSS
     if
     :: asked[me] -> safepoint()
     :: else
     fi;
#endif
     d_step {
       o = (me + 1) % THREADS;
       if
       :: !running[o] && limbo[o] != 0 && (MODE(w) == IDLE || EPOCH(w) != EPOCH(limbo_word[o])) ->
          free(limbo[o]); limbo[o] = 0; limbo_word[o] = 0
       :: else
       fi;
       w = 0; o = 0 }
  :: asked[me] -> safepoint()
  /* Parks, or exits and is inherited with its lists; perhaps for ever. */
  :: d_step { ops > 0 -> ops--; running[me] = 0; asked[me] = 0 };
     running[me] = 1;
     adopt()
  od
}

/* ---- the collector ---- */
#ifdef WAIT_IDLE
#define WAIT(mode, answered) answered
#else /* the last one is not waited for */
#define WAIT(mode, answered) (mode == IDLE || (answered))
#endif
#define ASK(t) asked[t] = running[t]
inline handshake(mode) {
  word = WORD(epoch, mode);
#if THREADS > 2
  d_step { ASK(0); ASK(1); ASK(2) };
  WAIT(mode, !asked[0] && !asked[1] && !asked[2])
#else
  d_step { ASK(0); ASK(1) };
  WAIT(mode, !asked[0] && !asked[1])
#endif
}
inline read_candidates() {
  v = 0;
  do
  :: d_step { v < NOBJ ->
       if
       :: HAS(present & promoted & ~dead, v) -> candidates = candidates | B(v)
       :: else
       fi;
       v++ }
  :: d_step { v == NOBJ -> v = 0 }; break
  od
}

proctype collector() {
  byte epoch, v;
  do
  :: epoch == ROUNDS -> break
  :: else ->
     epoch++;
#ifdef CANDIDATES_EARLY
     read_candidates();
     handshake(PINNED);
#else
     handshake(PINNED);
     read_candidates();
#endif
     assert(!(candidates & ~used));
     handshake(LOGGING);
     handshake(PINNED);
     candidates = 0;
     handshake(IDLE)
  od
}

init {
  byte i;
  atomic {
    do
    :: i < NOBJ -> page_owner[i] = i % THREADS; i++
    :: else -> break
    od;
    do
    :: i > 0 -> i--
    :: else -> break
    od;
    running[0] = 1; running[1] = 1;
    run thread(0);
    run thread(1);
#if THREADS > 2
    running[2] = 1;
    run thread(2);
#endif
    run collector()
  }
}
