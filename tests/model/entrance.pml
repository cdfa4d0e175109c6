/* SPDX-License-Identifier: MIT */
/* Looks behind entrances beside a collection: collect/young.c together with collect.c, suspect.c, dead.c, limbo.c.
 *
 * NOBJ blocks of one slot each, all of them the pages of thread 0, which notes objects that it drops with a
 * count left, and looks behind its notes, one access of shared memory a step. Thread 1 counts, publishes and
 * moves references (as in young.pml). In any heap, with any suspects, ROUNDS collections run beside them, or
 * (STW) in a stopped world whose condemned are freed while the program runs again. The threads do NOPS operations
 * together, and pass safepoints when they are asked; births use blocks again to which notes may still lead.
 *
 * Checked: nothing is condemned or found to be garbage that somebody has or gets; no block is freed twice, or while
 * the collector may read it; a look changes nothing but living objects; QUIET: in the end the garbage is gone.
 *
 * A touch is one step, and so are the operations of thread 0 but for its looks. Sequential consistency.
 * README.md lists the switches. */
#ifndef NOBJ
#define NOBJ 2
#endif
#ifndef NOPS
#define NOPS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define Z 8
#define MARK 64 /* GYRE__LOCAL_MARK: more than any count */
#define B(v) (1 << (v))
#define HAS(set, v) (((set) >> (v)) & 1)

#define IDLE 0
#define PINNED 1
#define LOGGING 2
#define CLOSED 4
#define WORD(epoch, mode) ((epoch) << 3 | (mode))
#define MODE(word) ((word) & 3)
#define EPOCH(word) ((word) >> 3)
byte word;
bit asked[2]; /* GYRE__REQ_HANDSHAKE, or GYRE__REQ_STOP */
bit halted;  /* the world */
bit idle[2];

/* ---- blocks ---- */
byte mine[NOBJ + 1];             /* the local word */
byte others[NOBJ + 1];           /* the shared word: a biased count, and these: */
byte published, merged, queued;
byte slot[NOBJ + 1];             /* 0: the root */
byte present, promoted, armed;   /* the collector's byte: not 0, and its bits */
byte dead;
byte touched;

/* ---- ghosts ---- */
byte used;      /* not on a free list */
byte live;      /* not dead */
byte waiting;   /* in limbo */
byte garbage;   /* a look has decided */
byte condemned; /* the collector has */
byte candidates; /* what it may read */
bit stirred;    /* a look or a release while it counts */

byte noted;  /* thread 0's notes: of blocks, whatever these are by now */
byte young;  /* members of its look */
byte left;   /* what the look has yet to release: garbage, */
byte outside[NOBJ + 1]; /* and what that referred to */
byte var[2];
byte hand[3];
byte dying[3];
byte limbo[3];
byte ops = NOPS;
bit begun;

#define EACH(set, body)                                                                            \
  c = 1;                                                                                           \
  do                                                                                               \
  :: c <= NOBJ -> if :: HAS(set, c) -> body :: else fi; c++                                        \
  :: else -> c = 0; break                                                                          \
  od
/* Each in a step of its own. */
#define FIRST(set) (HAS(set, 1) -> 1 : (HAS(set, 2) -> 2 : 3))
#define STEPS(set, body)                                                                           \
  todo = (set);                                                                                    \
  do                                                                                               \
  :: atomic { todo != 0 -> c = FIRST(todo); todo = todo & ~B(c); body; c = 0 }                     \
  :: todo == 0 -> break                                                                            \
  od
#define ALL 254

