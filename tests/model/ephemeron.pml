/* SPDX-License-Identifier: MIT */
/* Ephemerons beside the concurrent collection: lib/weak/map.c with lib/collect's set.c, suspect.c, dead.c.
 *
 * A map, a key and a value, an entry of the map, a root slot, a slot in the key and one in the value, in any
 * heap of these; two threads, which hold any of the objects, and the collector, from just after its first
 * handshake, with any suspects. The threads do NOPS operations together; what deaths leave to be done (a
 * watch to be told, a map to be cleared, an entry to be finished, references to be dropped) is done at any
 * time later, safepoints in between. Operations on counts and slots are one step: collect.pml has their
 * insides. Checked: what is condemned nobody has or counts any more but the collector; when map or key is
 * dead the value's count has been given back, once.
 *
 * README.md lists the switches. */
#ifndef NOPS
#define NOPS 2
#endif
#define M 1
#define K 2
#define V 3
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)

#define PINNED 1
#define LOGGING 2
#define CLOSED 4
#define LOGS(m) (((m) & 3) == LOGGING)
byte mode = PINNED;
bit asked[2];

byte count[4];
byte slot[4]; /* 0: the root; the map has the entry instead */
byte held[2]; /* sets: what the threads have counted */
byte touched, dead, condemned, freed;
byte ops = NOPS;
bit begun, over;

/* The control blocks of map and key: the object is known, dead by its count, or condemned. */
#define OPEN 0
#define KILLED 1
#define CONDEMNED 2
byte control[4];
bit lock[4];

/* The entry. `holds`: a count on the value. `armed`: the key's watch. */
bit linked, holds, armed, told, core_lock;

/* What is left to be done, by whom: 0, 1: the threads; 2: the collector. */
byte drops[12]; /* references to be dropped: DROPS */
#define DROPS(t, o) drops[(t)*4 + (o)]
byte dying[3];  /* sets: dead objects whose slots are to be emptied */
bit tell[3], clear[3], finish[3];

/* Nobody but the collector counts what is condemned. */
#define MINE(o) assert(me == 2 || !HAS(condemned, o)); assert(!HAS(freed, o))
#define COUNTS_UP(o) MINE(o); count[o]++; touched = touched | (LOGS(m) << (o))
#define COUNTS_DOWN(o) MINE(o); touched = touched | (LOGS(m) << (o)); assert(count[o] > 0); count[o]--

/* Drops a reference. What is condemned is held by the collector. */
inline release(o) {
  atomic {
    COUNTS_DOWN(o);
    if
    :: count[o] == 0 && !HAS(condemned, o) -> dead = dead | B(o); dying[me] = dying[me] | B(o); died = o
    :: else
    fi
  };
  if
  :: died == M || died == K -> atomic { !lock[died] -> control[died] = KILLED };
     atomic {
       if
       :: died == M -> clear[me] = 1
       :: else -> tell[me] = 1
       fi;
       died = 0
     }
  :: else -> died = 0
  fi
}

/* A counted reference from a weak one: up. */
#ifdef UNLOCKED
#define MUST_LOCK false
#else
#define MUST_LOCK (m & CLOSED)
#endif
inline upgrade(o) {
  if
  :: MUST_LOCK -> atomic { !lock[o] -> lock[o] = 1 };
     atomic {
       if
       :: control[o] == OPEN && count[o] > 0 -> COUNTS_UP(o); touched = touched | B(o); up = 1
       :: else
       fi;
       lock[o] = 0
     }
  :: else ->
     atomic {
       if
       :: control[o] == OPEN && count[o] > 0 -> COUNTS_UP(o); up = 1
       :: else
       fi
     }
  fi
}

/* side_died(), of the key. */
inline side_died() {
#ifdef NO_MAP_UPGRADE
  mine = 1;
#else
  upgrade(M);
#ifdef LEAVE_ALL
  mine = up;
#else
  mine = (up || control[M] != CONDEMNED || control[K] == CONDEMNED);
#endif
#endif
  atomic {
    !core_lock ->
    mine = (mine && linked);
    linked = (linked && !mine);
    told = 1;
    if
    :: mine -> finish[me] = 1; mine = 0
    :: else
    fi;
    if
    :: up -> up = 0; DROPS(me, M) = DROPS(me, M) + 1
    :: else
    fi
  }
}

/* entry_finish(): by who has unlinked it. */
inline entry_finish() {
  atomic { !lock[K] -> armed = 0 };
  atomic {
    assert(holds && !linked);
    MINE(V); touched = touched | (LOGS(m) << V);
    holds = 0; DROPS(me, V) = DROPS(me, V) + 1
  }
}

