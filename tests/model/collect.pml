/* SPDX-License-Identifier: MIT */
/* The concurrent collection: what the collector may condemn while threads go on. Handshakes, touches, the
 * second count with its components, weak references, and the round after finalizers.
 *
 * One collection from just after its first handshake, in any heap: NOBJ objects of one slot each, a root slot
 * that is no candidate's, a variable for each of two threads, objects that are being destroyed. Suspects are
 * any subset, so nothing rests on how they are found. The threads do NOPS operations together, and pass
 * safepoints when they are asked. Checked: when a component is condemned, nobody has a reference to it.
 *
 * A touch is one step, though the code looks first and sets only what is clear: to find it set and leave it
 * is the same as to set it then. Whether that look may be stale is order.pml's question, when memory is
 * free again limbo.pml's. Sequential consistency. README.md lists the switches. */
#ifndef NOBJ
#define NOBJ 2
#endif
#ifndef NOPS
#define NOPS 2
#endif
#define Z 8 /* bias of what may be negative */
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)

#define PINNED 1
#define LOGGING 2
#define CLOSED 4 /* flag, from the end of the first logging on */
#define LOGS(m) (((m) & 3) == LOGGING)
byte mode = PINNED;
bit running[2] = 1;
bit asked[2]; /* GYRE__REQ_HANDSHAKE */

byte slot[NOBJ + 1]; /* 0: the root */
byte touched;        /* sets of objects */
byte dead;           /* GYRE__GC_DEAD */
byte var[2];         /* each thread's counted reference */
byte borrowed[2];    /* its uncounted one */
byte hand[2];        /* and what its operation has in hand */
byte dying[2];       /* dead objects whose slots it has still to empty */
byte ops = NOPS;
bit begun, over;

byte weak; /* object 1 has a weak reference: WEAK_OPEN, and a lock */
#define WEAK_OPEN 1
#define WEAK_CLEARED 2
bit weak_lock;

/* ---- counts ---- */
#ifdef SPLIT
#define NOBODY 2
byte owner[NOBJ + 1];
byte mine[NOBJ + 1];
byte others[NOBJ + 1]; /* the shared count, biased; it includes a merge request's reference */
byte queued, merged;
bit taken[2];
#define ALIVE(v) (mine[v] + others[v] > Z)
#define COUNT_UP(v)                                                                                \
  if                                                                                               \
  :: owner[v] == me -> mine[v]++                                                                  \
  :: else -> others[v]++                                                                           \
  fi
#else
byte count[NOBJ + 1];
#define ALIVE(v) (count[v] > 0)
#define COUNT_UP(v) count[v]++
#endif

/* ---- which touches are made, and when ---- */
#ifdef NO_TOUCH_RETAIN
#define LOGS_RETAIN false
#else
#define LOGS_RETAIN LOGS(m)
#endif
#ifdef NO_TOUCH_RELEASE
#define LOGS_RELEASE false
#else
#define LOGS_RELEASE LOGS(m)
#endif
#ifdef NO_TOUCH_TAKE
#define LOGS_TAKE false
#else
#define LOGS_TAKE LOGS(m)
#endif
#ifdef NO_TOUCH_MERGE
#define LOGS_MERGE false
#else
#define LOGS_MERGE LOGS(m)
#endif
#ifdef WEAK_LOGGING_ONLY
#define LOGS_WEAK LOGS(m)
#else
#define LOGS_WEAK true
#endif
/* Upgrades take the lock in closed mode only. */
#ifdef NO_CLOSED
#define UNLOCKED true
#else
#define UNLOCKED (!(m & CLOSED))
#endif
#ifdef NO_WEAK_LOCK
#define WEAK_LOCK skip
#define WEAK_UNLOCK skip
#else
#define WEAK_LOCK weak_lock = 1
#define WEAK_UNLOCK weak_lock = 0
#endif

#define p hand[me]
/* Each operation touches what it counts or takes out: with its first step or, TOUCH_LATE, with its last. */
#ifdef TOUCH_LATE
#define TOUCH_FIRST(when) skip
#define TOUCH_LAST(when) touched = touched | ((when) << p)
#else
#define TOUCH_FIRST(when) touched = touched | ((when) << p)
#define TOUCH_LAST(when) skip
#endif
#define END base = 0; p = 0; goto next