/* ---- memory ---- */
inline block_free(v) {
  assert(HAS(used, v) && !HAS(candidates | condemned | waiting, v));
  used = used & ~B(v);
  present = present & ~B(v); promoted = promoted & ~B(v); armed = armed & ~B(v); dead = dead & ~B(v);
  garbage = garbage & ~B(v)
}
/* gyre__object_free() */
#define WAITS(v) (MODE(m) != IDLE && HAS(promoted | merged, v))
#ifdef FREE_AT_ONCE
#define WAITS_IN_LOOK(v) false
#else
#define WAITS_IN_LOOK(v) WAITS(v)
#endif
inline object_free(v, waits) {
  if
  :: waits -> assert(HAS(used, v) && !HAS(waiting, v));
     dead = dead | B(v); limbo[me] = limbo[me] | B(v); waiting = waiting | B(v); garbage = garbage & ~B(v)
  :: else -> block_free(v)
  fi
}
inline adopt() {
  if
  :: limbo[me] != 0 && (MODE(word) == IDLE || EPOCH(word) != EPOCH(m)) ->
     waiting = waiting & ~limbo[me];
     EACH(limbo[me], block_free(c));
     limbo[me] = 0
  :: else
  fi;
  m = word
}

/* ---- deaths ---- */
inline not_referred(v) {
  assert(var[0] != v && var[1] != v);
  n = 0;
  do
  :: n <= NOBJ -> assert(slot[n] != v || n == v || (n > 0 && HAS(~used | garbage | dying[me] | condemned, n))); n++
  :: else -> n = 0; break
  od
}
inline die(v) {
  assert(HAS(live, v) && !HAS(queued | condemned, v));
  not_referred(v);
  live = live & ~B(v); dead = dead | B(v); dying[me] = dying[me] | B(v)
}

#define TOUCH(v) touched = touched | ((MODE(m) == LOGGING) << (v))
#define PUBLISH(v)                                                                                 \
  if                                                                                               \
  :: HAS(merged, v)                                                                                \
  :: else -> published = published | B(v)                                                          \
  fi
inline drop_shared(v) {
  TOUCH(v);
  PUBLISH(v);
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
     fi
  fi
}
/* The rest of a death, a slot a step; then the block is free, or waits. */
#define GOES_ON(DROP)                                                                              \
  :: atomic { dying[me] != 0 ->                                                                    \
       k = 1;                                                                                      \
       do                                                                                          \
       :: HAS(dying[me], k) -> break                                                               \
       :: else -> k++                                                                              \
       od;                                                                                         \
       if                                                                                          \
       :: slot[k] != 0 -> p = slot[k]; slot[k] = 0; DROP; p = 0                                    \
       :: else -> dying[me] = dying[me] & ~B(k); object_free(k, WAITS(k))                          \
       fi;                                                                                         \
       k = 0 }

#define p hand[me]
#define END base = 0; p = 0; goto next
#define MAY (begun && ops > 0)
#define GOT(v) assert(HAS(live, v) && !HAS(garbage | condemned, v)); var[me] = v

#ifdef STW
#define SAFEPOINT                                                                                  \
  :: atomic { asked[me] && halted -> asked[me] = 0; idle[me] = 1 };                               \
     atomic { !halted -> idle[me] = 0; adopt() }                                                  \
  :: atomic { asked[me] && !halted -> asked[me] = 0; adopt() }
#else
#define SAFEPOINT                                                                                  \
  :: atomic { asked[me] -> asked[me] = 0; adopt() }
#endif

/* ---- thread 1 ---- */
#define START(BASE) base = BASE; ops--; p = slot[base]
#define TRY_COUNT                                                                                  \
  if                                                                                               \
  :: HAS(merged, p) && others[p] == Z -> END                                                       \
  :: else -> others[p]++; PUBLISH(p)                                                               \
  fi
#define OPERATIONS(BASE, CAN)                                                                      \
  :: atomic { MAY && (CAN) && var[me] == 0 && slot[BASE] != 0 -> START(BASE) };                    \
     atomic { TRY_COUNT };                                                                         \
     atomic {                                                                                      \
       if                                                                                          \
       :: slot[base] == p -> TOUCH(p); GOT(p); END                                                 \
       :: else                                                                                     \
       fi };                                                                                       \
     atomic { drop_shared(p); END }                                                                \
  :: atomic { MAY && (CAN) && slot[BASE] != 0 -> START(BASE) };                                    \
     atomic { TRY_COUNT };                                                                         \
     atomic {                                                                                      \
       if                                                                                          \
       :: slot[base] == p -> slot[base] = var[me]; GOT(p)                                          \
       :: else                                                                                     \
       fi };                                                                                       \
     atomic { drop_shared(p); END }                                                                \
  :: atomic { MAY && (CAN) && var[me] != 0 && slot[BASE] == 0 -> START(BASE);                      \
       slot[base] = var[me]; var[me] = 0; END }

