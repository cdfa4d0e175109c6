/* SPDX-License-Identifier: MIT */
/* Making snapshots: all traces of all slots, copied while threads run.
 *
 * Marks are words, read one by one; a block that is freed and allocated again meanwhile is there with
 * either trace, or with none. With the trace lock held the session stays the same, and so do stacks.
 */
#include "lib/observe/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/object/object.h"
#include "lib/observe/trace.h"

/* ---- memory ---- */

void *gyre__vec_add(struct gyre__vec *vec, size_t bytes) {
  if (GYRE_UNLIKELY(bytes > vec->room - vec->used)) {
    size_t room = vec->room * 2;
    if (room - vec->used < bytes) room = vec->used + bytes;
    room = gyre__os_whole_pages(room);
    void *data = vec->data == NULL ? gyre__os_map(room, gyre__os_page_size())
                                   : gyre__os_remap(vec->data, vec->room, room);
    if (data == NULL) return NULL;
    vec->data = data;
    vec->room = room;
  }
  void *added = vec->data + vec->used;
  vec->used += bytes;
  return added;
}

void gyre__vec_free(struct gyre__vec *vec) {
  if (vec->data != NULL) gyre__os_unmap(vec->data, vec->room);
  memset(vec, 0, sizeof *vec);
}

struct map_slot {
  uint64_t key;
  uint32_t value;
  uint32_t used;
};

static size_t map_room(const struct gyre__map *map) {
  return GYRE__VEC_COUNT(&map->slots, struct map_slot);
}

/* Its slot, or the free one where it belongs. */
static struct map_slot *map_look(const struct gyre__map *map, uint64_t key) {
  size_t mask = map_room(map) - 1;
  uint64_t hash = key * UINT64_C(0x9E3779B97F4A7C15);
  size_t at = (size_t)(hash >> 32) & mask;
  struct map_slot *slots = (struct map_slot *)(void *)map->slots.data;
  while (slots[at].used && slots[at].key != key)
    at = (at + 1) & mask;
  return &slots[at];
}

static bool map_grow(struct gyre__map *map) {
  size_t old_room = map_room(map), room = old_room == 0 ? 256 : old_room * 2;
  struct gyre__map larger = {.count = map->count};
  if (gyre__vec_add(&larger.slots, room * sizeof(struct map_slot)) == NULL) return false;
  const struct map_slot *slots = (const struct map_slot *)(const void *)map->slots.data;
  for (size_t i = 0; i < old_room; i++)
    if (slots[i].used) *map_look(&larger, slots[i].key) = slots[i];
  gyre__vec_free(&map->slots);
  *map = larger;
  return true;
}

uint32_t *gyre__map_at(struct gyre__map *map, uint64_t key, bool *is_new) {
  if (map->count >= map_room(map) / 2 && !map_grow(map)) return NULL;
  struct map_slot *slot = map_look(map, key);
  *is_new = !slot->used;
  if (*is_new) {
    *slot = (struct map_slot){.key = key, .used = 1};
    map->count++;
  }
  return &slot->value;
}

uint32_t *gyre__map_find(const struct gyre__map *map, uint64_t key) {
  if (map->count == 0) return NULL;
  struct map_slot *slot = map_look(map, key);
  return slot->used ? &slot->value : NULL;
}

void gyre__map_free(struct gyre__map *map) {
  gyre__vec_free(&map->slots);
  map->count = 0;
}

/* ---- snapshots ---- */

struct gyre_snapshot *gyre__snapshot_new(void) {
  struct gyre_snapshot *s = gyre__os_map(sizeof *s, gyre__os_page_size());
  uint32_t empty;
  if (s != NULL && gyre__snapshot_intern(s, "", &empty)) return s;
  gyre_snapshot_free(s);
  errno = ENOMEM;
  return NULL;
}

void gyre_snapshot_free(gyre_snapshot *s) {
  if (s == NULL) return;
  for (unsigned i = 0; i < GYRE__PARTS; i++)
    gyre__vec_free(&s->parts[i]);
  gyre__map_free(&s->string_map);
  gyre__os_unmap(s, sizeof *s);
}

