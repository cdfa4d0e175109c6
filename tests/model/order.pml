/* SPDX-License-Identifier: MIT */
/* The concurrent collection under a weaker memory: one thread whose plain stores wait in a store buffer, one
 * collector, two objects of one slot each, a root slot. collect.pml has the same protocol with two threads
 * under sequential consistency.
 *
 * The buffer is a FIFO, as on x86; with REORDER each address drains when it likes, and an exchange waits for its
 * own address only, as ARM may have it. The thread reads what the collector writes (the mode, cleared marks) in
 * order if it reads the mode with acquire; before it has read a new one, its look at a mark may find what was
 * there before that was cleared. Counts are the thread's own plain stores, and slots are changed by exchanges.
 * README.md lists the switches. */
#ifndef NOPS
#define NOPS 2
#endif
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)
#define PINNED 1
#define LOGGING 2

/* Addresses: the root, two slots, two counts, two touch marks, the state of the thread's slot. */
#define COUNT(v) (2 + (v))
#define MARK(v) (4 + (v))
#define RUNNING 7
#define WORDS 8
byte memory[WORDS];
byte seen[WORDS]; /* by the thread, its own stores included; not for marks, which the collector writes too */

byte mode = PINNED;
bit asked;
byte g;              /* what the collector still believes to be garbage */
byte var, borrowed;  /* the thread's counted and uncounted pointer */
byte cleared;        /* marks that were cleared: the thread may still see them set */
byte marking;        /* marks in the buffer */
bit fresh;           /* it has read, with acquire, a mode stored after that, and sees them cleared */
bit logged;
bit weak_cleared, weak_lock; /* object 1's */
bit begun, over;
byte ops = NOPS;

#ifdef REORDER
byte waiting;
#define DRAINED (waiting == 0)
#define DRAINED_AT(a) (!HAS(waiting, a))
#define STORE(a, value) seen[a] = value; waiting = waiting | B(a)
#define ROOM true
#define DRAIN(a) d_step { HAS(waiting, a) -> waiting = waiting & ~B(a); memory[a] = seen[a] }
active proctype drain() provided (!over) {
  do
  :: DRAIN(COUNT(1))
  :: DRAIN(COUNT(2))
  :: d_step { HAS(waiting, MARK(1)) -> waiting = waiting & ~B(MARK(1)); memory[MARK(1)] = 1; marking = marking & ~B(1) }
  :: d_step { HAS(waiting, MARK(2)) -> waiting = waiting & ~B(MARK(2)); memory[MARK(2)] = 1; marking = marking & ~B(2) }
  :: DRAIN(RUNNING)
  od
}
#else
chan buffer = [4] of { byte, byte };
#define DRAINED empty(buffer)
#define DRAINED_AT(a) empty(buffer)
#define STORE(a, value) seen[a] = value; buffer!a, seen[a]
#define ROOM nfull(buffer)
active proctype drain() provided (!over) {
  byte a, value;
  do
  :: d_step {
       nempty(buffer) -> buffer?a, value; memory[a] = value;
       if
       :: a == MARK(1) || a == MARK(2) -> marking = marking & ~B(a - MARK(0))
       :: else
       fi;
       a = 0; value = 0 }
  od
}
#endif
/* Slots are changed by exchanges only. */
#define EXCHANGE(slot, value) seen[slot] = value; memory[slot] = value

/* ---- the thread ---- */
#ifdef NO_TOUCH_RETAIN
#define LOGS_RETAIN false
#else
#define LOGS_RETAIN (m == LOGGING)
#endif
#ifdef NO_TOUCH_RELEASE
#define LOGS_RELEASE false
#else
#define LOGS_RELEASE (m == LOGGING)
#endif
#ifdef NO_TOUCH_TAKE
#define LOGS_TAKE false
#else
#define LOGS_TAKE (m == LOGGING)
#endif

