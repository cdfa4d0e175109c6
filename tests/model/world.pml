/* SPDX-License-Identifier: MIT */
/* Stopping the world: lib/thread's world.c, with thread.c's enter, idle and safepoint.
 *
 * THREADS threads work, pass safepoints, park, stop the world and let it go, NOPS operations in all; then
 * each detaches. Futexes are modelled with their sleepers, so that a lost wake-up is a deadlock.
 * Checked: nobody works in a stopped world; a stop does not begin before everybody who idled for the last
 * one runs again; no deadlock. Sequential consistency. README.md lists the switches. */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef NOPS
#define NOPS 5
#endif

byte ops = NOPS;
bit lock;    /* world.lock */
bit stopped; /* world.stopped */
byte waiters;
bit running[THREADS]; /* the slot's state */
bit stop_bit[THREADS];
bit waited_flag[THREADS]; /* GYRE__SLOT_WAITED */

/* Sleepers of the three futex words: threads for the world's end, the stopper for a slot or for the waiters. */
bit sleeps[THREADS];
bit stopper_sleeps;

/* ghosts */
byte holder; /* thread + 1 for which the world stands still */
bit owed[THREADS]; /* idled while the world was stopped and has not run since */

#define EACH(n, body)                                                                              \
  n = 0;                                                                                           \
  do                                                                                               \
  :: n < THREADS -> body; n++                                                                      \
  :: else -> n = 0; break                                                                          \
  od

inline world_count() {
  if
  :: !counted -> waiters++; counted = 1
  :: else
  fi
}

/* state_set(): an exchange, which also clears the flag, and a wake-up if that was set */
inline idle(for_stop) {
  atomic { running[me] = 0; owed[me] = (for_stop && stopped); z = waited_flag[me]; waited_flag[me] = 0 };
#ifndef NO_STATE_WAKE
  if
  :: z -> z = 0; stopper_sleeps = 0
  :: else
  fi
#else
  z = 0
#endif
}

inline world_wait() {
  if
  :: stopped ->
     world_count();
     do
     :: !stopped -> break
     :: else ->
        if
        :: atomic { stopped -> sleeps[me] = 1 }; !sleeps[me]
        :: else
        fi
     od
  :: else
  fi
}

/* enter(); `counted` says whether the thread is among the waiters */
inline enter() {
  do
  :: world_wait();
     atomic { running[me] = 1; waited_flag[me] = 0;
#ifdef NO_LOOK_AFTER_RUNNING
       break
#endif
     };
     if
     :: !stopped -> break
     :: else ->
#ifndef COUNT_LATE
        world_count();
#endif
        idle(1)
     fi
  od;
  owed[me] = 0;
  if
  :: counted ->
     counted = 0;
     d_step { waiters--; z = (waiters == 0) };
     if
     :: z -> z = 0; stopper_sleeps = 0
     :: else
     fi
  :: else
  fi
}

/* A safepoint that serves the stop bit. */
inline serve_stop() {
  atomic { stop_bit[me] -> stop_bit[me] = 0 };
  if
  :: stopped ->
#ifndef COUNT_LATE
     world_count();
#endif
     idle(1);
     enter()
  :: else
  fi
}

inline await_idle(n) {
  do
  :: !running[n] || gave_up -> break
#ifdef GIVE_UP
  :: running[n] && !gave_up -> gave_up = 1 /* the time is over */
#endif
  :: running[n] && !gave_up ->
     stop_bit[n] = 1;
     /* the flag is set by a compare-exchange, and the futex compares state and flag again */
     if
     :: atomic { running[n] -> waited_flag[n] = 1 };
        if
        :: atomic { running[n] && waited_flag[n] -> stopper_sleeps = 1 };
#ifdef GIVE_UP
           if
           :: !stopper_sleeps
           :: atomic { stopper_sleeps -> stopper_sleeps = 0 } /* the time is over */
           fi
#else
           !stopper_sleeps
#endif
        :: else
        fi
     :: else
     fi
  od
}

inline stop_begin() {
#ifdef NO_STOP_BEGIN
  skip
#else
  do
  :: b = waiters;
     if
     :: b == 0 -> break
     :: else
     fi;
     if
     :: atomic { waiters == b -> stopper_sleeps = 1 }; !stopper_sleeps
     :: else
     fi
  od;
  b = 0
#endif
}

inline resume() {
  atomic { stopped = 0; holder = 0 };
#ifndef NO_RESUME_WAKE
  d_step { EACH(n, sleeps[n] = 0) };
#endif
  lock = 0
}

inline stop() {
  /* gyre__lock_parked() */
  if
  :: atomic { !lock -> lock = 1 }
  :: else -> idle(0); atomic { !lock -> lock = 1 }; enter()
  fi;
  stop_begin();
  atomic { stopped = 1; EACH(n, assert(n == me || !owed[n])) };
#ifndef LOOK_ONCE
  n = 0;
  do
  :: n == THREADS -> break
  :: n == me -> n++
  :: else -> await_idle(n); n++
  od;
  n = 0;
#endif
#ifdef GIVE_UP
  if
  :: gave_up -> gave_up = 0
  :: else -> holder = me + 1
  fi
#else
  holder = me + 1
#endif
}

proctype thread(byte me) {
  byte n, b;
  bit counted, z, gave_up;
  enter();
  do
  :: atomic { ops > 0 -> ops--; assert(holder == 0) }             /* work */
  :: stop_bit[me] -> serve_stop()
  :: atomic { ops > 0 -> ops-- }; idle(0); enter()                 /* park, unpark */
  :: atomic { ops > 0 -> ops-- }; stop(); resume()
  :: atomic { ops == 0 -> break }
  od;
  idle(0) /* detach */
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