bool gyre__snapshot_intern(struct gyre_snapshot *s, const char *text, uint32_t *at) {
  size_t size = strlen(text) + 1;
  bool is_new;
  uint32_t *where = gyre__map_at(&s->string_map, XXH3_64bits(text, size), &is_new);
  if (where == NULL) return false;
  if (is_new) {
    struct gyre__vec *strings = &s->parts[GYRE__PART_STRINGS];
    size_t start = strings->used;
    char *copy = start + size <= UINT32_MAX ? gyre__vec_add(strings, size) : NULL;
    if (copy == NULL) return false; /* the snapshot is dropped */
    memcpy(copy, text, size);
    *where = (uint32_t)start;
  }
  *at = *where;
  return true;
}

size_t gyre_snapshot_count(const gyre_snapshot *s) {
  return GYRE__SNAPSHOT_COUNT(s, GYRE__PART_TRACES, struct gyre__trace_item);
}

unsigned gyre_snapshot_limit(const gyre_snapshot *s) { return s->nframe; }

/* ---- copying traces ---- */

struct making {
  struct gyre_snapshot *s;
  uint32_t session;
  bool failed;
  uint32_t last_site, last_stack;
  struct gyre__map stacks; /* by site */
  struct gyre__map frames; /* by address */
  float weight[GYRE__SIZE_CLASSES];
};

static bool frame_number(struct making *m, uint64_t pc, uint32_t *out) {
  bool is_new;
  uint32_t *number = gyre__map_at(&m->frames, pc, &is_new);
  if (number == NULL) return false;
  if (is_new) {
    struct gyre__vec *frames = &m->s->parts[GYRE__PART_FRAMES];
    *number = (uint32_t)GYRE__VEC_COUNT(frames, struct gyre__frame_item);
    struct gyre__frame_item *item = gyre__vec_add(frames, sizeof *item);
    if (item == NULL) return false;
    *item = (struct gyre__frame_item){.pc = pc};
  }
  *out = *number;
  return true;
}

static bool stack_add(struct making *m, const uint64_t *pcs, size_t count, size_t total,
                      const char *type) {
  struct gyre__stack_item item = {.count = (uint32_t)count, .total = (uint32_t)total};
  struct gyre__vec *list = &m->s->parts[GYRE__PART_FRAME_LIST];
  item.first = (uint32_t)GYRE__VEC_COUNT(list, uint32_t);
  if (!gyre__snapshot_intern(m->s, type, &item.type)) return false;
  for (size_t i = 0; i < count; i++) {
    uint32_t *number = gyre__vec_add(list, sizeof *number);
    if (number == NULL || !frame_number(m, pcs[i], number)) return false;
  }
  struct gyre__stack_item *added = gyre__vec_add(&m->s->parts[GYRE__PART_STACKS], sizeof *added);
  if (added != NULL) *added = item;
  return added != NULL;
}

static bool stack_number(struct making *m, uint32_t number, uint32_t *out) {
  bool is_new;
  uint32_t *at = gyre__map_at(&m->stacks, number, &is_new);
  if (at == NULL) return false;
  if (is_new) {
    const struct gyre__site *site = gyre__site(number);
    *at = (uint32_t)GYRE__SNAPSHOT_COUNT(m->s, GYRE__PART_STACKS, struct gyre__stack_item);
    const char *type = site->type != 0 ? gyre__type(site->type)->name : "";
    if (!stack_add(m, site->pcs, site->count, site->total, type != NULL ? type : "")) return false;
  }
  *out = *at;
  return true;
}

static void trace_add(struct making *m, uint32_t site, size_t size, uint32_t slot, uint32_t domain,
                      float weight) {
  if (site != m->last_site) {
    if (!stack_number(m, site, &m->last_stack)) m->failed = true;
    m->last_site = site;
  }
  struct gyre__trace_item *item =
      m->failed ? NULL : gyre__vec_add(&m->s->parts[GYRE__PART_TRACES], sizeof *item);
  if (item == NULL) {
    m->failed = true;
    return;
  }
  *item = (struct gyre__trace_item){
      .size = size, .stack = m->last_stack, .thread = slot, .domain = domain, .weight = weight};
}