/* entries_drop(): by the map's clear hook, or by who has the map. */
inline entries_drop() {
  atomic { !core_lock -> core_lock = 1; mine = linked };
  if
  :: mine && !told ->
#ifndef NO_KEY_UPGRADE
     upgrade(K);
#ifndef TAKE_ALL
     mine = (up || control[K] != CONDEMNED || control[M] == CONDEMNED)
#endif
#else
     skip
#endif
  :: else
  fi;
  atomic {
    if
    :: mine -> assert(linked); linked = 0
    :: else
    fi;
    core_lock = 0
  };
  /* No safepoint in between: the key's watch is still armed. */
#ifdef FINISH_LATE
  atomic { finish[me] = mine; mine = 0 };
#else
  if
  :: mine -> mine = 0; entry_finish()
  :: else
  fi;
#endif
  atomic {
    if
    :: up -> up = 0; DROPS(me, K) = DROPS(me, K) + 1
    :: else
    fi
  }
}

/* What is left to be done: in any order. */
#define TODO                                                                                       \
  :: atomic { tell[me] -> tell[me] = 0; if :: armed && !lock[K] -> armed = 0; k = 1 :: armed && lock[K] -> tell[me] = 1 :: !armed fi }; \
     if                                                                                            \
     :: k -> k = 0; side_died()                                                                    \
     :: else                                                                                       \
     fi                                                                                            \
  :: atomic { clear[me] -> clear[me] = 0 }; entries_drop()                                         \
  :: atomic { finish[me] -> finish[me] = 0 }; entry_finish()                                       \
  :: atomic { DROPS(me, M) > 0 -> DROPS(me, M) = DROPS(me, M) - 1 }; release(M)                    \
  :: atomic { DROPS(me, K) > 0 -> DROPS(me, K) = DROPS(me, K) - 1 }; release(K)                    \
  :: atomic { DROPS(me, V) > 0 -> DROPS(me, V) = DROPS(me, V) - 1 }; release(V)                    \
  :: atomic { HAS(dying[me], M) && !clear[me] -> dying[me] = dying[me] & ~B(M) }                   \
  :: atomic { HAS(dying[me], K) && !tell[me] -> EMPTY(K) }                                         \
  :: atomic { HAS(dying[me], V) -> EMPTY(V) }
#define EMPTY(o)                                                                                   \
  dying[me] = dying[me] & ~B(o);                                                                   \
  if                                                                                               \
  :: slot[o] != 0 -> DROPS(me, slot[o]) = DROPS(me, slot[o]) + 1; slot[o] = 0                      \
  :: else                                                                                          \
  fi

#define MAY (ops > 0)
/* With the slot of x, which the thread reaches. */
#define SLOT_OPERATIONS(x, reaches)                                                                \
  :: atomic { MAY && (reaches) && slot[x] != 0 && !HAS(held[me], slot[x]) -> ops--;                \
       COUNTS_UP(slot[x]); held[me] = held[me] | B(slot[x]) }                                      \
  :: atomic { MAY && (reaches) && slot[x] != 0 && !HAS(held[me], slot[x]) -> ops--;                \
       MINE(slot[x]); touched = touched | (LOGS(m) << slot[x]); held[me] = held[me] | B(slot[x]); slot[x] = 0 } \
  PUT(x, reaches, M) PUT(x, reaches, K) PUT(x, reaches, V)
#define PUT(x, reaches, o)                                                                         \
  :: atomic { MAY && (reaches) && slot[x] == 0 && HAS(held[me], o) -> ops--; slot[x] = o; held[me] = held[me] & ~B(o) }
#define RELEASE(o)                                                                                 \
  :: atomic { MAY && HAS(held[me], o) -> ops--; held[me] = held[me] & ~B(o) }; release(o)

proctype thread(byte me) provided (begun) {
  byte m, died;
  bit up, mine, k;
  m = PINNED;
  do
  SLOT_OPERATIONS(0, true)
  SLOT_OPERATIONS(K, HAS(held[me], K))
  SLOT_OPERATIONS(V, HAS(held[me], V))
  RELEASE(M) RELEASE(K) RELEASE(V)
  /* the program's weak reference to the key */
  :: atomic { MAY && !HAS(held[me], K) -> ops-- }; upgrade(K);
     atomic { if :: up -> up = 0; held[me] = held[me] | B(K) :: else fi }
  /* get or a loop: with the key, which it has or upgrades */
  :: atomic { MAY && HAS(held[me], M) && linked && !HAS(held[me], V) -> ops-- };
     if
     :: HAS(held[me], K)
     :: else -> upgrade(K); atomic { if :: up -> up = 0; held[me] = held[me] | B(K) :: else fi }
     fi;
     atomic {
       if
       :: HAS(held[me], K) && holds && linked -> COUNTS_UP(V); held[me] = held[me] | B(V)
       :: else
       fi
     }
  :: atomic { MAY && HAS(held[me], M) && linked -> ops-- }; entries_drop()
  :: atomic { MAY && held[me] == (B(M) | B(K) | B(V)) && !linked && !holds && !armed && !told -> ops--;
       COUNTS_UP(V); linked = 1; holds = 1; armed = 1 }
  TODO
  :: atomic { asked[me] -> asked[me] = 0 }; m = mode
  od
}