proctype other(byte me) {
  byte m, base, k, n, c;
next:
  do
  OPERATIONS(0, true)
  OPERATIONS(var[me], var[me] != 0)
  :: atomic { MAY && var[me] != 0 -> ops--; p = var[me]; var[me] = 0; drop_shared(p); END }
  GOES_ON(drop_shared(p))
  SAFEPOINT
  od
}

/* ---- thread 0 ---- */
inline drop_owned(v) {
  if
  :: HAS(merged, v) -> drop_shared(v)
  :: else ->
     TOUCH(v);
     assert(HAS(live, v) && mine[v] > 0 && mine[v] < MARK); mine[v]--;
     if
     :: mine[v] > 0 -> /* dropped() */
        if
        :: HAS(armed, v) -> armed = armed & ~B(v); noted = noted | B(v)
        :: else
        fi
     :: mine[v] == 0 && others[v] == Z && !HAS(queued, v) -> die(v)
     :: mine[v] == 0 && !(others[v] == Z && !HAS(queued, v)) ->
        merged = merged | B(v); others[v] = others[v] - HAS(queued, v); queued = queued & ~B(v);
        if
        :: others[v] == Z -> die(v)
        :: else
        fi
     fi
  fi
}

/* gyre__is_logging() where a member is added, and when that touches. */
#ifdef NO_TOUCH_LOOK
#define TOUCH_BEFORE skip
#define TOUCH_AFTERWARDS skip
#elif defined(TOUCH_AFTER)
#define TOUCH_BEFORE skip
#define TOUCH_AFTERWARDS TOUCH(w)
#else
#define TOUCH_BEFORE TOUCH(w)
#define TOUCH_AFTERWARDS skip
#endif
#define UNSHARED(v) (others[v] == Z && !HAS(published | queued, v))
#ifdef LOOK_ACROSS /* a safepoint in the middle */
#define PASS                                                                                       \
  if                                                                                               \
  :: atomic { asked[me] && !halted -> asked[me] = 0; adopt() }                                     \
  :: true                                                                                          \
  fi
#else
#define PASS skip
#endif
#ifdef NO_DEAD_LOOK
#define MAY_BE_MEMBER(v) (!HAS(merged, v) && UNSHARED(v))
#else
#define MAY_BE_MEMBER(v) (!HAS(merged | dead, v) && UNSHARED(v))
#endif
#ifdef ANY_SIZE /* no room for it */
#define OR_NOT true
#else
#define OR_NOT else
#endif
#ifdef NO_FREE_LOOK
#define IS_FREE(v) false
#else
#define IS_FREE(v) (!HAS(present, v))
#endif
/* What the look changes must be a living object, and its own. */
#define SOUND(v) assert(HAS(used & live, v) && !HAS(condemned | waiting | merged, v))
/* member_add(w), once it may be one and is touched */
#define MEMBER_ADD                                                                                 \
  atomic { SOUND(w); refs[w] = Z + mine[w]; mine[w] = MARK; young = young | B(w);                  \
    stirred = stirred | (MODE(m) == LOGGING) };                                                    \
  TOUCH_AFTERWARDS

/* What the program reaches: r. */
inline reach() {
  r = B(slot[0]) | B(var[0]) | B(var[1]) | left | queued;
  EACH(ALL, if :: outside[c] > 0 || (HAS(present & ~promoted & ~dead, c)) -> r = r | B(c) :: else fi);
  n = 0;
  do
  :: n < NOBJ -> EACH(r, r = r | B(slot[c])); n++
  :: else -> n = 0; break
  od
}

