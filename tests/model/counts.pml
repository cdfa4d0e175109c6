/* SPDX-License-Identifier: MIT */
/* Counts: lib/object's refcount.c, merge.c and slot.c, with what they need of lib/thread (the state of a
 * slot), lib/heap (type-stable blocks, grace periods for pages) and lib/weak (a look again, one bit).
 *
 * One owner, NT other threads, NOBJ blocks that are used again and again, one slot (a shared reference
 * field) that all of them read and write. NOPS operations by all of them together, in any order; then
 * everybody drops what he holds, but the owner may sleep for ever with references in hand. Checked:
 * nobody uses or is given a dead object, nothing dies twice or while referred to, nothing is left behind.
 *
 * The memory model is sequential consistency. Where the code relies on "write, then look" on both sides,
 * a switch turns the two round on one side, which is what a store buffer would do.
 *
 * README.md lists the switches. */
#ifndef NT
#define NT 2
#endif
#ifndef NOBJ
#define NOBJ 1
#endif
#ifndef NOPS
#define NOPS 6
#endif
#ifndef GENS
#define GENS 2 /* lives a block may have */
#endif
#ifndef MAXH
#define MAXH 2 /* references a thread may hold to one object */
#endif
#ifdef TWO_PAGES
#define NPAGE NOBJ
#define PAGE(o) (o)
#else
#define NPAGE 1
#define PAGE(o) 0
#endif
#ifdef TWO_BITS
#define BIT(o) (1 << (o))
#else
#define BIT(o) 1 /* all blocks share a bit of their page's mask */
#endif

/* ---- a block's header: local, owner, and the shared word (count biased by Z; state) ---- */
#define Z 6
#define DEFAULT 0
#define QUEUED 1
#define MERGED 2
byte mine[NOBJ];
bit own[NOBJ];
byte count[NOBJ] = Z;
byte state[NOBJ];
bit special[NOBJ];  /* BITS_SPECIAL: weak reference, or finalizer */
bit finalize[NOBJ]; /* BIT_FINALIZE */

/* ---- the weak reference's control block ---- */
bit known[NOBJ]; /* control->object is not NULL */

/* ---- ghosts: what is true, whatever the counts say ---- */
bit alive[NOBJ];
bit used[NOBJ]; /* the block is not on a free list; also the header's gc byte */
byte lives[NOBJ];
byte held[(NT + 1) * NOBJ];
#define HELD(t, o) held[(t)*NOBJ + (o)]

/* ---- pages, and the owner's slot ---- */
byte mask[NPAGE];
byte link[NPAGE];
byte top; /* of the stack of pages: page + 1 */
#define RUNNING 0
#define IDLE 1 /* parked, or an orphan */
#define TAKEN 2
byte slot_state;
bit request;

byte slot; /* the shared reference field: object + 1 */
byte ops = NOPS;
bit inside[NT + 1];

/* ---- grace periods, for pages only ---- */
#ifdef REAP
bit awaited[NT + 1];
bit emptied[NPAGE];
bit raw[NPAGE];
byte reaps = 1;
#define TOUCH(o) assert(!raw[PAGE(o)])
#if NT > 1
#define ALL_ANSWERED (!awaited[0] && !awaited[1] && !awaited[2])
#define AWAIT_ALL awaited[0] = 1; awaited[1] = inside[1]; awaited[2] = inside[2]
#else
#define ALL_ANSWERED (!awaited[0] && !awaited[1])
#define AWAIT_ALL awaited[0] = 1; awaited[1] = inside[1]
#endif
#ifdef NO_REAP_CHECK
#define REAP_CHECK true
#else
#define REAP_CHECK (!mask[0])
#endif
#define QUIET(t) awaited[t] = 0
#else
#define TOUCH(o) skip
#define QUIET(t) skip
#endif

#if NT > 1
#define OTHERS_HOLD(o) (HELD(1, o) + HELD(2, o))
#else
#define OTHERS_HOLD(o) HELD(1, o)
#endif
#if NOBJ > 1
#define ANY_USED(p) (used[0] || used[1])
#else
#define ANY_USED(p) used[0]
#endif
#ifdef TWO_PAGES
#undef ANY_USED
#define ANY_USED(p) used[p]
#endif

#define REFERENCES(o) (HELD(0, o) + OTHERS_HOLD(o) + (slot == (o) + 1))

