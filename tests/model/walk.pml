/* SPDX-License-Identifier: MIT */
/* A walk of the heap takes a counted reference to an object that it has found by its address: count, wait for a
 * grace period, look at the header. One block; its owner T makes objects in it, drops them by their count, and
 * finds them dead in its own collections; W counts from outside, ROUNDS times. README.md lists the switches. */
#ifndef NOPS
#define NOPS 6
#endif
#ifndef ROUNDS
#define ROUNDS 3
#endif
#define FREE 0
#define ALIVE 1
#define DEAD 2

/* ---- the header ---- */
byte gc;
byte own;
byte count; /* the shared word: its count, */
bit merged; /* and its state */
bit published;

bit look_lock;
bit asked; /* W waits for T's next safepoint */
bit emptied; /* ghost: its slots have been emptied */
bit held;    /* ghost: W has been given it */
byte rounds;

inline block_free() {
  gc = FREE;
  assert(!held)
}

/* The owner drops its last count. */
inline release_last() {
  own = 0;
  if
  :: count == 0 ->
     gc = DEAD; /* taken apart */
     emptied = 1;
     block_free()
  :: else -> d_step { merged = 1; published = 0 }
  fi
}

inline birth() {
  d_step {
    if
    :: merged && count == 0 -> merged = 0; published = 0
    :: else
    fi;
    own = 1;
    emptied = 0
  }
  gc = ALIVE
}

/* A look: the object is part of garbage, but for a count from outside. It is freed at once, or is left to be
 * released because its death runs program code. */
inline look() {
  bool left = false;
#ifndef NO_LOCK
  if
  :: atomic { !look_lock -> look_lock = 1 }
  :: look_lock -> goto next
  fi;
#endif
  if
  :: published -> skip
  :: else ->
     if
     :: own = 0;
        if
        :: count == 0 -> block_free()
        :: else -> left = true
        fi
     :: left = true
     fi;
     if
     :: left ->
        emptied = 1;
#ifndef NO_DEAD_MARK
        gc = DEAD;
#endif
        own = 1
     :: else
     fi
  fi;
#ifndef NO_LOCK
  look_lock = 0;
#endif
  if
  :: left -> release_last()
  :: else
  fi
}

active proctype T() {
  byte ops = 0;
next:
  do
  :: asked -> asked = 0 /* a safepoint */
  :: ops < NOPS && gc == FREE -> ops++; birth()
  :: ops < NOPS && gc == ALIVE && !merged && own == 1 -> ops++; release_last()
  :: ops < NOPS && gc == ALIVE && !merged && own == 1 -> ops++; look()
  :: ops == NOPS && rounds == ROUNDS -> break
  od
}

active proctype W() {
  bit counted;
  do
  :: rounds < ROUNDS ->
     counted = 0;
#ifndef NO_LOCK
     atomic { !look_lock -> look_lock = 1 }
#endif
     if
     :: gc == ALIVE ->
        /* gyre__try_count() */
        d_step {
          if
          :: merged && count == 0
          :: else -> count++; published = !merged; counted = 1
          fi
        }
     :: else
     fi;
#ifndef NO_LOCK
     look_lock = 0;
#endif
     if
     :: counted ->
#ifndef NO_GRACE
        asked = 1;
        !asked;
#endif
        if
#ifdef NO_HEADER_LOOK
        :: true ->
#else
        :: gc == ALIVE ->
#endif
           held = 1;
           assert(gc == ALIVE && !emptied);
#ifdef REACH
           assert(false);
#endif
           held = 0;
           d_step { count--; counted = merged && count == 0 };
           if
           :: counted -> gc = DEAD; emptied = 1; gc = FREE
           :: else
           fi
#ifndef NO_HEADER_LOOK
        :: else -> d_step { count-- } /* it came too late */
#endif
        fi
     :: else
     fi;
     rounds++
  :: else -> break
  od
}
