/* SPDX-License-Identifier: MIT */
/* Blocks that other threads free: lib/heap/page.c (the word page->remote, full pages, news), batches (heap.c),
 * unmapping (segment.c).
 *
 * One slot with a segment of NP pages, BPP blocks each; whoever has the slot does what its owner does here. It
 * allocates for itself and for FREERS other threads, frees, purges and unmaps: NOPS operations in all. The
 * others free what they were given, in batches of any size, always at last. FULL: at first all pages are. Names are the code's. A block is
 * its number and 1, so that 0 is none; so is a page on the news. README.md lists the switches. */
#ifndef FREERS
#define FREERS 2
#endif
#ifndef NP
#define NP 2
#endif
#ifndef BPP
#define BPP 2
#endif
#ifndef NOPS
#define NOPS 6
#endif
#define NB (NP * BPP)
#define PAGE(b) ((b) / BPP)
#define OWNER 1 /* the freers are 2 and 3 */

/* page->remote: how many, the number of the first in its page, TELL. */
#define TELL 1
#define WORD(count, b) ((count) << 3 | ((b) % BPP) << 1)
#define COUNT(word) ((word) >> 3)
#define FIRST(p, word) (COUNT(word) == 0 -> 0 : (p) * BPP + (((word) >> 1) & 3) + 1)

/* -- atomic in the code -- */
byte remote[NP];
byte news;
/* -- of who has the block, or its list -- */
byte link[NB];
/* -- the pusher's, then the owner's -- */
byte news_next[NP];
/* -- the owner's -- */
local byte free[NP];
local byte used[NP];
local bit is_full[NP];
local bit in_pool[NP];
local bit awaits_news[NP];
local bit in_use[NP]; /* its state is USED; pages here are raw */
local byte ready;
local byte ops = NOPS;
/* -- ghosts -- */
byte holder[NB]; /* who may use it; 0: it is free, or being freed */
bit mapped;
byte maps; /* which mapping of the segment this is */

/* ---- the freers ---- */

/* The page's metadata is what it was when we had a block in it. */
#define TOUCH assert(mapped && maps == map)

inline news_push() {
#ifdef PUSH_PLAIN
  head = news;
  TOUCH; news_next[p] = head;
  news = p + 1;
#else
  head = news;
  do
  :: TOUCH; news_next[p] = head;
     if
     :: atomic { news == head -> news = p + 1; break }
     :: else -> head = news
     fi
  od
#endif
}

#if defined(PUSH_ALWAYS) /* whoever finds no block there */
#define MUST_PUSH (COUNT(old) == 0)
#elif defined(LOOK_AFTER) /* who finds, afterwards, that the page is full */
#define MUST_PUSH (is_full[p])
#else
#define MUST_PUSH (old == TELL)
#endif

#define LINK link[last - 1] = FIRST(p, old)
/* gyre__page_free_remote() */
inline send() {
  TOUCH; old = remote[p];
#ifdef LINK_ONCE
  LINK;
#endif
  do
  :: atomic { remote[p] == old -> TOUCH;
#ifndef LINK_ONCE
       LINK;
#endif
       remote[p] = WORD(COUNT(old) + count, first - 1);
       first = 0; last = 0; count = 0; break }
  :: atomic { remote[p] != old -> TOUCH; old = remote[p] }
  od;
#ifdef LOOK_AFTER
  TOUCH;
#endif
  if
  :: MUST_PUSH -> news_push()
  :: else
  fi;
  atomic { p = 0; old = 0; head = 0; map = 0 }
}

#define BATCH_ADD(b)                                                                               \
  :: d_step { holder[b] == me && (count == 0 || p == PAGE(b)) ->                                   \
       holder[b] = 0; link[b] = first; first = (b) + 1; count++;                                   \
       if                                                                                          \
       :: count == 1 -> last = first; p = PAGE(b); map = maps                                      \
       :: else                                                                                     \
       fi }

proctype freer(byte me) {
  byte p, first, last, count, old, head, map;
  do
  BATCH_ADD(0)
  BATCH_ADD(1)
#if NB > 2
  BATCH_ADD(2)
#endif
#if NB > 3
  BATCH_ADD(3)
#endif
#if NB > 4
  BATCH_ADD(4)
  BATCH_ADD(5)
#endif
  :: count > 0 -> send() /* it is full, another page needs its place, or the thread parks, exits or purges */
  od
}