/* ---- the collector ---- */
inline handshake(new) {
  mode = new;
  d_step { asked[0] = 1; asked[1] = 1 };
  !asked[0] && !asked[1]
}

#define JOIN(a, b)                                                                                 \
  d[b]--;                                                                                          \
  if                                                                                               \
  :: part[a] != part[b] -> n = part[b]; i = 1;                                                     \
     do                                                                                            \
     :: i <= 3 && part[i] == n -> part[i] = part[a]; i++                                           \
     :: i <= 3 && part[i] != n -> i++                                                              \
     :: i > 3 -> break                                                                             \
     od                                                                                            \
  :: else                                                                                          \
  fi;                                                                                              \
  n = 0; i = 0
/* The parts with a member of `bad` leave g. */
inline drop_parts() {
  skip;
  d_step {
    i = 1;
    do
    :: i <= 3 && HAS(bad & g, i) -> n = n | B(part[i]); i++
    :: i <= 3 && !HAS(bad & g, i) -> i++
    :: i > 3 -> break
    od;
    i = 1;
    do
    :: i <= 3 && HAS(n, part[i]) -> g = g & ~B(i); i++
    :: i <= 3 && !HAS(n, part[i]) -> i++
    :: i > 3 -> break
    od;
    n = 0; i = 0; bad = 0
  }
}
#define EDGE(x) atomic { if :: HAS(g, x) && HAS(g, slot[x]) -> JOIN(x, slot[x]) :: else fi }
#define READ(x) atomic { if :: HAS(g, x) -> d[x] = d[x] + count[x] :: else fi }
#ifdef FROM_KEY_ONLY /* inverted: sound, but a map in its value's hands stays */
#define FROM_MAP false
#define FROM_KEY HAS(g, K)
#else
#define FROM_MAP HAS(g, M)
#ifdef FROM_BOTH
#define FROM_KEY HAS(g, K)
#else
#define FROM_KEY (HAS(g, K) && !HAS(g, M))
#endif
#endif
#define Z 8

/* Nobody has what is in `n`, or a reference to it; the entry's comes from inside. */
inline check_condemned() {
  assert(!((held[0] | held[1] | B(slot[0])) & n));
  assert(HAS(n, K) || !HAS(n, slot[K]));
  assert(HAS(n, V) || !HAS(n, slot[V]));
  assert(!HAS(n, V) || !holds || HAS(n, M) || HAS(n, K));
  i = 1;
  do
  :: i <= 3 -> assert(!HAS(n, i) || (DROPS(0, i) + DROPS(1, i) == 0 && count[i] > 0)); i++
  :: else -> break
  od;
  i = 0
}

/* One part, with its locks. */
inline judge(x) {
  skip;
  d_step {
    i = 1;
    do
    :: i <= 3 && HAS(g, i) && part[i] == part[x] -> n = n | B(i); i++
    :: i <= 3 && !(HAS(g, i) && part[i] == part[x]) -> i++
    :: i > 3 -> i = 0; break
    od;
    g = g & ~n
  };
  if
  :: HAS(n, M) -> atomic { !lock[M] -> lock[M] = 1 }
  :: else
  fi;
  if
  :: HAS(n, K) -> atomic { !lock[K] -> lock[K] = 1 }
  :: else
  fi;
  skip;
  d_step {
    if
    :: n & touched
    :: else ->
       check_condemned();
       condemned = condemned | n;
       if
       :: HAS(n, M) -> control[M] = CONDEMNED
       :: else
       fi;
       if
       :: HAS(n, K) -> control[K] = CONDEMNED
       :: else
       fi
    fi;
    if
    :: HAS(n, M) -> lock[M] = 0
    :: else
    fi;
    if
    :: HAS(n, K) -> lock[K] = 0
    :: else
    fi;
    n = 0
  }
}