/* ---- death ---- */
inline die(o) {
  d_step { assert(!finalize[o]); assert(alive[o] && REFERENCES(o) == 0); alive[o] = 0 };
  if
  :: special[o] -> known[o] = 0
  :: else
  fi;
  d_step { assert(used[o]); used[o] = 0; special[o] = 0; finalize[o] = 0 }
}

/* The finalizer of an object whose last reference we hold; it may bring the object back. */
#define LAST_AND_FINALIZER(o) (finalize[o] && state[o] == MERGED && count[o] == Z + 1)
#define RUN_FINALIZER(o)                                                                           \
  assert(alive[o]); finalize[o] = 0;                                                               \
  if                                                                                               \
  :: slot == 0 -> slot = o + 1; count[o]++                                                         \
  :: true                                                                                          \
  fi

/* One off a MERGED object: gyre__release_shared() for what a merge request left. */
inline drop_merged(o) {
  do
  :: atomic { LAST_AND_FINALIZER(o) -> RUN_FINALIZER(o) }
  :: atomic { !LAST_AND_FINALIZER(o) -> assert(state[o] == MERGED && count[o] > Z); count[o]--;
       z = (count[o] == Z); break }
  od;
  if
  :: z -> z = 0; die(o)
  :: else
  fi
}

/* gyre__merge(): by the owner or who has its slot taken; owner and local are theirs alone, so it is one step.
 * The count that is left: left. */
inline merge(o, keep) {
  d_step {
    assert(used[o] && state[o] != MERGED);
    count[o] = count[o] + mine[o];
    if
    :: state[o] == QUEUED && !keep -> count[o]--
    :: else
    fi;
    mine[o] = 0; own[o] = 0; state[o] = MERGED; left = count[o] - Z
  }
}

/* ---- the merge queue ---- */
inline push(p) {
  do
  :: link[p] = top; n = link[p];
#ifdef PUSH_PLAIN
     top = p + 1; break
#else
     if
     :: atomic { top == n -> top = p + 1 }; break
     :: else
     fi
#endif
  od;
  n = 0
}

inline mask_set(p, b) {
  d_step { z = (mask[p] != 0); mask[p] = mask[p] | b };
  if
  :: !z -> push(p)
  :: else -> z = 0
  fi
}

#define TAKE_FROM(o, b)                                                                            \
  if                                                                                               \
  :: PAGE(o) == n && (bits & BIT(o)) && used[o] && state[o] == QUEUED -> TOUCH(o); merge(o, MERGE_KEEPS); left = 0; b = 1 \
  :: else                                                                                          \
  fi
#ifdef TAKER_CLOSES
#define MERGE_KEEPS 0
#else
#define MERGE_KEEPS 1
#endif

/* queue_take(): pops one page, empties its mask, merges what is queued in it: b0, b1. */
inline queue_take() {
  n = top - 1; /* only who has the slot pops */
  do
  :: atomic { top == n + 1 -> top = link[n] }; break
  :: else -> n = top - 1
  od;
#ifdef REAP
  assert(!raw[n]);
#endif
#ifdef PLAIN_MASK
  left = mask[n]; mask[n] = 0;
#else
  atomic { left = mask[n]; mask[n] = 0 };
#endif
  atomic { bits = left; left = 0 };
  TAKE_FROM(0, b0);
#if NOBJ > 1
  TAKE_FROM(1, b1);
#endif
  n = 0; bits = 0
}

inline release_batch() {
  if
  :: b0 -> b0 = 0; drop_merged(0)
  :: else
  fi;
#if NOBJ > 1
  if
  :: b1 -> b1 = 0; drop_merged(1)
  :: else
  fi
#endif
}

/* settle_idle(), for a slot whose thread does not run. */
inline settle_idle() {
  do
  :: top == 0 -> break
  :: else ->
#ifdef NO_TAKE
     if
     :: slot_state == RUNNING -> break
     :: else
     fi;
     if
     :: top == 0 -> break
     :: else -> queue_take()
     fi;
#else
     if
     :: atomic { slot_state == IDLE -> slot_state = TAKEN }
     :: atomic { slot_state == RUNNING -> break }
     fi;
     if
     :: top != 0 -> queue_take()
     :: else
     fi;
     slot_state = IDLE;
#endif
     release_batch()
  od
}