/* ---- the owner ---- */

/* Takes w, which is what page->remote was, to the free list. */
inline take_list(p) {
  d_step {
    x = FIRST(p, w); y = 1;
    do
    :: link[x - 1] != 0 -> x = link[x - 1]; y++; assert(y <= BPP)
    :: else -> break
    od;
    assert(y == COUNT(w) && y <= used[p] && !is_full[p]);
    link[x - 1] = free[p]; free[p] = FIRST(p, w); used[p] = used[p] - y;
    x = 0; y = 0; w = 0; r = 1
  }
}

/* page_collect(): r */
inline collect(p) {
  if
  :: atomic { COUNT(remote[p]) == 0 -> r = 0 }
  :: atomic { COUNT(remote[p]) != 0 -> w = remote[p] };
#ifdef COLLECT_PLAIN
     remote[p] = 0;
#else
     atomic { w = remote[p]; remote[p] = 0 };
#endif
     take_list(p)
  fi
}

#ifdef NO_AWAITS
#define HEARD true
#else
#define HEARD (!awaits_news[p])
#endif
#ifdef FULL_ANYWAY
#define NOTHING_NEW true
#else
#define NOTHING_NEW (COUNT(remote[p]) == 0)
#endif
/* page_mark_full(): r */
inline mark_full(p) {
  if
#ifdef NO_TELL
  :: true -> r = (COUNT(remote[p]) == 0)
#elif defined(TELL_PLAIN)
  :: atomic { HEARD -> r = (remote[p] == 0) };
     if
     :: r -> remote[p] = TELL; awaits_news[p] = 1
     :: else
     fi
#else
  :: atomic { HEARD && remote[p] == 0 -> remote[p] = TELL; awaits_news[p] = 1; r = 1 }
  :: atomic { HEARD && remote[p] != 0 -> r = 0 }
#endif
#ifndef NO_TELL
  :: atomic { !(HEARD) -> r = NOTHING_NEW }
#endif
  fi;
  d_step {
    if
    :: r -> assert(used[p] == BPP && free[p] == 0); in_pool[p] = 0; is_full[p] = 1; used[p] = 1
    :: else
    fi
  }
}

#ifdef NO_REARM /* a full page of which nothing new is found stays as it is */
#define WAIT_ANEW(p) is_full[p] = 1; used[p] = 1; break
#else
#define WAIT_ANEW(p) mark_full(p); if :: r -> break :: else fi
#endif
/* page_look() */
inline look(p) {
  if
  :: is_full[p] ->
     d_step { is_full[p] = 0; used[p] = BPP };
     do
     :: collect(p);
        if
        :: r -> in_pool[p] = 1; break
        :: else -> WAIT_ANEW(p)
        fi
     od
  :: else -> collect(p)
  fi
}

/* page_put_away(), of a raw page */
#define PUT_AWAY(p)                                                                                \
  assert(used[p] == 0 && !is_full[p] && COUNT(remote[p]) == 0);                                       \
  in_pool[p] = 0; in_use[p] = 0; free[p] = 0
#define POOLED (in_pool[0] + in_pool[NP - 1] + (NP > 2 -> in_pool[1] : 0) - (NP == 1 -> in_pool[0] : 0))
/* gyre__page_retire(): the last of its pool stays */
inline retire(p) {
  d_step {
    if
    :: POOLED == in_pool[p] -> in_pool[p] = 1
    :: else -> PUT_AWAY(p)
    fi
  }
}

/* gyre__page_hear_news() */
inline hear() {
  atomic { n = news; news = 0 };
  do
  :: n == 0 -> break
  :: else ->
     q = n - 1;
#ifndef NEXT_LATE
     n = news_next[q];
#endif
     /* "One push" */
     assert(mapped && awaits_news[q]); awaits_news[q] = 0;
     if
     :: in_use[q] ->
        look(q);
        if
        :: in_use[q] && used[q] == 0 -> retire(q)
        :: else
        fi
     :: else
     fi;
#ifdef NEXT_LATE
     n = news_next[q];
#endif
     q = 0
  od
}