proctype collector() provided (begun) {
  byte g, bad, n, i, m, died;
  byte d[4] = Z;
  byte part[4];
  byte me;
  bit up, mine, k;
  skip;
  d_step { me = 2; m = CLOSED; part[1] = 1; part[2] = 2; part[3] = 3 };
  if :: g = g | B(M) :: true fi;
  if :: g = g | B(K) :: true fi;
#ifdef FEW
  g = g | B(V);
#else
  if :: g = g | B(V) :: true fi;
#endif
  touched = touched & ~g;
  handshake(LOGGING);
  g = g & ~dead;
  /* In any order that the heap may have. */
  READ(M); READ(K); READ(V);
  EDGE(K); EDGE(V);
  atomic { if :: FROM_MAP && HAS(g, V) && linked && holds -> JOIN(M, V) :: else fi };
  atomic { if :: FROM_KEY && HAS(g, V) && armed && holds && control[K] == OPEN -> JOIN(K, V) :: else fi };
  skip;
  d_step {
    i = 1;
    do
    :: i <= 3 && HAS(g, i) && d[i] != Z -> bad = bad | B(i); i++
    :: i <= 3 && !(HAS(g, i) && d[i] != Z) -> i++
    :: i > 3 -> break
    od;
    i = 0
  };
  drop_parts();
  handshake(PINNED | CLOSED);
  do
  :: HAS(g, M) -> judge(M)
  :: HAS(g, K) -> judge(K)
  :: HAS(g, V) -> judge(V)
  :: g == 0 -> break
  od;
#ifdef REACH
  assert(!HAS(condemned, V) || !HAS(condemned, K) || HAS(condemned, M) || slot[V] != K);
#endif
#ifdef REACH_MAP
  assert(!HAS(condemned, V) || !HAS(condemned, M) || HAS(condemned, K) || slot[V] != M);
#endif
  /* gyre__weak_run(), then the clear hook; then what the condemned refer to. */
  tell[2] = HAS(condemned, K);
  do
  TODO
  :: else -> break
  od;
  clear[2] = HAS(condemned, M);
  do
  TODO
  :: else -> break
  od;
  skip;
  d_step {
    if :: HAS(condemned, K) && slot[K] != 0 && !HAS(condemned, slot[K]) -> DROPS(2, slot[K]) = DROPS(2, slot[K]) + 1 :: else fi;
    if :: HAS(condemned, V) && slot[V] != 0 && !HAS(condemned, slot[V]) -> DROPS(2, slot[V]) = DROPS(2, slot[V]) + 1 :: else fi;
    if :: HAS(condemned, K) -> slot[K] = 0 :: else fi;
    if :: HAS(condemned, V) -> slot[V] = 0 :: else fi;
    assert(!HAS(condemned, V) || !holds);
    freed = condemned
  };
  do
  TODO
  :: else -> break
  od;
  over = 1
}

/* ---- the end: nobody can do anything any more ---- */
#define REFERENCES(o)                                                                              \
  (HAS(held[0], o) + HAS(held[1], o) + (slot[0] == o) + (slot[K] == o) + (slot[V] == o) + ((o) == V && holds))
active proctype at_the_end() {
  timeout ->
  if
  :: begun
  :: else -> goto end /* not such a heap */
  fi;
  assert(over);
  assert(HAS(condemned, M) || count[M] == REFERENCES(M));
  assert(HAS(condemned, K) || count[K] == REFERENCES(K));
  assert(HAS(condemned, V) || count[V] == REFERENCES(V));
  assert(!holds || (control[M] == OPEN && control[K] == OPEN && linked));
end:
  skip
}

/* ---- any heap ---- */
#define ANY_SLOT(x)                                                                                \
  if                                                                                               \
  :: true                                                                                          \
  :: slot[x] = M; count[M]++                                                                       \
  :: slot[x] = K; count[K]++                                                                       \
  :: slot[x] = V; count[V]++                                                                       \
  fi
#define MAYBE_HELD(t, o)                                                                           \
  if                                                                                               \
  :: held[t] = held[t] | B(o); count[o]++                                                          \
  :: true                                                                                          \
  fi
init {
  atomic {
#ifdef RING /* each refers to the next, and the root to the value */
    slot[0] = V; slot[V] = K; slot[K] = M; count[V] = 2; count[K] = 1; count[M] = 1;
    linked = 1; holds = 1; armed = 1;
#else
    ANY_SLOT(V);
    MAYBE_HELD(0, M); MAYBE_HELD(0, K);
    MAYBE_HELD(1, M);
#ifndef FEW
    ANY_SLOT(0); ANY_SLOT(K);
    MAYBE_HELD(0, V); MAYBE_HELD(1, K);
#endif
    if
    :: linked = 1; holds = 1; armed = 1; count[V]++
    :: true
    fi;
#endif
    /* All are there, though perhaps nobody has them but each other. */
    (count[M] > 0 && count[K] > 0 && count[V] > 0);
    touched = B(M) | B(K) | B(V);
    run thread(0);
    run thread(1);
    run collector();
    begun = 1
  }
}