inline look() {
  /* entrances_find() */
  do
  :: atomic { noted != 0 ->
       w = FIRST(noted); noted = noted & ~B(w);
       if
       :: !IS_FREE(w) && !HAS(young, w) && MAY_BE_MEMBER(w) -> TOUCH_BEFORE
       :: OR_NOT -> w = 0; goto next_entrance
       fi };
     MEMBER_ADD;
     d_step { entrances = entrances | B(w); w = 0 };
next_entrance:
     skip
  :: atomic { noted == 0 -> break }
  od;
  /* reach_find() */
  do
  :: atomic { (young & ~seen) != 0 -> k = FIRST(young & ~seen); seen = seen | B(k); edge[k] = slot[k] };
     atomic {
       w = edge[k];
       if
       :: w != 0 && !HAS(young, w) && MAY_BE_MEMBER(w) -> TOUCH_BEFORE
       :: OR_NOT -> goto edge_known
       fi };
     MEMBER_ADD;
edge_known:
     atomic {
       w = 0;
       if
       :: HAS(young, edge[k]) -> refs[edge[k]]--
       :: else -> edge[k] = 0
       fi;
       k = 0 }
  :: atomic { (young & ~seen) == 0 -> seen = 0; break }
  od;
  /* mark() */
  PASS;
  STEPS(young, if :: refs[c] != Z || !UNSHARED(c) -> marked = marked | B(c) :: else fi);
  skip;
  d_step {
    n = 0;
    do
    :: n < NOBJ -> EACH(marked, marked = marked | (young & B(edge[c]))); n++
    :: else -> n = 0; break
    od;
    EACH(young, if :: edge[c] != 0 -> refs[edge[c]]++ :: else fi; edge[c] = 0);
    garbage = garbage | (young & ~marked);
    assert(!HAS(garbage, var[0]) && !HAS(garbage, var[1]) && !HAS(garbage, slot[0]));
    EACH(used, assert(HAS(garbage, c) || HAS(condemned, c) || !HAS(young & ~marked, slot[c])));
#ifdef REACH
    assert(!HAS(young & ~marked, 1) || slot[1] != 2);
#endif
  };
  PASS;
  /* counts_restore() */
  STEPS(young & marked, SOUND(c); mine[c] = refs[c] - Z; refs[c] = 0);
  /* outside_take() */
  STEPS(young & ~marked, SOUND(c); w = slot[c];
    if
    :: w != 0 && !HAS(young & ~marked, w) -> slot[c] = 0; outside[w]++
    :: else
    fi; w = 0);
  PASS;
  /* garbage_free() */
  todo = young & ~marked;
  do
  :: atomic { todo != 0 -> w = FIRST(todo); SOUND(w); mine[w] = 0; refs[w] = 0 };
     if
     :: atomic { UNSHARED(w) && !HAS(promoted, w) -> not_referred(w); live = live & ~B(w); block_free(w) }
     :: atomic { UNSHARED(w) && HAS(promoted, w) -> not_referred(w); live = live & ~B(w); slot[w] = 0 };
        atomic { object_free(w, WAITS_IN_LOOK(w)) }
     :: atomic { !UNSHARED(w) -> slot[w] = 0 };
        atomic { mine[w] = 1; left = left | B(w) }
     fi;
     atomic { todo = todo & ~B(w); w = 0 }
  :: todo == 0 -> break
  od;
  skip;
  d_step { /* arm_again() */
    armed = armed | (entrances & marked & promoted);
#ifdef QUIET /* what is all its own, it finds */
    reach();
    EACH(live & entrances, assert(HAS(r, c) || (live & (published | merged)) != 0));
    r = 0;
#endif
    entrances = 0; young = 0; marked = 0
  }
}
#ifdef LOOK_CLOSED
#define IS_CLOSED false
#else
#define IS_CLOSED (m & CLOSED)
#endif

