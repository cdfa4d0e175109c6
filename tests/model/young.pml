/* SPDX-License-Identifier: MIT */
/* A thread's collection of its own young objects while other threads go on: what it finds to be garbage is.
 *
 * NOBJ blocks of one slot each, all of them the pages of thread 0; a root slot that is nobody's young object's;
 * a variable for thread 0, two for each other. In any heap, thread 0 does TOPS operations and one local
 * collection, while NU other threads do NOPS operations together. A count by others sets the flag `published` of
 * an object that has an owner, in the same step; blocks are used again, and a late count may hit a block that is
 * dead or another object by now. What thread 0 reads of others is a step each, and so are its releases.
 *
 * BORROW: uncounted pointers. One is good as long as the counted references that the program reaches keep its
 * object: that is an assumption about programs (README.md), and not "until the next safepoint".
 *
 * Checked: when the collection has decided, only garbage refers to garbage; nobody gets hold of it later;
 * nothing dies twice, or while referred to. Sequential consistency. README.md lists the switches. */
#ifndef NOBJ
#define NOBJ 2
#endif
#ifndef NU
#define NU 1
#endif
#ifndef NOPS
#define NOPS 2
#endif
#ifndef TOPS
#define TOPS 0
#endif
#define Z 8
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)

/* ---- blocks ---- */
byte mine[NOBJ + 1];   /* thread 0's count */
byte others[NOBJ + 1]; /* the shared word: a biased count, and these: */
byte published, merged, queued;
byte slot[NOBJ + 1]; /* 0: the root */
byte weak;           /* the object that has a weak reference */

/* ---- ghosts ---- */
byte live = 0; /* not dead */
byte used;     /* not on a free list */
byte garbage;  /* thread 0 has decided */

byte var[NU + 1];
byte kept[NU + 1]; /* a second one */
byte borrowed[NU + 1];
byte dying[NU + 1];
byte hand[NU + 1];
byte ops = NOPS;
byte tops = TOPS;
bit begun;

/* ---- deaths ---- */
inline die(v) {
  assert(HAS(live, v) && !HAS(queued, v));
  assert(var[0] != v && var[1] != v && var[NU] != v && kept[1] != v && kept[NU] != v);
  n = 0;
  do
  :: n <= NOBJ -> assert(slot[n] != v || n == v || (n > 0 && HAS(garbage | dying[me], n))); n++
  :: else -> n = 0; break
  od;
  live = live & ~B(v); dying[me] = dying[me] | B(v);
  if
  :: weak == v -> weak = 0
  :: else
  fi
}

/* One off the shared word. `flag`: does it publish? */
#define PUBLISH(v, flag)                                                                           \
  if                                                                                               \
  :: (flag) && !HAS(merged, v) -> published = published | B(v)                                     \
  :: else                                                                                          \
  fi
#ifdef FLAG_CLEARED
#define FLAG_CLEAR(v)                                                                              \
  if                                                                                               \
  :: others[v] == Z && !HAS(queued, v) -> published = published & ~B(v)                            \
  :: else                                                                                          \
  fi
#else
#define FLAG_CLEAR(v) skip
#endif
inline drop_shared(v, flag) {
  PUBLISH(v, flag);
  if
  :: HAS(merged, v) -> assert(others[v] > Z); others[v]--;
     if
     :: others[v] == Z -> die(v)
     :: else
     fi
  :: else ->
     if
     :: others[v] == Z && !HAS(queued, v) -> assert(HAS(live, v)); queued = queued | B(v)
     :: else -> others[v]--
     fi;
     FLAG_CLEAR(v)
  fi
}
/* The rest of a death, a slot a step; then the block is free. */
#define GOES_ON(DROP)                                                                              \
  :: atomic { dying[me] != 0 ->                                                                    \
       k = 1;                                                                                      \
       do                                                                                          \
       :: HAS(dying[me], k) -> break                                                               \
       :: else -> k++                                                                              \
       od;                                                                                         \
       if                                                                                          \
       :: slot[k] != 0 -> p = slot[k]; slot[k] = 0; DROP; p = 0                                    \
       :: else -> dying[me] = dying[me] & ~B(k); used = used & ~B(k); garbage = garbage & ~B(k)    \
       fi;                                                                                         \
       k = 0 }

/* ---- a thread that is not the owner ---- */
#ifdef NO_PUBLISH_LOAD
#define FLAG_LOAD false
#else
#define FLAG_LOAD true
#endif
#ifdef NO_PUBLISH_RETAIN
#define FLAG_RETAIN false
#else
#define FLAG_RETAIN true
#endif
#ifdef NO_PUBLISH_RELEASE
#define FLAG_RELEASE false
#else
#define FLAG_RELEASE true
#endif
#define p hand[me]
#define END base = 0; p = 0; goto next
#define TRY_COUNT(flag)                                                                            \
  if                                                                                               \
  :: HAS(merged, p) && others[p] == Z -> END                                                       \
  :: else -> others[p]++; PUBLISH(p, flag)                                                         \
  fi