/* Looks, and stores only what is clear. */
#define IS_MARKED(v) (memory[MARK(v)] || HAS(marking, v))
#define SEES_OLD_MARK(v) (HAS(cleared, v) && !fresh)
#define SET_MARK(v) d_step { ROOM -> marking = marking | B(v); STORE(MARK(v), 1) }
inline touch(v, logs) {
  if
  :: !(logs)
  :: (logs) && (IS_MARKED(v) || SEES_OLD_MARK(v))
  :: (logs) && !IS_MARKED(v) -> SET_MARK(v)
  fi
}
#define UP(v) (seen[COUNT(v)] + 1)
#define DOWN(v) (seen[COUNT(v)] - 1)
inline count(v, new) {
  d_step { ROOM -> STORE(COUNT(v), new) }
}
inline touch_and_count(v, new, logs) {
  if
  :: touch(v, logs); count(v, new)
  :: (logs) -> count(v, new); touch(v, logs)
  fi
}
inline release(v) {
  do
  :: touch_and_count(v, DOWN(v), LOGS_RELEASE);
     atomic {
       if
       :: seen[COUNT(v)] == 0 && seen[v] != 0 -> v = seen[v] /* dead: its reference goes too */
       :: else -> v = 0; break
       fi }
  od
}
#define ALIVE(v) (seen[COUNT(v)] > 0)
#define MAY (!over && ops > 0)
#define END base = 0; p = 0

#define OPERATIONS(BASE, CAN)                                                                      \
  :: atomic { MAY && (CAN) && var == 0 && seen[BASE] != 0 -> ops--; p = seen[BASE] };              \
     touch_and_count(p, UP(p), LOGS_RETAIN);                                                          \
     atomic { var = p; END }                                                                       \
  :: atomic { MAY && (CAN) && seen[BASE] + var > 0 && DRAINED_AT(BASE) -> ops--; base = BASE;      \
       p = seen[base]; EXCHANGE(base, var); var = p };                                             \
     if                                                                                            \
     :: p != 0 -> touch(p, LOGS_TAKE)                                                              \
     :: else                                                                                       \
     fi;                                                                                           \
     atomic { END }

#ifdef MODE_RELAXED
#define ADOPT m = mode
#else
#define ADOPT atomic { m = mode; fresh = logged }
#endif

active proctype thread() provided (!over) {
  byte m = PINNED, p, base;
  begun;
  do
  OPERATIONS(0, true)
  OPERATIONS(var, var != 0)
  OPERATIONS(borrowed, borrowed != 0 && ALIVE(borrowed))
  :: d_step { MAY && var != 0 && borrowed != var -> ops--; borrowed = var }
  :: atomic { MAY && var == 0 && borrowed != 0 && ALIVE(borrowed) -> ops--; p = borrowed };
     touch_and_count(p, UP(p), LOGS_RETAIN);
     atomic { var = p; END }
  :: atomic { MAY && var != 0 -> ops--; p = var; var = 0 }; release(p)
#ifdef WEAK /* an upgrade; the lock's release comes after all that was done under it */
  :: atomic { MAY && var == 0 && !weak_lock && !weak_cleared && ALIVE(1) -> ops--; weak_lock = 1 };
     if
     :: !weak_cleared && ALIVE(1) ->
#ifdef WEAK_LOOKS
        touch_and_count(1, UP(1), true);
#else
        count(1, UP(1));
        SET_MARK(1);
#endif
        var = 1
     :: else
     fi;
#ifdef UNLOCK_RELAXED
     weak_lock = 0
#else
     atomic { DRAINED -> weak_lock = 0 }
#endif
#endif
#ifdef ANSWER_RELAXED /* nothing that was stored before needs to be out */
  :: atomic { asked -> borrowed = 0; asked = 0 }; ADOPT
#else
  :: atomic { asked && DRAINED -> borrowed = 0; asked = 0 }; ADOPT
#endif
  /* park, unpark */
  :: atomic { MAY && DRAINED -> ops--; borrowed = 0; seen[RUNNING] = 0; memory[RUNNING] = 0; asked = 0 };
#ifdef ENTER_PLAIN /* a store that may wait */
     d_step { ROOM -> STORE(RUNNING, 1) };
#else
     atomic { DRAINED -> seen[RUNNING] = 1; memory[RUNNING] = 1 };
#endif
     ADOPT
  od
}