/* pool_search(): found, a page and 1 */
inline search_page(p) {
  if
  :: found == 0 && in_pool[p] ->
     if
     :: free[p] != 0 -> found = p + 1
     :: else ->
        collect(p);
        if
        :: r -> found = p + 1
        :: else ->
           mark_full(p);
           if
           :: r
           :: else -> collect(p); assert(r); found = p + 1
           fi
        fi
     fi
  :: else
  fi
}
inline search() {
  search_page(0);
#if NP > 1
  search_page(1);
#endif
#if NP > 2
  search_page(2);
#endif
  r = 0
}

#define ADD_PAGE(p) :: !in_use[p] -> found = p + 1
/* gyre__page_add(), and mapping the segment */
inline add_page() {
  d_step {
    if
    ADD_PAGE(0)
#if NP > 1
    ADD_PAGE(1)
#endif
#if NP > 2
    ADD_PAGE(2)
#endif
    :: else
    fi;
    if
    :: found == 0
    :: found != 0 ->
       if
       :: !mapped -> mapped = 1; maps++
       :: else
       fi;
       x = found - 1;
       assert(COUNT(remote[x]) == 0 && !is_full[x] && free[x] == 0);
       in_use[x] = 1; in_pool[x] = 1; used[x] = 0;
       y = 0;
       do
       :: y < BPP -> link[x * BPP + y] = free[x]; free[x] = x * BPP + y + 1; y++
       :: else -> break
       od;
       x = 0; y = 0
    fi
  }
}

/* gyre__heap_alloc(), for any thread; fails if all pages are full */
inline alloc() {
  if
  :: ready != 0
  :: else ->
     search();
     if
     :: found == 0 -> hear(); search()
     :: else
     fi;
     if
     :: found == 0 -> add_page()
     :: else
     fi;
     d_step {
       if
       :: found != 0 -> /* gyre__page_make_ready() */
          ready = free[found - 1]; free[found - 1] = 0; used[found - 1] = BPP; found = 0
       :: else
       fi
     }
  fi;
  atomic {
    if
    :: ready == 0
    :: ready != 0 ->
       x = ready - 1; ready = link[x]; link[x] = 0;
       assert(holder[x] == 0 && in_use[PAGE(x)]);
       if
       :: holder[x] = OWNER
       :: holder[x] = 2
#if FREERS > 1
       :: holder[x] = 3
#endif
       fi;
       x = 0
    fi
  }
}

/* gyre__heap_free_local(), gyre__heap_page_idle() */
#define FREE_LOCAL(b)                                                                              \
  :: atomic { ops > 0 && holder[b] == OWNER -> ops--; holder[b] = 0; x = PAGE(b);                  \
       if                                                                                          \
       :: is_full[x] -> /* gyre__page_keep_full() */                                                  \
          link[b] = ready; ready = (b) + 1                                                         \
       :: is_full[x] -> is_full[x] = 0; used[x] = BPP - 1; in_pool[x] = 1; link[b] = 0; free[x] = (b) + 1 \
       :: !is_full[x] -> link[b] = free[x]; free[x] = (b) + 1; used[x]--;                             \
          if                                                                                       \
          :: used[x] == 0 -> retire(x)                                                             \
          :: else                                                                                  \
          fi                                                                                       \
       fi;                                                                                         \
       x = 0 }

/* gyre__page_put_back() */
inline put_back() {
  d_step {
    do
    :: ready == 0 -> break
    :: else ->
       y = ready - 1; x = PAGE(y); ready = link[y];
       if
       :: is_full[x] -> is_full[x] = 0; used[x] = BPP; in_pool[x] = 1
       :: else
       fi;
       link[y] = free[x]; free[x] = y + 1; used[x]--
    od;
    x = 0; y = 0
  }
}

inline purge_page(p) {
  if
  :: in_use[p] ->
     look(p);
     r = 0;
     d_step {
       if
       :: used[p] == 0 -> PUT_AWAY(p)
       :: else
       fi
     }
  :: else
  fi
}

/* segment_call_off_news(): r */
#ifdef NO_CALL_OFF
#define CALL_OFF(p) skip
#elif defined(CALL_OFF_BLIND)
#define CALL_OFF(p) awaits_news[p] = 0
#else
#define CALL_OFF(p)                                                                                \
  if                                                                                               \
  :: !r || !awaits_news[p]                                                                         \
  :: atomic { r && awaits_news[p] && remote[p] == TELL -> remote[p] = 0; awaits_news[p] = 0 }      \
  :: atomic { r && awaits_news[p] && remote[p] != TELL -> r = 0 }                                  \
  fi