#define GOT(v) assert(HAS(live, v) && !HAS(garbage, v)); var[me] = v
#define MAY (begun && ops > 0)

#ifdef BORROW
inline reach() { /* what the program's counted references reach: r */
  r = B(slot[0]) | B(var[0]) | B(var[1]) | B(var[NU]) | B(kept[1]) | B(kept[NU]);
  n = 0;
  do
  :: n < NOBJ ->
     k = 1;
     do
     :: k <= NOBJ -> if :: HAS(r, k) -> r = r | B(slot[k]) :: else fi; k++
     :: else -> k = 0; break
     od;
     n++
  :: else -> n = 0; break
  od
}
#ifdef BORROW_ANY
#define LOOK_AROUND r = live
#else
#define LOOK_AROUND reach()
#endif
/* Is the base of this operation still good? Else the program has erred. */
#define STILL(base) LOOK_AROUND; ok = (base == 0 || base != borrowed[me] || base == var[me] || HAS(r, base)); r = 0
#else
#define STILL(base) ok = 1
#endif

/* Begins an operation on the slot of BASE: p is what is in it. */
#define START(BASE)                                                                                \
  base = BASE; STILL(base);                                                                        \
  if                                                                                               \
  :: ok -> ok = 0; ops--; p = slot[base]                                                           \
  :: else -> borrowed[me] = 0; END                                                                 \
  fi
/* Load (count, publish, look again); take or swap; put. The objects are another's: so they are counted and
 * published before a slot that holds them is changed. */
#define OPERATIONS(BASE)                                                                           \
  :: atomic { MAY && REACHES(BASE) && var[me] == 0 && slot[BASE] != 0 -> START(BASE) };            \
     atomic { TRY_COUNT(FLAG_LOAD) };                                                              \
     atomic {                                                                                      \
       STILL(base);                                                                                \
       if                                                                                          \
       :: ok && slot[base] == p -> ok = 0; GOT(p); END                                             \
       :: else -> ok = 0                                                                           \
       fi };                                                                                       \
     atomic { drop_shared(p, FLAG_RELEASE); END }                                                  \
  :: atomic { MAY && REACHES(BASE) && slot[BASE] != 0 -> START(BASE) };                            \
     TAKE_COUNT;                                                                                   \
     TAKE_REST                                                                                     \
  :: atomic { MAY && REACHES(BASE) && var[me] != 0 && slot[BASE] == 0 -> START(BASE);              \
       slot[base] = var[me]; var[me] = 0; END }
#define TAKE_REST                                                                                  \
  atomic {                                                                                         \
    STILL(base);                                                                                   \
    if                                                                                             \
    :: ok && slot[base] == p -> slot[base] = var[me]; GOT(p)                                       \
    :: else                                                                                        \
    fi; ok = 0 };                                                                                  \
  TAKE_DROP
#define REACHES(BASE) true
#if defined(NO_PUBLISH_TAKE)
#define TAKE_COUNT skip
#define TAKE_DROP atomic { END }
#elif defined(PUBLISH_LATE)
#define TAKE_COUNT skip
#define TAKE_DROP atomic { PUBLISH(p, true); END }
#elif defined(PUBLISH_BARE)
#define TAKE_COUNT atomic { PUBLISH(p, true) }
#define TAKE_DROP atomic { END }
#else
#define TAKE_COUNT atomic { TRY_COUNT(true) }
#define TAKE_DROP atomic { drop_shared(p, FLAG_RELEASE); END }
#endif