proctype owner(byte me) {
  byte m, k, n, c, w, r, todo, marked, seen, entrances;
  byte edge[NOBJ + 1], refs[NOBJ + 1];
  bit out;
#define FREE_HANDED (left == 0 && !out) /* not within the aftermath of a look */
  do
  /* a birth: young, or old at once */
  :: atomic { MAY && FREE_HANDED && var[0] == 0 && (~used & ((1 << (NOBJ + 1)) - 2)) != 0 -> ops--;
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
       used = used | B(k); live = live | B(k); mine[k] = 1; slot[k] = 0; var[0] = k; present = present | B(k);
       touched = touched & ~B(k);
       if
       :: true
       :: promoted = promoted | B(k); armed = armed | B(k)
       fi;
       k = 0 }
  :: atomic { MAY && FREE_HANDED && slot[0] + var[0] > 0 -> ops--; /* swap with the root */
       k = slot[0]; slot[0] = var[0]; var[0] = k; TOUCH(k); k = 0 }
  :: atomic { MAY && FREE_HANDED && var[0] != 0 -> ops--; /* with the object's own slot */
       k = slot[var[0]]; slot[var[0]] = var[0]; var[0] = k; TOUCH(k); k = 0 }
  :: atomic { MAY && FREE_HANDED && var[0] == 0 && slot[0] != 0 -> ops--; /* load */
       p = slot[0]; TOUCH(p);
       if
       :: HAS(merged, p) -> assert(others[p] > Z); others[p]++
       :: else -> mine[p]++
       fi;
       GOT(p); p = 0 }
  :: atomic { MAY && FREE_HANDED && var[0] != 0 -> ops--; p = var[0]; var[0] = 0; drop_owned(p); p = 0 }
  GOES_ON(drop_owned(p))
  :: atomic { queued != 0 -> /* serves its queue */
       k = 1;
       do
       :: HAS(queued, k) -> break
       :: else -> k++
       od;
       TOUCH(k);
       queued = queued & ~B(k); merged = merged | B(k); others[k] = others[k] + mine[k]; mine[k] = 0;
       p = k; k = 0; drop_shared(p); p = 0 }
  SAFEPOINT
  :: atomic { begun && noted != 0 && FREE_HANDED && !IS_CLOSED };
     look();
     d_step { EACH(ALL, if :: outside[c] > 0 -> out = 1 :: else fi) }
  /* the aftermath, which runs program code */
  :: atomic { left != 0 ->
       k = 1;
       do
       :: HAS(left, k) -> break
       :: else -> k++
       od;
       left = left & ~B(k); stirred = 1;
       p = k; k = 0; drop_owned(p); p = 0 }
  :: atomic { left == 0 && out ->
       k = 1;
       do
       :: outside[k] > 0 -> break
       :: else -> k++
       od;
       outside[k]--; stirred = 1;
       p = k; k = 0; drop_owned(p); p = 0;
       out = 0;
       EACH(ALL, if :: outside[c] > 0 -> out = 1 :: else fi) }
  od
}

/* ---- the collector ---- */
#ifdef SOLO
#define ASK asked[0] = 1
#define HALTED idle[0]
#else
#define ASK asked[0] = 1; asked[1] = 1
#define HALTED idle[0] && idle[1]
#endif
inline publish(mode) {
  d_step { word = WORD(epoch, mode); adopt(); ASK }
}
inline handshake(mode) {
  publish(mode);
  !asked[0] && !asked[1]
}

/* Counts g: d[v], the references that v has less those seen; edge[v], what v was seen to refer to. */
inline count_edges() {
  skip;
  d_step { EACH(ALL, d[c] = Z; edge[c] = 0) };
  STEPS(g, if :: HAS(g, slot[c]) -> edge[c] = slot[c]; d[edge[c]]-- :: else fi);
#ifdef LOCAL_FIRST
  STEPS(g, d[c] = d[c] + mine[c]);
  STEPS(g, d[c] = d[c] + others[c] - Z + HAS(queued, c))
#else
  STEPS(g, d[c] = d[c] + others[c] - Z + HAS(queued, c)); /* one that is queued never agrees */
  STEPS(g, d[c] = d[c] + mine[c])
#endif
}
/* Those that do not agree leave g, with all that they reach. */
inline drop_reached() {
  EACH(g, if :: d[c] != Z -> bad = bad | B(c) :: else fi);
  n = 0;
  do
  :: n < NOBJ -> EACH(g & bad, if :: edge[c] != 0 -> bad = bad | B(edge[c]) :: else fi); n++
  :: else -> n = 0; break
  od;
  g = g & ~bad; bad = 0
}
/* `bad` and all that is connected with it leave g. */
inline drop_components() {
  n = 0;
  do
  :: n < NOBJ ->
     EACH(g, if :: edge[c] != 0 && (HAS(bad, c) || HAS(bad, edge[c])) -> bad = bad | B(c) | B(edge[c]) :: else fi);
     n++
  :: else -> n = 0; break
  od;
  g = g & ~bad; bad = 0
}