#endif
#define UNMAP(p) remote[p] = 0; awaits_news[p] = 0; news_next[p] = 0

/* gyre__purge_heap(), gyre__segment_purge() */
inline purge() {
  put_back();
  hear();
  purge_page(0);
#if NP > 1
  purge_page(1);
#endif
#if NP > 2
  purge_page(2);
#endif
  if
  :: mapped && !in_use[0] && !in_use[NP - 1] && !in_use[NP / 2] ->
     r = 1;
     CALL_OFF(0);
#if NP > 1
     CALL_OFF(1);
#endif
#if NP > 2
     CALL_OFF(2);
#endif
     d_step {
       if
       :: r ->
          mapped = 0; r = 0;
          UNMAP(0);
#if NP > 1
          UNMAP(1);
#endif
#if NP > 2
          UNMAP(2)
#endif
       :: else
       fi
     }
  :: else
  fi
}

proctype owner() {
  byte x, y, w, n, q, found;
  bit r;
  do
  :: atomic { ops > 0 -> ops-- }; alloc(); r = 0
  FREE_LOCAL(0)
  FREE_LOCAL(1)
#if NB > 2
  FREE_LOCAL(2)
#endif
#if NB > 3
  FREE_LOCAL(3)
#endif
#if NB > 4
  FREE_LOCAL(4)
  FREE_LOCAL(5)
#endif
  :: atomic { ops > 0 && mapped -> ops-- }; purge(); r = 0
  :: atomic { ops > 0 -> ops = 0 } /* never does anything again */
  od
}

/* ---- when nobody can do anything any more ---- */

/* Counts the blocks of a list that begins with x. */
inline see_list() {
  do
  :: x == 0 -> break
  :: else ->
     seen[x - 1]++; assert(seen[x - 1] == 1);
     assert(holder[x - 1] == 0 && in_use[PAGE(x - 1)]);
     y++; x = link[x - 1]
  od
}

active proctype at_the_end() {
  byte x, y, i, strays;
  byte seen[NB];
  bit heard[NP];
  timeout ->
  d_step {
    /* Each page is on the news once at most. */
    x = news;
    do
    :: x == 0 -> break
    :: else -> assert(mapped && awaits_news[x - 1] && !heard[x - 1]); heard[x - 1] = 1; x = news_next[x - 1]
    od;
    /* Each block is held, or on one list. */
    x = ready; see_list();
    i = 0;
    do
    :: i == NP -> break
    :: else ->
       y = 0; x = free[i]; see_list();
       assert(is_full[i] || !in_use[i] || used[i] + y == BPP);
       assert(!is_full[i] || (y == 0 && used[i] == 1));
       y = 0; x = FIRST(i, remote[i]); see_list();
       assert(y == COUNT(remote[i]));
       assert(!in_use[i] || in_pool[i] != is_full[i]);
       /* A full page will be heard of: it is on the news if others have freed blocks of it, or else will be. */
       assert(!is_full[i] || heard[i] || remote[i] == TELL);
       /* What waits for news will have some, or can be called off. */
       assert(!awaits_news[i] || heard[i] || remote[i] == TELL);
       i++
    od;
    i = 0;
    do
    :: i == NB -> break
    :: else -> assert(!in_use[PAGE(i)] || seen[i] == (holder[i] == 0)); i++
    od
#ifdef REACH
    ; assert(maps < 2 || !heard[0] || !is_full[0])
#endif
  }
}

/* All pages are full, and their blocks anybody's. */
inline fill_all() {
  mapped = 1; maps = 1;
  do
  :: i == NP -> break
  :: else -> in_use[i] = 1; is_full[i] = 1; used[i] = 1; remote[i] = TELL; awaits_news[i] = 1; i++
  od;
  i = 0;
  do
  :: i == NB -> break
  :: i < NB -> holder[i] = OWNER; i++
  :: i < NB -> holder[i] = 2; i++
#if FREERS > 1
  :: i < NB -> holder[i] = 3; i++
#endif
  od;
  i = 0
}

init {
  byte i;
  atomic {
#ifdef FULL
    fill_all();
#endif
    run owner();
    run freer(2);
#if FREERS > 1
    run freer(3)
#endif
  }
}