proctype other(byte me) {
  byte base, k, n, r;
  bit ok;
#ifdef MIDWAY /* a take of what once was in some slot has come as far as its compare-exchange */
  if
  :: base = 0
  :: base = var[me]
  :: kept[me] = var[me]; var[me] = 0; base = kept[me]
  fi;
  TAKE_REST;
#endif
next:
  do
  OPERATIONS(0)
#undef REACHES
#define REACHES(BASE) (BASE != 0)
  OPERATIONS(var[me])
  :: atomic { MAY && var[me] != 0 -> ops--; p = var[me]; var[me] = 0; drop_shared(p, FLAG_RELEASE); END }
#ifdef BORROW
  OPERATIONS(borrowed[me])
#define BORROW_IT(v) MAY && v != 0 && borrowed[me] != v -> ops--; borrowed[me] = v
  :: d_step { BORROW_IT(var[me]) }
  :: d_step { BORROW_IT(slot[0]) }
  :: d_step { var[me] != 0 && BORROW_IT(slot[var[me]]) }
  :: atomic { MAY && borrowed[me] != 0 && slot[borrowed[me]] != 0 -> START(borrowed[me]); borrowed[me] = p; END }
  :: atomic { MAY && var[me] == 0 && borrowed[me] != 0 -> START(borrowed[me]); p = base;
       others[p]++; PUBLISH(p, FLAG_RETAIN); GOT(p); END }
#endif
  /* a second counted reference */
  OPERATIONS(kept[me])
  :: d_step { begun && var[me] != kept[me] -> k = var[me]; var[me] = kept[me]; kept[me] = k; k = 0 } /* they are alike */
#ifndef BORROW
  :: d_step { MAY && var[me] != 0 && kept[me] == 0 -> ops--; kept[me] = var[me]; others[var[me]]++;
       PUBLISH(var[me], FLAG_RETAIN) }
#endif
#ifdef WEAK
#ifdef WEAK_UNPUBLISHED
#define PUBLISH_WEAK(v) skip
#else
#define PUBLISH_WEAK(v) PUBLISH(v, true)
#endif
  :: d_step { MAY && weak == 0 && var[me] != 0 -> ops--; weak = var[me]; PUBLISH_WEAK(var[me]) }
  :: d_step { MAY && weak != 0 && var[me] == 0 -> ops--; others[weak]++; PUBLISH(weak, true);
       assert(!HAS(garbage, weak)); var[me] = weak }
#endif
  GOES_ON(drop_shared(p, FLAG_RELEASE))
  od
}

/* ---- thread 0 ---- */
inline drop_owned(v) {
  if
  :: HAS(merged, v) -> drop_shared(v, true)
  :: else ->
     assert(HAS(live, v) && mine[v] > 0); mine[v]--;
     if
     :: mine[v] == 0 && others[v] == Z && !HAS(queued, v) -> die(v)
     :: mine[v] == 0 && !(others[v] == Z && !HAS(queued, v)) ->
        merged = merged | B(v); others[v] = others[v] - HAS(queued, v); queued = queued & ~B(v);
        if
        :: others[v] == Z -> die(v)
        :: else
        fi
     :: else
     fi
  fi
}

/* Serves its queue, and ends what is dying. */
inline settle() {
  do
  :: atomic { queued != 0 ->
       k = 1;
       do
       :: HAS(queued, k) -> break
       :: else -> k++
       od;
       queued = queued & ~B(k); merged = merged | B(k); others[k] = others[k] + mine[k]; mine[k] = 0;
       p = k; k = 0; drop_shared(p, true); p = 0 }
  GOES_ON(drop_owned(p))
  :: atomic { queued == 0 && dying[me] == 0 -> break }
  od
}

#define EACH(set, body)                                                                            \
  c = 1;                                                                                           \
  do                                                                                               \
  :: c <= NOBJ -> if :: HAS(set, c) -> body :: else fi; c++                                        \
  :: else -> c = 0; break                                                                          \
  od
/* Each in a step of its own. */
#define STEPS(set, body)                                                                           \
  c = 1;                                                                                           \
  do                                                                                               \
  :: atomic { c <= NOBJ && !HAS(set, c) -> c++ }                                                   \
  :: atomic { c <= NOBJ && HAS(set, c) -> body; c++ }                                              \
  :: atomic { c > NOBJ -> c = 0; break }                                                           \
  od

inline mark_edges() {
  n = 0;
  do
  :: n < NOBJ -> EACH(marked, if :: HAS(young, edge[c]) -> marked = marked | B(edge[c]) :: else fi); n++
  :: else -> n = 0; break
  od
}

#ifdef LOOK_EARLY /* flags only when the set is made */
#define LOOK_AT_FLAGS skip
#else
#define LOOK_AT_FLAGS STEPS(young & ~marked, marked = marked | (published & B(c)))
#endif

/* References to garbage come from garbage. */
inline check_garbage() {
  assert(!HAS(young, var[0]) && !HAS(young, var[1]) && !HAS(young, var[NU]) && !HAS(young, slot[0]));
  assert(!HAS(young, kept[1]) && !HAS(young, kept[NU]));
  assert(!(young & (merged | ~live)));
  EACH(255, assert(HAS(young, c) || !HAS(young, slot[c])))
}

