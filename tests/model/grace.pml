/* SPDX-License-Identifier: MIT */
/* Grace periods: lib/thread's grace.c, with thread.c's idle, enter and safepoint.
 *
 * A shared pointer names one of NODES nodes. THREADS threads read it without counting, use what they read
 * until their next safepoint, put another node in its place, and free the old one when its ticket is over;
 * NOPS operations in all, then each goes idle for good. Checked: no node is used after it was freed; every
 * ticket that was wanted is over at the end, though nobody runs; nobody answers twice. Sequential
 * consistency. README.md lists the switches. */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef NOPS
#define NOPS 4
#endif
#define NODES 4
#define NONE NODES

byte ops = NOPS;
bit lock;
byte started, completed, wanted;
byte remaining;
bit running[THREADS];
bit asked[THREADS]; /* GYRE__REQ_HANDSHAKE */

byte pointer;     /* node */
byte fresh = 1;   /* the next node that was never used */
bit freed[NODES]; /* ghost */

inline should_begin() { /* three loads: s */
  c = completed;
  s = (started == c);
  s = s && (wanted > c);
  c = 0
}

inline ask(t) {
  if
  :: !running[t]
  :: else ->
     remaining++;
     asked[t] = 1;
#ifndef NO_SECOND_LOOK
     if
     :: running[t]
     :: else ->
        atomic { s = asked[t]; asked[t] = 0 };
#ifdef ANSWER_TWICE
        s = 1;
#endif
        if
        :: s -> s = 0; assert(remaining > 1); remaining--
        :: else
        fi
     fi
#endif
  fi
}

/* gyre__grace_begin(), and what an answer that turns out to be the last leads to. */
inline grace_begin() {
  do
  :: should_begin();
     if
     :: !s -> break
     :: else
     fi;
     s = 0;
     atomic { !lock -> lock = 1 };
     should_begin();
     if
     :: s ->
        s = 0;
#ifdef NO_ONE_OF_ITS_OWN
        remaining = 0;
#else
        remaining = 1;
#endif
        started++;
        t = 0;
        do
        :: t < THREADS -> ask(t); t++
        :: else -> t = 0; break
        od;
        lock = 0;
#ifdef NO_ONE_OF_ITS_OWN
        if
        :: remaining == 0 -> completed = started
        :: else
        fi
#else
        answer()
#endif
     :: else -> lock = 0
     fi
  od
}

/* One off `remaining`; the last one completes the period. */
inline answer() {
  d_step { assert(remaining > 0); remaining--; s = (remaining == 0) };
  if
  :: s -> s = 0; completed++
  :: else
  fi
}

#ifdef COMPLETE_AND_REST
#define BEGIN_NEXT skip
#else
#define BEGIN_NEXT grace_begin()
#endif

inline handshake() {
  atomic { s = asked[me]; asked[me] = 0 };
  if
  :: s -> s = 0; answer(); BEGIN_NEXT
  :: else
  fi
}

inline idle() {
#ifndef LEAVE_AND_REST
  grace_begin();
#endif
  borrowed = NONE;
  running[me] = 0;
#ifndef NO_IDLE_ANSWER
  handshake()
#endif
}

#ifdef TICKET_PRESENT
#define TICKET started
#else
#define TICKET (started + 1)
#endif

proctype thread(byte me) {
  byte borrowed = NONE, old = NONE, ticket, c, t;
  bit s;
  running[me] = 1;
  do
  :: atomic { ops > 0 && borrowed == NONE -> ops--; borrowed = pointer }
  :: atomic { borrowed != NONE -> assert(!freed[borrowed]); borrowed = NONE } /* used for the last time */
  :: atomic { ops > 0 && old == NONE && fresh < NODES -> ops--; old = pointer; pointer = fresh; fresh++ };
     ticket = TICKET;
     if /* deferred: wanted now, begun at the next safepoint or before the thread goes idle; or at once */
     :: d_step { if :: wanted < ticket -> wanted = ticket :: else fi }
     :: d_step { if :: wanted < ticket -> wanted = ticket :: else fi }; grace_begin()
     fi
  :: atomic { old != NONE && completed >= ticket -> freed[old] = 1; old = NONE; ticket = 0 }
  :: asked[me] -> borrowed = NONE; handshake()
  :: atomic { ops > 0 -> ops-- }; idle(); running[me] = 1 /* park, unpark */
  :: atomic { ops == 0 && borrowed == NONE -> break }
  od;
  idle();
  (false)
}

active proctype at_the_end() {
  timeout ->
  assert(completed >= wanted && started == completed && remaining == 0);
  assert(!asked[0] && !asked[1])
}

init {
  byte i;
  atomic {
    do
    :: i < THREADS -> run thread(i); i++
    :: else -> break
    od
  }
}