inline merge_request(o) {
  mask_set(PAGE(o), BIT(o));
#ifndef NO_REQUEST
  request = 1;
#endif
#ifndef NO_STATE_LOOK
  if
  :: slot_state != RUNNING -> settle_idle()
  :: else
  fi
#endif
}

/* gyre__release_shared() */
inline release_shared(o) {
  do
  :: atomic { LAST_AND_FINALIZER(o) -> RUN_FINALIZER(o) }
  :: atomic { !LAST_AND_FINALIZER(o) ->
       TOUCH(o);
       if
       :: state[o] == DEFAULT && count[o] == Z -> state[o] = QUEUED; q = 1
       :: else ->
          assert(state[o] != MERGED || count[o] > Z);
          count[o]--; z = (state[o] == MERGED && count[o] == Z)
       fi;
       break }
  od;
  if
  :: z -> z = 0; die(o)
  :: q -> q = 0; merge_request(o)
  :: else
  fi
}

/* Adding a reference to the shared word, unless it is (MERGED, 0): ok. */
#define TRY_COUNT(o)                                                                               \
  d_step {                                                                                         \
    TOUCH(o);                                                                                      \
    if                                                                                             \
    :: state[o] == MERGED && count[o] == Z -> ok = 0                                               \
    :: else -> count[o]++; ok = 1                                                                  \
    fi                                                                                             \
  }

/* ---- operations that everybody has; `me`, `o` chosen ---- */

/* The rest of a load after the pointer o was read and found to be another's. */
inline load_shared() {
  TRY_COUNT(o);
  if
  :: !ok
#ifdef NO_RECHECK
  :: ok -> ok = 0; assert(alive[o]); HELD(me, o)++
#else
  :: ok ->
     ok = 0;
     if
     :: atomic { slot == o + 1 -> assert(alive[o]); HELD(me, o)++ }
     :: else -> release_shared(o)
     fi
#endif
  fi
}

#define BEGIN ops--; inside[me] = 1
#define END atomic { o = 0; inside[me] = 0; QUIET(me) }
#define CHOOSE(want) (want)

/* What any thread may do with object O at this moment, by guards. */
#define OPERATIONS(O)                                                                              \
  :: atomic { ops > 0 && HELD(me, O) > 0 && HELD(me, O) < MAXH && SHARED_COUNTS(O) ->              \
       BEGIN; o = O; assert(alive[o]); count[o]++; HELD(me, o)++ }; END     /* retain */           \
  :: atomic { ops > 0 && HELD(me, O) > 0 && slot == 0 ->                                           \
       BEGIN; assert(alive[O]); slot = O + 1; HELD(me, O)-- }; END          /* put */              \
  MAKE_WEAK(O)                                                                                     \
  UPGRADE(O)

#ifdef WEAK
#define MAKE_WEAK(O)                                                                               \
  :: atomic { ops > 0 && HELD(me, O) > 0 && !known[O] && !special[O] ->                            \
       BEGIN; o = O; assert(alive[o]); known[o] = 1; special[o] = 1 }; END
/* The control block is the one of this life of the block. Count, then look again. */
#ifdef NO_WEAK_RECHECK
#define KNOWN_STILL true
#else
#define KNOWN_STILL (known[o] && lives[o] == n)
#endif
#define UPGRADE(O)                                                                                 \
  :: atomic { ops > 0 && known[O] && HELD(me, O) < MAXH -> BEGIN; o = O; n = lives[O]; MINE(o) };  \
     if                                                                                            \
     :: q -> q = 0; d_step { if :: mine[o] > 0 -> assert(alive[o]); mine[o]++; HELD(me, o)++ :: else fi } \
     :: else ->                                                                                    \
        TRY_COUNT(o);                                                                              \
        if                                                                                         \
        :: !ok                                                                                     \
        :: ok ->                                                                                   \
           ok = 0;                                                                                 \
           if                                                                                      \
           :: atomic { KNOWN_STILL -> assert(alive[o] && lives[o] == n); HELD(me, o)++ }           \
           :: atomic { !(KNOWN_STILL) -> n = 0 }; release_shared(o)                                \
           fi                                                                                      \
        fi                                                                                         \
     fi;                                                                                           \
     atomic { n = 0; o = 0; inside[me] = 0; QUIET(me) }