/* ---- release of p, and of nothing if p is 0 ---- */
#define DIE d_step { dead = dead | B(p); dying[me] = dying[me] | B(p) }

#ifdef SPLIT
#define RELEASE                                                                                    \
  if                                                                                               \
  :: atomic { p == 0 -> END }                                                                      \
  :: atomic { p != 0 && owner[p] == me && mine[p] > 1 -> mine[p]--; TOUCH_LAST(LOGS_RELEASE); END } \
  :: atomic { p != 0 && owner[p] == me && mine[p] == 1 -> mine[p] = 0 };                           \
     atomic { /* an open request is closed with it */                                              \
       owner[p] = NOBODY; merged = merged | B(p); others[p] = others[p] - HAS(queued, p); queued = queued & ~B(p);          \
       if                                                                                          \
       :: others[p] != Z -> TOUCH_LAST(LOGS_RELEASE); END                                          \
       :: else                                                                                     \
       fi };                                                                                       \
     DIE                                                                                           \
  :: atomic { p != 0 && owner[p] != me ->                                                          \
       if                                                                                          \
       :: HAS(merged, p) -> assert(others[p] > Z); others[p]--;                                    \
          if                                                                                       \
          :: others[p] > Z -> TOUCH_LAST(LOGS_RELEASE); END                                        \
          :: else                                                                                  \
          fi                                                                                       \
       :: else ->                                                                                 \
          if                                                                                       \
          :: others[p] == Z && !HAS(queued, p) -> queued = queued | B(p)                           \
          :: else -> others[p]--                                                                   \
          fi;                                                                                      \
          TOUCH_LAST(LOGS_RELEASE); END                                                            \
       fi };                                                                                       \
     DIE                                                                                           \
  fi;                                                                                              \
  atomic { TOUCH_LAST(LOGS_RELEASE); END }
#else
#define RELEASE                                                                                    \
  atomic {                                                                                         \
    if                                                                                             \
    :: p == 0 -> END                                                                               \
    :: else -> assert(count[p] > 0); count[p]--                                                    \
    fi;                                                                                            \
    if                                                                                             \
    :: count[p] > 0 -> TOUCH_LAST(LOGS_RELEASE); END                                               \
    :: else                                                                                        \
    fi                                                                                             \
  };                                                                                               \
  atomic { DIE; TOUCH_LAST(LOGS_RELEASE); END }
#endif

/* ---- the threads ---- */
#define MAY (begun && ops > 0)
#define REACHES(base) (base == 0 || ALIVE(base))

/* Operations on the slot of BASE, which the thread reaches if CAN: load (count and look again); take, swap or
 * put; store, of NULL or of what is in the variable. */
#define OPERATIONS(BASE, CAN)                                                                      \
  :: atomic { MAY && (CAN) && var[me] == 0 && slot[BASE] != 0 -> ops--; base = BASE; p = slot[base]; \
       TOUCH_FIRST(LOGS_RETAIN) };                                                                 \
     atomic {                                                                                      \
       if                                                                                          \
       :: ALIVE(p) -> COUNT_UP(p)                                                                  \
       :: else -> END                                                                              \
       fi };                                                                                       \
     atomic {                                                                                      \
       TOUCH_LAST(LOGS_RETAIN);                                                                    \
       if                                                                                          \
       :: slot[base] == p && REACHES(base) -> var[me] = p; END                                     \
       :: else -> TOUCH_FIRST(LOGS_RELEASE)                                                        \
       fi };                                                                                       \
     RELEASE                                                                                       \
  :: atomic { MAY && (CAN) && slot[BASE] + var[me] > 0 -> ops--; base = BASE; p = slot[base];      \
       if                                                                                          \
       :: p == 0 -> slot[base] = var[me]; var[me] = 0; END                                         \
       :: else -> TOUCH_FIRST(LOGS_TAKE)                                                           \
       fi };                                                                                       \
     atomic {                                                                                      \
       if                                                                                          \
       :: slot[base] == p && REACHES(base) -> slot[base] = var[me]; var[me] = p                    \
       :: else -> END                                                                              \
       fi };                                                                                       \
     atomic { TOUCH_LAST(LOGS_TAKE); END }                                                         \
  :: atomic { MAY && (CAN) && slot[BASE] != 0 -> ops--; base = BASE; p = slot[base]; TOUCH_FIRST(LOGS_RELEASE) }; \
     atomic {                                                                                      \
       if                                                                                          \
       :: slot[base] == p && REACHES(base) -> slot[base] = 0                                       \
       :: slot[base] == p && REACHES(base) && var[me] != 0 -> slot[base] = var[me]; var[me] = 0    \
       :: else -> END                                                                              \
       fi };                                                                                       \
     RELEASE