static void visit_marks(const gyre__atomic_u64 *marks, uint32_t count, uint32_t slot, void *arg) {
  struct making *m = arg;
  for (uint32_t i = 0; i < count && !m->failed; i++) {
    /* acquire: the site; pairs with mark_small() in lib/heap/traced.c. */
    uint64_t mark = gyre__load_acquire(&marks[i]);
    if (mark == 0 || gyre__mark_session(mark) != m->session) continue;
    trace_add(m, gyre__mark_site(mark), gyre__mark_size(mark), slot,
              gyre__mark_is_object(mark) ? GYRE_TRACED_OBJECT : GYRE_TRACED_MEM,
              m->weight[gyre__mark_class(mark)]);
  }
}

static float weight_float(uint64_t weight) {
  return (float)((double)weight / (double)GYRE__WEIGHT_ONE);
}

static void visit_record(const struct gyre__traced_large *record, void *arg) {
  struct making *m = arg;
  if (m->failed || record->session != m->session) return;
  trace_add(m, record->site, record->size, record->slot, record->domain,
            weight_float(gyre__traced_weight_of(record->size, m->s->sample)));
}

static bool threads_add(struct gyre_snapshot *s) {
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 0; id <= count; id++) {
    char name[32];
    gyre__thread_name(id, name);
    uint32_t *at = gyre__vec_add(&s->parts[GYRE__PART_THREADS], sizeof *at);
    uint32_t string = 0;
    if (at == NULL || !gyre__snapshot_intern(s, name, &string)) return false;
    *GYRE__SNAPSHOT_AT(s, GYRE__PART_THREADS, uint32_t, id) = string;
  }
  return true;
}

/* With the trace lock. */
static void traces_copy(struct making *m) {
  m->s->nframe = gyre_trace_limit();
  /* relaxed: constant while the session lasts; pairs with settings_store(). */
  m->s->sample = gyre__load_relaxed(&gyre__trace_settings.sample);
  for (unsigned c = 0; c < GYRE__SIZE_CLASSES; c++)
    m->weight[c] = weight_float(gyre__traced_class_weight(c));
  uint32_t count = gyre__thread_slot_count();
  for (uint32_t id = 1; id <= count && !m->failed; id++) {
    struct gyre__tracer *t = gyre__tracer_of((struct gyre__heap *)gyre__thread_slot(id));
    if (t != NULL) gyre__traced_visit(t, visit_marks, m);
    GYRE_WINDOW("trace/snapshot");
  }
  gyre__table_visit(visit_record, m);
  if (!m->failed) m->failed = !threads_add(m->s);
}

gyre_snapshot *gyre_trace_snapshot(void) {
  struct making m = {.s = gyre__snapshot_new()};
  if (m.s == NULL) return NULL;
  gyre__trace_lock();
  /* relaxed: does not change while we have the lock. */
  m.session = gyre__load_relaxed(&gyre__trace_now);
  if (m.session != 0) traces_copy(&m);
  gyre__trace_unlock();
  gyre__map_free(&m.stacks);
  gyre__map_free(&m.frames);
  /* Not under the lock: it takes the dynamic linker's. */
  if (m.session != 0 && !m.failed && gyre__modules_find(m.s) == 0) return m.s;
  gyre_snapshot_free(m.s);
  errno = m.session == 0 ? ENODATA : ENOMEM;
  return NULL;
}

/* ---- frames ---- */

void gyre__frame_fill(const struct gyre__frame_item *item, const char *strings,
                      struct gyre_frame *out) {
  *out = (struct gyre_frame){.file = strings + item->file,
                             .line = item->line,
                             .func = strings + item->func,
                             .pc = item->pc};
}

void gyre__frames_fill(const struct gyre_snapshot *s, uint32_t stack, const char *strings,
                       struct gyre_frame *out) {
  const struct gyre__stack_item *item =
      GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, stack);
  for (uint32_t i = 0; i < item->count; i++) {
    uint32_t number =
        *GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAME_LIST, uint32_t, item->first + item->count - 1 - i);
    gyre__frame_fill(GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, number),
                     strings, &out[i]);
  }
}