inline collect() {
  STEPS(live & ~merged & ~queued & ~published, /* the young set */
    young = young | (B(c) & ~B(weak)); left[c] = mine[c]);
  STEPS(young, /* count the edges, each read once, and remember them */
    edge[c] = slot[c];
    if
    :: HAS(young, edge[c]) && left[edge[c]] > 0 -> left[edge[c]]--
    :: else
    fi);
  skip;
  d_step { EACH(young, if :: left[c] > 0 -> marked = marked | B(c) :: else fi; left[c] = 0) };
  LOOK_AT_FLAGS;
#ifdef READ_AGAIN
  STEPS(young, edge[c] = slot[c]);
#endif
  skip;
  d_step {
    mark_edges();
    garbage = garbage | (young & ~marked); young = young & ~marked; marked = 0;
    EACH(255, edge[c] = 0);
    check_garbage();
#ifdef REACH
    assert(!HAS(young, slot[1]) || slot[1] == 1);
#endif
  };
  /* One more count each, then all their references, then those counts. */
#ifdef NO_HOLD
#define HOLD(v) skip
#define LET_GO(v) skip
#else
#define HOLD(v) mine[v]++
#define LET_GO(v) drop_owned(v)
#endif
  skip;
  d_step { EACH(young, HOLD(c)) };
#ifdef FREE_BLIND /* they die whatever the shared word says */
  STEPS(young, p = slot[c]; slot[c] = 0; if :: p != 0 && !HAS(young, p) -> drop_owned(p) :: else fi; p = 0);
  STEPS(young, mine[c] = 0; live = live & ~B(c); dying[me] = dying[me] | B(c));
#else
  STEPS(young, p = slot[c]; slot[c] = 0; if :: p != 0 -> drop_owned(p) :: else fi; p = 0);
  STEPS(young, LET_GO(c));
#endif
  young = 0
}

proctype owner(byte me) {
  byte k, n, c, young, marked;
  byte edge[NOBJ + 1], left[NOBJ + 1];
  do
  :: tops == 0 -> break
#if TOPS
  :: d_step { tops > 0 && var[0] == 0 && (~used & ((1 << (NOBJ + 1)) - 2)) != 0 -> tops--; /* a birth */
       k = 1;
       do
       :: HAS(used, k) -> k++
       :: else -> break
       od;
       /* A word that is not at rest is left as it is. */
       if
       :: others[k] == Z -> merged = merged & ~B(k); published = published & ~B(k)
       :: else -> assert(!HAS(merged, k))
       fi;
       used = used | B(k); live = live | B(k); mine[k] = 1; var[0] = k; k = 0 }
  :: d_step { tops > 0 && slot[0] + var[0] > 0 -> tops--; k = slot[0]; slot[0] = var[0]; var[0] = k; k = 0 }
  :: d_step { tops > 0 && var[0] != 0 -> tops--; k = slot[var[0]]; slot[var[0]] = 0;
       if
       :: k != 0 -> p = var[0]; var[0] = k; k = 0
       :: else -> slot[var[0]] = var[0]; var[0] = 0
       fi; p = 0 }
  :: atomic { tops > 0 && var[0] != 0 -> tops--; p = var[0]; var[0] = 0; drop_owned(p); p = 0 };
     do
     GOES_ON(drop_owned(p))
     :: else -> break
     od
#endif
  od;
  settle();
  collect();
  settle()
}

/* ---- any heap ---- */
#define ANY(v)                                                                                     \
  v = 0;                                                                                           \
  do                                                                                               \
  :: v < NOBJ -> v++                                                                               \
  :: break                                                                                         \
  od
#define REFERENCE(v) mine[v] = mine[v] + (v != 0)

init {
  byte i, v;
  atomic {
#ifdef ROOT
    v = ROOT;
#else
    ANY(v);
#endif
    slot[0] = v; REFERENCE(v);
#ifdef VAR
    v = VAR;
#else
    ANY(v);
#endif
    var[0] = v; REFERENCE(v);
    ANY(v); var[1] = v; REFERENCE(v);
#if NU > 1
    ANY(v); var[2] = v; REFERENCE(v);
    (var[1] <= var[2]);
#endif
    i = 1;
    do
    :: i <= NOBJ -> ANY(v); slot[i] = v; REFERENCE(v); others[i] = Z; i++
    :: else -> break
    od;
    i = 1;
    do
    :: i <= NOBJ ->
       if
       :: mine[i] == 0 -> (slot[i] == 0)
       :: mine[i] > 0 -> /* nobody but thread 0 has counted */
          live = live | B(i)
       :: mine[i] > 0 -> live = live | B(i);
          merged = merged | B(i); others[i] = Z + mine[i]; mine[i] = 0
#ifndef FEW
       :: mine[i] > 0 -> live = live | B(i); published = published | B(i)
       :: mine[i] > 0 -> live = live | B(i); published = published | B(i); mine[i]++; queued = queued | B(i)
       :: mine[i] > 1 -> live = live | B(i); published = published | B(i); mine[i]--; others[i]++
#endif
       fi;
       i++
    :: else -> break
    od;
    used = live;
#ifdef MIDWAY
    ANY(v); (v != 0); hand[1] = v;
#ifndef PUBLISH_BARE
    others[v]++;
    if
    :: !HAS(merged, v) -> published = published | B(v)
    :: else
    fi;
#endif
#endif
    i = 0; v = 0;
    run owner(0);
    run other(1);
#if NU > 1
    run other(2);
#endif
    begun = 1
  }
}