#ifdef BORROW
#define BORROW_FROM(BASE, CAN)                                                                     \
  :: d_step { MAY && (CAN) && slot[BASE] != 0 && borrowed[me] != slot[BASE] -> ops--; borrowed[me] = slot[BASE] }
#else
#define BORROW_FROM(BASE, CAN)
#endif
#ifdef BORROW_ACROSS
#define BORROWS_END skip
#else
#define BORROWS_END borrowed[me] = 0
#endif

#ifdef MODE_FIRST /* some other work has led it there */
#define ASKED true
#else
#define ASKED asked[me]
#endif
proctype thread(byte me) provided (!over) {
  byte m, base, k, t;
  m = mode;
next:
  do
#ifndef QUIET
  OPERATIONS(0, true)
  OPERATIONS(var[me], var[me] != 0)
  BORROW_FROM(0, true)
  BORROW_FROM(var[me], var[me] != 0)
  :: atomic { MAY && var[me] != 0 -> ops--; p = var[me]; var[me] = 0; TOUCH_FIRST(LOGS_RELEASE) }; RELEASE
#ifdef BORROW /* a borrowed pointer is good while the object is alive */
#define GOOD (borrowed[me] != 0 && ALIVE(borrowed[me]))
  OPERATIONS(borrowed[me], GOOD)
  :: d_step { MAY && var[me] != 0 && borrowed[me] != var[me] -> ops--; borrowed[me] = var[me] }
  :: atomic { MAY && var[me] == 0 && GOOD -> ops--; p = borrowed[me]; TOUCH_FIRST(LOGS_RETAIN) };
     atomic {
       if
       :: ALIVE(p) -> COUNT_UP(p); var[me] = p
       :: else -> END
       fi };
     atomic { TOUCH_LAST(LOGS_RETAIN); END }
#endif
#ifdef WEAK
  :: d_step { MAY && weak == 0 && var[me] == 1 -> ops--; weak = WEAK_OPEN }
  :: atomic { MAY && weak == WEAK_OPEN && var[me] == 0 && UNLOCKED -> ops--; p = 1; TOUCH_FIRST(LOGS_RETAIN) };
     atomic {
       if
       :: ALIVE(1) -> COUNT_UP(1)
       :: else -> END
       fi };
     /* The second look: the collector has not got there while an upgrade without the lock is under way. */
     atomic { assert(weak == WEAK_OPEN); var[me] = 1; TOUCH_LAST(LOGS_RETAIN); END }
  :: atomic { MAY && weak == WEAK_OPEN && var[me] == 0 && !(UNLOCKED) && !weak_lock -> ops--; p = 1; WEAK_LOCK };
     atomic {
       if
       :: weak == WEAK_OPEN && ALIVE(1) -> TOUCH_FIRST(LOGS_WEAK)
       :: else -> WEAK_UNLOCK; END
       fi };
     atomic {
       if
       :: ALIVE(1) -> COUNT_UP(1); var[me] = 1
       :: else -> WEAK_UNLOCK; END
       fi };
     atomic { TOUCH_LAST(LOGS_WEAK); WEAK_UNLOCK; END }
#endif
#endif
  :: atomic { dying[me] != 0 -> /* the cascade goes on, at once or later */
       k = 1;
       do
       :: HAS(dying[me], k) -> break
       :: else -> k++
       od;
       dying[me] = dying[me] & ~B(k); p = slot[k]; slot[k] = 0; k = 0;
       if
       :: p != 0 -> TOUCH_FIRST(LOGS_RELEASE)
       :: else -> END
       fi };
     RELEASE
#ifdef SPLIT /* who has the slot of the owner merges, and drops the request's reference */
#define SERVE(v)                                                                                   \
  :: atomic { HAS(queued, v) && owner[v] == me -> p = v; TOUCH_FIRST(LOGS_MERGE); MERGE_FIRST };   \
     MERGE_LAST; atomic { TOUCH_FIRST(LOGS_RELEASE) }; RELEASE                                     \
  :: atomic { HAS(queued, v) && owner[v] == 1 - me && !running[owner[v]] && !taken[1 - me] -> taken[1 - me] = 1; \
       p = v; TOUCH_FIRST(LOGS_MERGE); MERGE_FIRST };                                              \
     MERGE_LAST; atomic { taken[1 - me] = 0; TOUCH_FIRST(LOGS_RELEASE) }; RELEASE
#define MERGE_FIRST k = mine[p]; mine[p] = 0; owner[p] = NOBODY
#define MERGE_LAST d_step { others[p] = others[p] + k; k = 0; queued = queued & ~B(p); merged = merged | B(p) }
  SERVE(1)
#if NOBJ > 1
  SERVE(2)
#endif
#endif
#ifdef PARK
  :: atomic { MAY -> ops--; BORROWS_END; running[me] = 0; asked[me] = 0 };
#ifdef SPLIT
     atomic { !taken[me] -> running[me] = 1 };
#else
     running[me] = 1;
#endif
     m = mode
#endif
  :: atomic { ASKED -> /* a safepoint */
       BORROWS_END;
#ifdef MODE_FIRST
       m = mode };
     asked[me] = 0
#else
       asked[me] = 0 }; /* the announcement */
     m = mode