struct traceback_memory {
  size_t bytes;
  struct gyre_frame frames[];
};

/* Of a stack in a snapshot that is named. 0 or -ENOMEM. */
static int traceback_of(const struct gyre_snapshot *s, uint32_t stack, struct gyre_traceback *out) {
  const struct gyre__stack_item *item =
      GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, stack);
  struct gyre_frame frame;
  struct traceback_memory *memory;
  size_t head = sizeof *memory + item->count * sizeof(struct gyre_frame), bytes = head;
  const struct gyre__vec *strings = &s->parts[GYRE__PART_STRINGS];
  bool all = strings->used < 65536; /* a small table is copied as it is */
  (void)frame;
  if (all) {
    bytes += strings->used;
  } else {
    for (uint32_t i = 0; i < item->count; i++) {
      uint32_t number = *GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAME_LIST, uint32_t, item->first + i);
      const struct gyre__frame_item *f =
          GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, number);
      bytes += strlen(strings->data + f->file) + strlen(strings->data + f->func) + 2;
    }
  }
  memory = gyre__os_map(bytes, gyre__os_page_size());
  if (memory == NULL) return -ENOMEM;
  memory->bytes = bytes;
  char *texts = (char *)memory + head;
  gyre__frames_fill(s, stack, all ? texts : strings->data, memory->frames);
  if (all) {
    memcpy(texts, strings->data, strings->used);
  } else {
    for (uint32_t i = 0; i < item->count; i++) {
      struct gyre_frame *f = &memory->frames[i];
      size_t file = strlen(f->file) + 1, func = strlen(f->func) + 1;
      f->file = memcpy(texts, f->file, file);
      f->func = memcpy(texts + file, f->func, func);
      texts += file + func;
    }
  }
  *out = (struct gyre_traceback){
      .count = item->count, .total = item->total, .frames = memory->frames, .gyre__memory = memory};
  return 0;
}

int gyre__traceback_make(const struct gyre__addresses *stack, bool park,
                         struct gyre_traceback *out) {
  struct making m = {.s = gyre__snapshot_new()};
  if (m.s == NULL) return -ENOMEM;
  int result = stack_add(&m, stack->pcs, stack->count, stack->total, "") ? 0 : -ENOMEM;
  gyre__map_free(&m.frames);
  if (result == 0) result = gyre__modules_find(m.s);
  if (result == 0) result = park ? gyre__snapshot_name(m.s) : gyre__snapshot_name_now(m.s);
  if (result == 0) result = traceback_of(m.s, 0, out);
  gyre_snapshot_free(m.s);
  return result;
}

void gyre_traceback_free(struct gyre_traceback *traceback) {
  if (traceback == NULL || traceback->gyre__memory == NULL) return;
  struct traceback_memory *memory = traceback->gyre__memory;
  gyre__os_unmap(memory, memory->bytes);
  memset(traceback, 0, sizeof *traceback);
}

int gyre_snapshot_trace(gyre_snapshot *s, size_t index, struct gyre_trace *out) {
  if (index >= gyre_snapshot_count(s)) return -EINVAL;
  int result = gyre__snapshot_name(s);
  if (result != 0) return result;
  const struct gyre__trace_item *item =
      GYRE__SNAPSHOT_AT(s, GYRE__PART_TRACES, struct gyre__trace_item, index);
  const struct gyre__stack_item *stack =
      GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, item->stack);
  struct gyre_traceback traceback;
  result = traceback_of(s, item->stack, &traceback);
  if (result != 0) return result;
  *out =
      (struct gyre_trace){.size = item->size,
                          .weight = (double)item->weight,
                          .domain = item->domain,
                          .type = gyre__snapshot_string(s, stack->type),
                          .thread = item->thread,
                          .thread_name = gyre__snapshot_string(
                              s, *GYRE__SNAPSHOT_AT(s, GYRE__PART_THREADS, uint32_t, item->thread)),
                          .traceback = traceback};
  return 0;
}
