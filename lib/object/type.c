/* SPDX-License-Identifier: MIT */
/* Types get an id when they are first used: a check of the description, an entry in one flat table
 * (address space for all possible ids, memory only for those in use). Ids are never given up. */
#include "lib/object/type.h"

#include <errno.h>

static struct {
  gyre__lock lock;
  uint32_t count; /* under the lock */
} types;

gyre__atomic_ptr *gyre__type_table;
/* Ids that the table has room for. Under the lock. */
static uint32_t id_max;

/* Where memory is bounded, a sixty-fourth of it may be the table. */
#define LEAST_TYPES 511u
#define TABLE_PART 64u

static const char *slots_fault(const gyre_slots *slots, size_t size) {
  if (slots->count != 0 && slots->at == NULL) return "slots have a count but no array";
  for (size_t i = 0; i < slots->count; i++) {
    if (slots->at[i].offset % sizeof(gyre_slot) != 0)
      return "a slot's offset is not a multiple of 8";
    if (slots->at[i].offset > size || size - slots->at[i].offset < sizeof(gyre_slot))
      return "a slot lies outside its struct or element";
  }
  return NULL;
}

/* What is wrong with a description, or NULL. */
static const char *type_fault(const gyre_type *type) {
  if (type->name == NULL) return "it has no name";
  if (type->size > PTRDIFF_MAX / 2 || type->element_size > PTRDIFF_MAX / 2)
    return "its size is too large";
  if (type->flags &
      ~(unsigned)(GYRE_TYPE_SHARED | GYRE_TYPE_TRY_RETAIN | GYRE_TYPE_MANUAL_FINALIZE |
                  GYRE_TYPE_FINALIZE_QUEUED | GYRE_TYPE_IMMUTABLE))
    return "it has unknown flags";
  if (type->element_size == 0 && type->element_slots.count != 0)
    return "element_slots without element_size";
  if (type->element_slots.count != 0 && (type->size % 8 != 0 || type->element_size % 8 != 0))
    return "size and element_size must be multiples of 8 if elements have slots";
  if (type->clear != NULL && type->visit == NULL) return "clear without visit";
  const char *fault = slots_fault(&type->slots, type->size);
  return fault != NULL ? fault : slots_fault(&type->element_slots, type->element_size);
}

static void type_prepare(gyre_type *type) {
  bool leaf = type->slots.count == 0 && type->element_slots.count == 0 && type->visit == NULL;
  type->gyre__kind = leaf ? GYRE__LEAF : GYRE__TRACKED;
  size_t size = gyre__object_block_size(type->size);
  if (size <= GYRE__CLASS_MAX)
    type->gyre__pool = (uint16_t)(type->gyre__kind * GYRE__SIZE_CLASSES + gyre__size_class(size));
  type->gyre__bits =
      /* What the program takes apart itself is left to the collector, which knows. */
      (uint8_t)((!leaf || type->destroy != NULL ? GYRE__BIT_COMPLEX : 0) |
                (type->finalize != NULL ? GYRE__BIT_FINALIZE : 0) |
                (type->flags & (GYRE_TYPE_SHARED | GYRE_TYPE_TRY_RETAIN | GYRE_TYPE_MANUAL_FINALIZE)
                     ? GYRE__BIT_ATOMIC
                     : 0));
}

static int type_add(gyre_type *type) {
  /* relaxed: entries are written under the lock, which we hold. */
  if (gyre__load_relaxed(&type->gyre__id) != 0) return 0;
  if (gyre__type_table == NULL) {
    size_t entries = gyre__source_share((size_t)1 << GYRE__TYPE_ID_BITS, LEAST_TYPES + 1,
                                        TABLE_PART, sizeof *gyre__type_table);
    gyre__type_table = gyre__os_reserve(entries * sizeof *gyre__type_table);
    if (gyre__type_table == NULL) return -ENOMEM;
    id_max = (uint32_t)(entries - 1);
  }
  if (types.count == id_max) return -ENOMEM;
  uint32_t id = ++types.count;
  type_prepare(type);
  /* relaxed: published by the id. */
  gyre__store_relaxed(&gyre__type_table[id], (void *)type);
  /* release: the table entry and what type_prepare() wrote; pairs with the acquire in
   * gyre__type_id(). */
  gyre__store_release(&type->gyre__id, id);
  bool simple = type->size <= GYRE__SIMPLE_MAX && type->element_size == 0 &&
                !(type->flags & GYRE_TYPE_SHARED);
  /* release: as above, for gyre_new()'s fast path; pairs with its acquire. */
  if (simple)
    gyre__store_release(&type->gyre__birth,
                        gyre__header_word(id, 0, GYRE__GC_YOUNG, type->gyre__bits));
  return 0;
}

int gyre__type_register(gyre_type *type) {
  if (type != NULL && gyre__type_id(type) != 0) return 0;
  const char *fault = type == NULL ? "it is NULL" : type_fault(type);
  if (fault != NULL) {
    gyre__log("type \"%s\" cannot be used: %s",
              type != NULL && type->name != NULL ? type->name : "?", fault);
    return -EINVAL;
  }
  gyre__lock_take(&types.lock);
  int result = type_add(type);
  gyre__lock_give(&types.lock);
  return result;
}

uint32_t gyre__type_count(void) {
  gyre__lock_take(&types.lock);
  uint32_t count = types.count;
  gyre__lock_give(&types.lock);
  return count;
}

/* The end of an arena: types are the program's, and registered anew when they are used again. */
static void forget(void) {
  for (uint32_t id = 1; id <= types.count; id++) {
    gyre_type *type = gyre__type(id);
    /* relaxed: no thread is attached. */
    gyre__store_relaxed(&type->gyre__birth, 0);
    gyre__store_relaxed(&type->gyre__id, 0);
  }
  types.count = 0;
  gyre__type_table = NULL;
}

static void __attribute__((constructor)) type_init(void) { gyre__forget_add(forget); }

void gyre__type_fork_prepare(void) { gyre__lock_take(&types.lock); }
void gyre__type_fork_parent(void) { gyre__lock_give(&types.lock); }
void gyre__type_fork_child(void) { gyre__lock_reset(&types.lock); }