#endif
  od
}

#undef p

/* ---- the collector ---- */
#define EACH(body)                                                                                 \
  v = 1;                                                                                           \
  do                                                                                               \
  :: v <= NOBJ -> body; v++                                                                        \
  :: else -> v = 0; break                                                                          \
  od
#define EACH_OF(set, body)                                                                         \
  EACH(if :: HAS(set, v) -> body :: else fi)
/* Each in a step of its own. */
#define STEPS(body)                                                                                \
  v = 1;                                                                                           \
  do                                                                                               \
  :: atomic { v <= NOBJ && !HAS(g, v) -> v++ }                                                     \
  :: atomic { v <= NOBJ && HAS(g, v) -> body; v++ }                                                \
  :: atomic { v > NOBJ -> v = 0; break }                                                           \
  od

inline handshake(new) {
  mode = new;
  d_step { asked[0] = running[0]; asked[1] = running[1] };
  !asked[0] && !asked[1]
}

/* Counts g: d[v], the references that v has less those seen; edge[v], what v was seen to refer to. */
#ifdef SPLIT
#ifdef NO_QUEUED /* the request's reference is not counted */
#define READ_OTHERS d[v] = d[v] + others[v] - Z - HAS(queued, v)
#else
#define READ_OTHERS d[v] = d[v] + others[v] - Z
#endif
#define READ_MINE d[v] = d[v] + mine[v]
#ifdef SHARED_FIRST
#define READ_COUNTS STEPS(READ_OTHERS); STEPS(READ_MINE)
#else
#define READ_COUNTS STEPS(READ_MINE); STEPS(READ_OTHERS)
#endif
#else
#define READ_COUNTS STEPS(d[v] = d[v] + count[v])
#endif
#define READ_SLOTS                                                                                 \
  STEPS(if :: HAS(g, slot[v]) -> edge[v] = slot[v]; d[edge[v]]-- :: else fi)
inline count_edges() {
  skip;
  d_step { EACH(d[v] = Z; edge[v] = 0) };
#ifdef SLOTS_FIRST
  READ_SLOTS;
  READ_COUNTS
#else
  READ_COUNTS;
  READ_SLOTS
#endif
}