/* References to g come from g, and no look is at it. */
inline condemn() {
  assert(!HAS(g, var[0]) && !HAS(g, var[1]) && !HAS(g, hand[0]) && !HAS(g, hand[1]) && !HAS(g, slot[0]));
  assert(!(g & (queued | young | left | waiting | dead | garbage)) && (g & ~(live & used)) == 0);
  EACH(ALL, assert(HAS(g | ~used, c) || !HAS(g, slot[c])); assert(!HAS(g, c) || outside[c] == 0));
#ifdef REACH_CONDEMNED
  assert(!HAS(g, 1) || slot[1] != 2 || slot[2] != 1);
#endif
#ifdef QUIET /* what is left is reached, unless a look has been at it while it was counted */
  reach();
  EACH(promoted & ~dead, assert(stirred || HAS(r | g, c)));
  r = 0;
#endif
  condemned = condemned | g
}

/* dead.c */
inline free_condemned() {
  todo = g;
  do
  :: atomic { todo != 0 -> c = FIRST(todo);
       if
       :: slot[c] != 0 ->
          p = slot[c]; slot[c] = 0;
          if
          :: !HAS(g, p) -> drop_shared(p)
          :: else
          fi;
          p = 0
       :: else -> todo = todo & ~B(c);
          others[c] = Z; published = published & ~B(c); mine[c] = 0;
          live = live & ~B(c); condemned = condemned & ~B(c); candidates = candidates & ~B(c);
          block_free(c)
       fi;
       c = 0 }
  :: todo == 0 -> break
  od;
  do
  GOES_ON(drop_shared(p))
  :: atomic { dying[me] == 0 -> break }
  od
}

#ifdef FINALIZERS
#define HOLD 2 /* more than anybody drops */
#define HELD(v) (HOLD * HAS(held, v))
#ifdef OPEN_AGAIN
#define CLOSED_AGAIN 0
#else
#define CLOSED_AGAIN (held != 0 -> CLOSED : 0)
#endif
#else
#define HELD(v) 0
#define CLOSED_AGAIN 0
#endif