#else
#define MAKE_WEAK(O)
#define UPGRADE(O)
#endif

#ifdef SLOT_PLAIN
#define EMPTY_SLOT o = slot - 1 }; atomic { slot = 0; assert(alive[o]); HELD(me, o)++ }
#else
#define EMPTY_SLOT o = slot - 1; slot = 0; assert(alive[o]); HELD(me, o)++ }
#endif

proctype other(byte me) {
  byte o, n, left, bits;
  bit z, q, ok, b0, b1;
#define SHARED_COUNTS(O) true
#define MINE(O) q = 0
  do
  :: atomic { ops > 0 && slot != 0 && HELD(me, slot - 1) < MAXH -> BEGIN; o = slot - 1 }; load_shared(); END
  :: atomic { ops > 0 && slot != 0 && HELD(me, slot - 1) < MAXH -> BEGIN; EMPTY_SLOT; END
  OPERATIONS(0)
  :: atomic { HELD(me, 0) > 0 -> o = 0; inside[me] = 1; HELD(me, o)-- }; release_shared(o); END
#if NOBJ > 1
  OPERATIONS(1)
  :: atomic { HELD(me, 1) > 0 -> o = 1; inside[me] = 1; HELD(me, o)-- }; release_shared(o); END
#endif
#ifdef REAP
  :: atomic { awaited[me] -> awaited[me] = 0 }
#endif
  od
#undef SHARED_COUNTS
#undef MINE
}

/* ---- the owner ---- */

#ifdef CLOSE_KEEPS
#define CLOSE(o) merge(o, 1)
#else
#define CLOSE(o) merge(o, 0)
#endif

/* release_owned(): the shared word is looked at first, the bits after that. */
inline release_owned(o) {
  if
  :: d_step { mine[o] > 1 -> mine[o]-- }
  :: else ->
#ifdef BITS_FIRST
     q = special[o];
#endif
     /* mine[o] is 0 for a moment, which nobody can see */
     d_step { ok = (state[o] == DEFAULT && count[o] == Z) };
#ifdef NO_BITS
     q = 0;
#elif !defined(BITS_FIRST)
     q = special[o];
#endif
     if
     :: q -> q = 0; ok = 0; merge(o, 0); left = 0; release_shared(o)
     :: else ->
        mine[o] = 0;
        if
        :: ok -> ok = 0; own[o] = 0; die(o)
        :: else ->
           CLOSE(o);
           if
           :: left == 0 -> die(o)
           :: else -> left = 0
           fi
        fi
     fi
  fi
}

inline settle() {
  do
  :: top == 0 -> break
  :: else -> queue_take(); release_batch()
  od
}

inline enter() {
#ifdef ENTER_NO_WAIT
  slot_state = RUNNING
#else
  atomic { slot_state == IDLE -> slot_state = RUNNING }
#endif
}

#ifdef ALLOC_BLIND
#define BIRTH_WORD(O) state[O] = DEFAULT; count[O] = Z
#else
#define BIRTH_WORD(O) if :: state[O] == MERGED && count[O] == Z -> state[O] = DEFAULT :: else fi
#endif
#ifdef FINALIZERS
#define BIRTH_FINALIZER(O) if :: finalize[O] = 1; special[O] = 1 :: true fi
#else
#define BIRTH_FINALIZER(O) skip
#endif
#ifdef REAP
#define MAY_BEAR(O) (!raw[PAGE(O)])
#else
#define MAY_BEAR(O) true
#endif

#define OWNER_OPERATIONS(O)                                                                        \
  :: atomic { ops > 0 && !used[O] && lives[O] < GENS && MAY_BEAR(O) -> BEGIN; used[O] = 1; alive[O] = 1; \
       lives[O]++; own[O] = 1; mine[O] = 1; HELD(me, O) = 1; BIRTH_WORD(O); BIRTH_FINALIZER(O);   \
       MAY_EMPTY(O) }; END                                                                         \
  :: atomic { ops > 0 && HELD(me, O) > 0 && HELD(me, O) < MAXH && own[O] -> BEGIN; mine[O]++; HELD(me, O)++ }; END \
  :: atomic { HELD(me, O) > 0 -> o = O; inside[me] = 1; HELD(me, o)-- };                           \
     if                                                                                            \
     :: own[o] -> release_owned(o)                                                                 \
     :: else -> release_shared(o)                                                                  \
     fi; inside[me] = 0; o = 0
#ifdef REAP
#define MAY_EMPTY(O) emptied[PAGE(O)] = 0
#else
#define MAY_EMPTY(O) skip
#endif

proctype owner(byte me) {
  byte o, n, left, bits;
  bit z, q, ok, b0, b1;
#define SHARED_COUNTS(O) (!own[O])
#define MINE(O) q = own[O]
#undef END
#define END atomic { o = 0; inside[me] = 0 }
  do
  :: atomic { ops > 0 && slot != 0 && HELD(me, slot - 1) < MAXH -> BEGIN; o = slot - 1 };
     if
     :: d_step { own[o] && mine[o] > 0 -> assert(alive[o]); mine[o]++; HELD(me, o)++ }
     :: else -> load_shared()
     fi;
     END
  :: atomic { ops > 0 && slot != 0 && HELD(me, slot - 1) < MAXH -> BEGIN; EMPTY_SLOT; END
#ifdef EARLY_LOOK /* the emptied slot waits in a store buffer while the shared word is read */
  :: atomic { ops > 0 && slot != 0 && own[slot - 1] && mine[slot - 1] == 1 && !special[slot - 1] -> BEGIN; o = slot - 1;
       ok = (state[o] == DEFAULT && count[o] == Z) };
     if
     :: ok -> ok = 0;
        if
        :: atomic { slot == o + 1 -> slot = 0; mine[o] = 0; own[o] = 0 }; die(o)
        :: else
        fi
     :: else
     fi;
     END
#endif
  OPERATIONS(0)
  OWNER_OPERATIONS(0)
#if NOBJ > 1
  OPERATIONS(1)
  OWNER_OPERATIONS(1)
#endif
  :: request -> inside[me] = 1; request = 0; settle(); atomic { inside[me] = 0; QUIET(me) } /* a safepoint */
#ifdef PARK
  :: atomic { ops > 0 -> BEGIN };
     do
     :: settle();
        atomic { slot_state = IDLE; QUIET(me) };
#ifdef NO_LOOK_AFTER_PARK
        break
#else
        if
        :: top == 0 -> break
        :: else -> enter()
        fi
#endif
     od;
#ifdef INHERIT /* it was a detach: what the thread held is now held elsewhere, and an heir comes */
     atomic {
       HELD(1, 0) = HELD(1, 0) + HELD(0, 0); HELD(0, 0) = 0;
#if NOBJ > 1
       HELD(1, 1) = HELD(1, 1) + HELD(0, 1); HELD(0, 1) = 0;
#endif
     };
#endif
     inside[me] = 0;
     atomic { ops > 0 -> BEGIN }; /* or never */
     enter();
     inside[me] = 0
#endif
#ifdef REAP
  /* The page is found empty, and a ticket is taken; it is made raw when the grace period is over. */
  :: d_step { !emptied[0] && !raw[0] && reaps > 0 && !ANY_USED(0) -> reaps--; emptied[0] = 1; AWAIT_ALL }
  :: d_step { awaited[me] && !request -> awaited[me] = 0 } /* a safepoint with nothing to settle */
  :: d_step { emptied[0] && !ANY_USED(0) && ALL_ANSWERED && REAP_CHECK -> raw[0] = 1; emptied[0] = 0 }
#endif
  od
}

#ifdef REAP
#define CHECK_WORD(o) skip
#else
#define CHECK_WORD(o) assert(alive[o] || count[o] == Z)
#endif
#define CHECK_LEFT(o)                                                                              \
  assert(alive[o] == (REFERENCES(o) > 0));                                                         \
  assert(!alive[o] || mine[o] + count[o] == Z + REFERENCES(o));                                   \
  assert(state[o] != QUEUED && used[o] == alive[o]);                                               \
  CHECK_WORD(o)

/* Nobody can do anything any more: nothing may be left undone. */
active proctype at_the_end() {
  timeout ->
  assert(top == 0 && mask[0] == 0 && !inside[0] && !inside[1]);
#if NT > 1
  assert(!inside[2]);
#endif
  CHECK_LEFT(0);
#if NOBJ > 1
  CHECK_LEFT(1)
#endif
}

init {
  atomic {
    run owner(0);
    run other(1);
#if NT > 1
    run other(2)
#endif
  }
}