/* `bad` and all that is connected with it leave g. */
inline drop_components(whole) {
  n = 0;
  do
  :: n < NOBJ && whole ->
     EACH_OF(g, if :: edge[v] != 0 && (HAS(bad, v) || HAS(bad, edge[v])) -> bad = bad | B(v) | B(edge[v]) :: else fi);
     n++
  :: else -> n = 0; break
  od;
  g = g & ~bad; bad = 0
}
#ifdef OBJECTWISE_COUNT
#define WHOLE_COUNT false
#else
#define WHOLE_COUNT true
#endif
#ifdef OBJECTWISE_TOUCH
#define WHOLE_TOUCH false
#else
#define WHOLE_TOUCH true
#endif

/* References to g come from g. */
inline check_condemned() {
  assert(!HAS(g, var[0]) && !HAS(g, var[1]) && !HAS(g, borrowed[0]) && !HAS(g, borrowed[1]));
  assert(!HAS(g, hand[0]) && !HAS(g, hand[1]) && !HAS(g, slot[0]));
#ifdef SPLIT
  assert(!(g & queued));
#endif
  EACH(assert(HAS(g, v) || !HAS(g, slot[v])); assert(!HAS(g, v) || ALIVE(v)))
}

#ifdef QUIET
/* What is left is reached from the root and the variables. */
inline check_garbage() {
  bad = B(slot[0]) | B(var[0]) | B(var[1]);
  n = 0;
  do
  :: n < NOBJ -> EACH_OF(bad, bad = bad | B(slot[v])); n++
  :: else -> n = 0; break
  od;
  EACH(assert(HAS(bad, v) || HAS(g, v) || !ALIVE(v)));
  bad = 0
}
#endif

#ifdef FINALIZERS
/* Holds what is condemned, merged, and runs a finalizer, which may put a member into the root, or move there
 * what it finds in a member. */
inline finalize() {
  d_step {
    held = g;
#ifdef SPLIT
    EACH_OF(g, others[v] = others[v] + mine[v] + 1; mine[v] = 0; owner[v] = NOBODY);
    merged = merged | g;
#else
    EACH_OF(g, count[v]++)
#endif
  };
  atomic {
    v = 1;
    do
    :: v < NOBJ -> v++
    :: break
    od;
    if
    :: HAS(g, v) && slot[0] == 0 -> me = 2; COUNT_UP(v); me = 0; slot[0] = v
    :: HAS(g, v) && slot[0] == 0 && slot[v] != 0 -> slot[0] = slot[v]; slot[v] = 0
    :: true
    fi;
    v = 0
  }
}
#endif

proctype collector() {
  short d[NOBJ + 1];
  byte edge[NOBJ + 1];
  byte g, bad, v, t, n, held, me;
  bit again, z, locked;
  begun;
  /* phase A: any of them */
  atomic {
#ifdef QUIET
    EACH(if :: ALIVE(v) || HAS(dead, v) -> g = g | B(v) :: else fi);
#else
    EACH(if :: ALIVE(v) || HAS(dead, v) -> g = g | B(v) :: true fi);
#endif
    if
    :: g == 0 -> over = 1; goto end
    :: else
    fi
  };
second:
#ifndef CLEAR_LATE
  touched = touched & ~g; /* B0 */
#endif
#ifdef NO_WAIT_LOGGING
  mode = LOGGING | CLOSED * again; d_step { asked[0] = running[0]; asked[1] = running[1] };
#else
  handshake(LOGGING | CLOSED * again); /* H1 */
#endif
#ifdef CLEAR_LATE
  touched = touched & ~g;
#endif
#ifndef NO_DEAD_LOOK
  STEPS(g = g & ~(dead & B(v)));
#endif
#ifdef QUIET /* B1: roots and what they reach leave */
  count_edges();
  skip;
  d_step {
    EACH_OF(g, if :: d[v] != Z -> bad = bad | B(v) :: else fi);
    n = 0;
    do
    :: n < NOBJ -> EACH_OF(bad, if :: edge[v] != 0 -> bad = bad | B(edge[v]) :: else fi); n++
    :: else -> n = 0; break
    od;
    g = g & ~bad; bad = 0
  };
#endif
  count_edges(); /* B2 */
  skip;
  d_step {
    EACH_OF(g, if :: d[v] != Z + HAS(held, v) -> bad = bad | B(v) :: else fi);
    drop_components(WHOLE_COUNT);
    EACH(d[v] = 0)
  };
#ifdef NO_WAIT_PINNED
  mode = PINNED | CLOSED; d_step { asked[0] = running[0]; asked[1] = running[1] };
#else
  handshake(PINNED | CLOSED); /* H2 */
#endif
#if defined(WEAK) && !defined(NO_WEAK_LOCK)
  if /* B3 */
  :: HAS(g, 1) && weak == WEAK_OPEN -> atomic { !weak_lock -> weak_lock = 1; locked = 1 }
  :: else
  fi;
#endif
  d_step { bad = g & touched; drop_components(WHOLE_TOUCH); EACH(edge[v] = 0) };
  d_step {
    if
    :: HAS(g, 1) && weak == WEAK_OPEN -> weak = WEAK_CLEARED
    :: else
    fi;
    if
    :: locked -> weak_lock = 0; locked = 0
    :: else
    fi;
    check_condemned();
#ifdef REACH
    assert(NOBJ < 2 || !HAS(g, 1) || slot[1] != 2 || slot[2] != 1);
#endif
#ifdef QUIET
    check_garbage();
#endif
  };
#ifdef FINALIZERS
  if
  :: !again && g != 0 ->
     again = 1;
     finalize();
     goto second
  :: else
  fi;
#endif
  d_step { over = 1; g = 0; held = 0; again = 0 };
end:
  skip
}