proctype collector(byte me) {
#ifdef FINALIZERS
  byte held, doomed, brought_back;
#endif
  short d[NOBJ + 1];
  byte edge[NOBJ + 1];
  byte m, g, bad, c, k, n, r, todo, epoch;
  begun;
  do
  :: epoch == ROUNDS -> break
  :: else ->
     epoch++;
#ifdef STW
     d_step { halted = 1; ASK };
     atomic { HALTED ->
#if !defined(STW_NOT_CLOSED) && !defined(STW_CLOSED_LATE)
       word = IDLE | CLOSED; m = word;
#endif
       /* Young objects are promoted. */
       armed = armed | (present & ~dead & ~promoted & ~merged); promoted = promoted | (present & ~dead);
       stirred = 0;
       g = present & ~dead;
       EACH(ALL, d[c] = Z; edge[c] = 0);
       EACH(g, if :: HAS(g, slot[c]) -> edge[c] = slot[c]; d[edge[c]]-- :: else fi);
       EACH(g, d[c] = d[c] + others[c] - Z + HAS(queued, c) + mine[c]);
       drop_reached();
       EACH(ALL, d[c] = 0; edge[c] = 0);
       condemn();
       halted = 0 };
#ifdef STW_CLOSED_LATE /* not before the program runs again */
     d_step { word = IDLE | CLOSED; m = word };
#endif
     free_condemned();
     g = 0;
     publish(IDLE)
#else
     handshake(PINNED); /* H0 */
     skip;
     atomic { /* phase A: any of them */
       candidates = present & promoted & ~dead;
#ifdef QUIET
       g = candidates
#else
       EACH(candidates, if :: g = g | B(c) :: true fi);
       (g != 0 || candidates == 0)
#endif
     };
     if
     :: g != 0 ->
second:
        atomic { touched = touched & ~g; stirred = 0 }; /* B0 */
        handshake(LOGGING | CLOSED_AGAIN); /* H1 */
#ifndef NO_DEAD_SUSPECT
        STEPS(g, g = g & ~(dead & B(c)));
#endif
#ifdef QUIET
        count_edges(); /* B1 */
        skip;
        d_step { drop_reached() };
#endif
        count_edges(); /* B2 */
        skip;
        d_step {
          EACH(g, if :: d[c] != Z + HELD(c) -> bad = bad | B(c) :: else fi);
          drop_components();
          EACH(ALL, d[c] = 0)
        };
#ifdef CLOSED_LATE /* only when all is condemned */
        handshake(PINNED);
#else
        handshake(PINNED | CLOSED); /* H2 */
#endif
        d_step { bad = g & touched; drop_components(); condemn() }; /* B3 */
#ifdef FINALIZERS
        atomic {
          if
          :: held == 0 -> /* some components, which leave the condemned; one may come back */
             EACH(g, if :: held = held | B(c) :: true fi);
             EACH(g, if :: HAS(held, c) || HAS(held, edge[c]) -> held = held | B(c) | B(edge[c]) :: else fi);
             EACH(g, if :: HAS(held, c) || HAS(held, edge[c]) -> held = held | B(c) | B(edge[c]) :: else fi);
             held = held & ALL; condemned = condemned & ~held; doomed = condemned; g = held;
             EACH(held, others[c] = others[c] + HOLD; PUBLISH(c));
             if
             :: HAS(g, 1) && slot[0] == 0 -> slot[0] = 1; others[1]++
             :: true
             fi
          :: held != 0 -> doomed = doomed | g; brought_back = held & ~g; held = 0; g = 0
          fi;
          EACH(ALL, edge[c] = 0) };
        if
        :: g != 0 -> goto second
        :: else
        fi;
        STEPS(brought_back, drop_shared(c); drop_shared(c));
        skip;
        d_step { g = doomed; doomed = 0; brought_back = 0; held = 0 };
#else
        d_step { EACH(ALL, edge[c] = 0) };
#endif
#ifdef CLOSED_LATE
        handshake(PINNED | CLOSED);
#endif
#ifdef OPEN_EARLY /* before all is free */
        publish(PINNED);
#endif
        free_condemned();
        g = 0
     :: else
     fi;
     candidates = 0;
     publish(IDLE) /* H3 */
#endif
  od
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
    ANY(v); slot[0] = v; REFERENCE(v);
#ifndef NO_VAR /* thread 0 holds nothing */
    ANY(v); var[0] = v; REFERENCE(v);
#endif
#ifndef SOLO
    ANY(v); var[1] = v; REFERENCE(v);
#endif
    i = 1;
    do
    :: i <= NOBJ ->
#ifdef RING
       v = i % NOBJ + 1;
#else
       ANY(v);
#endif
       slot[i] = v; REFERENCE(v); others[i] = Z; i++
    :: else -> break
    od;
    i = 1;
    do
    :: i <= NOBJ ->
       if
       :: mine[i] == 0 -> (slot[i] == 0);
          if
          :: true
          :: noted = noted | B(i)
          fi
       :: mine[i] > 0 -> present = present | B(i); promoted = promoted | B(i);
#ifdef FEW
          noted = noted | B(i)
#else
          if
          :: armed = armed | B(i)
          :: noted = noted | B(i)
          fi
       :: mine[i] > 0 -> present = present | B(i) /* young */
#endif
       :: mine[i] > 0 -> present = present | B(i); promoted = promoted | B(i);
          merged = merged | B(i); others[i] = Z + mine[i]; mine[i] = 0
       fi;
       i++
    :: else -> break
    od;
    live = present; used = present;
    touched = ALL; /* by who knows whom */
    i = 0; v = 0;
    run owner(0);
#ifndef SOLO
    run other(1);
#endif
    run collector(2);
    begun = 1
  }
}