/* ---- the collector ---- */
inline handshake(new) {
  d_step { mode = new; logged = logged | (new == LOGGING) };
  if
  :: memory[RUNNING] -> atomic { asked = memory[RUNNING] }; /* the second look of grace.c included */
     !asked
  :: else
  fi
}

/* The two are one component, if one was seen to refer to the other. */
inline drop(bad) {
  if
  :: (bad) != 0 && joined -> g = 0
  :: else -> g = g & ~(bad)
  fi
}

active proctype collector() {
  byte d[3], v, t;
  bit joined, locked;
  begun;
  if
  :: g = B(1)
  :: g = B(2)
  :: g = B(1) | B(2)
  fi;
  v = 1;
  do
  :: d_step { v <= 2 ->
       if
       :: HAS(g, v) && memory[MARK(v)] -> memory[MARK(v)] = 0; cleared = cleared | B(v)
       :: else
       fi; v++ }
  :: else -> v = 1; break
  od;
  handshake(LOGGING);
  do /* dead ones */
  :: d_step { v <= 2 ->
       if
       :: HAS(g, v) && memory[COUNT(v)] == 0 -> g = g & ~B(v)
       :: else
       fi; v++ }
  :: else -> v = 1; break
  od;
  do
  :: d_step { v <= 2 -> d[v] = memory[COUNT(v)]; v++ }
  :: else -> v = 1; break
  od;
  do
  :: d_step { v <= 2 ->
       t = memory[v];
       if
       :: HAS(g, v) && t != 0 && HAS(g, t) -> d[t]--; joined = joined | (t != v)
       :: else
       fi; t = 0; v++ }
  :: else -> v = 0; break
  od;
  atomic {
    t = (HAS(g, 1) && d[1] != 0) << 1 | (HAS(g, 2) && d[2] != 0) << 2;
    drop(t); t = 0; d[1] = 0; d[2] = 0;
    if
    :: g == 0 -> over = 1; goto end
    :: else
    fi };
  handshake(PINNED);
#ifdef WEAK
  if
  :: HAS(g, 1) -> atomic { !weak_lock -> weak_lock = 1 }
  :: else
  fi;
#endif
  atomic {
    t = (HAS(g, 1) && memory[MARK(1)]) << 1 | (HAS(g, 2) && memory[MARK(2)]) << 2;
    drop(t); over = 1;
    assert(!HAS(g, var) && !HAS(g, borrowed) && !HAS(g, seen[0]));
    assert(HAS(g, 1) || !ALIVE(1) || !HAS(g, seen[1]));
    assert(HAS(g, 2) || !ALIVE(2) || !HAS(g, seen[2]));
#ifdef REACH
    assert(g == 0);
#endif
  };
end:
  skip
}

/* ---- any heap ---- */
#define ANY(v)                                                                                     \
  if                                                                                               \
  :: v = 0                                                                                         \
  :: v = 1                                                                                         \
  :: v = 2                                                                                         \
  fi

init {
  byte i, dead;
  atomic {
    ANY(seen[0]); ANY(seen[1]); ANY(seen[2]); ANY(var);
    if
    :: true
    :: dead = B(1)
    :: dead = B(2)
    :: dead = B(1) | B(2)
    fi;
    /* A dead one's slot is as it was. */
    if :: seen[0] -> seen[COUNT(seen[0])]++ :: else fi;
    if :: seen[1] && !HAS(dead, 1) -> seen[COUNT(seen[1])]++ :: else fi;
    if :: seen[2] && !HAS(dead, 2) -> seen[COUNT(seen[2])]++ :: else fi;
    if :: var -> seen[COUNT(var)]++ :: else fi;
    ((seen[COUNT(1)] == 0) == HAS(dead, 1) && (seen[COUNT(2)] == 0) == HAS(dead, 2));
    seen[RUNNING] = 1;
    do
    :: i < WORDS -> memory[i] = seen[i]; i++
    :: else -> i = 0; break
    od;
    memory[MARK(1)] = 1; memory[MARK(2)] = 1; dead = 0;
    begun = 1
  }
}