/* ---- any heap ---- */
#define ANY(v)                                                                                     \
  v = 0;                                                                                           \
  do                                                                                               \
  :: v < NOBJ -> v++                                                                               \
  :: break                                                                                         \
  od
#ifdef SPLIT
#define REFERENCE(v) mine[v] = mine[v] + (v != 0)
#else
#define REFERENCE(v) count[v] = count[v] + (v != 0)
#endif
#define EACH_SLOT(body)                                                                            \
  i = 1;                                                                                           \
  do                                                                                               \
  :: i <= NOBJ -> body; i++                                                                        \
  :: else -> break                                                                                 \
  od

init {
  byte i, v;
  atomic {
    ANY(v); slot[0] = v; REFERENCE(v);
    EACH_SLOT(ANY(v); slot[i] = v; REFERENCE(v));
    ANY(v); var[0] = v; REFERENCE(v);
    ANY(v); var[1] = v; REFERENCE(v);
    /* What nobody refers to was never there, or is dead and has perhaps a reference still to drop. */
#ifdef SPLIT
    EACH_SLOT(others[i] = Z);
#endif
    EACH_SLOT(
      if
      :: ALIVE(i)
#ifndef QUIET
      :: !ALIVE(i) -> dead = dead | B(i); dying[0] = dying[0] | B(i)
#endif
      :: !ALIVE(i) && slot[i] == 0
      fi);
    /* The threads are alike, but for the dead. */
    (dying[0] != 0 || var[0] <= var[1]);
#ifdef SPLIT /* any owner that OWNERS lets it have, and any split */
    EACH_SLOT(
      if
      :: owner[i] = (i - 1) % 2
      :: owner[i] = NOBODY
#ifndef OWNERS_FIXED
      :: owner[i] = i % 2
#endif
      fi;
      if
      :: owner[i] == NOBODY -> merged = merged | B(i); others[i] = Z + mine[i]; mine[i] = 0
      :: owner[i] != NOBODY
      :: owner[i] != NOBODY && mine[i] > 1 -> mine[i]--; others[i]++
      :: owner[i] != NOBODY && mine[i] > 0 -> mine[i]++; others[i]--; queued = queued | B(i); others[i]++ /* the request's */
      fi);
#endif
    touched = (1 << (NOBJ + 1)) - 2; /* by who knows whom */
#ifdef WEAK
    if
    :: true
    :: ALIVE(1) -> weak = WEAK_OPEN
    fi;
#endif
    i = 0; v = 0;
    run thread(0);
    run thread(1);
    run collector();
    begun = 1
  }
}
