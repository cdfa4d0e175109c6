/* SPDX-License-Identifier: MIT */
/* From addresses to files, lines and functions, by elfutils' libdw.
 *
 * libdw.so.1 is loaded when it is first wanted, not linked: it brings half a dozen libraries along, and a
 * program that does not trace should not have to. Its types come from its headers. Without it, or without
 * debug information, a frame has its module for a file, and a function if the dynamic linker knows one.
 *
 * libdw keeps what it has read in a Dwfl, which is used under a lock, while the thread is parked, and made
 * anew when modules have been unloaded. It allocates by malloc, which is not ours.
 */
#include <dlfcn.h>
#include <elf.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "lib/observe/snapshot.h"
#include "lib/thread/thread.h"

/* ---- modules ---- */

struct finding {
  struct gyre_snapshot *s;
  bool failed;
};

/* The build id in a note segment, or nothing. */
static void build_id_find(const char *notes, size_t size, struct gyre__module_item *out) {
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) head;
    memcpy(&head, notes, sizeof head);
    size_t name = (head.n_namesz + 3u) & ~3u, desc = (head.n_descsz + 3u) & ~3u;
    size_t all = sizeof head + name + desc;
    if (all > size) return;
    const char *at = notes + sizeof head;
    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(at, "GNU", 4) == 0 &&
        head.n_descsz <= sizeof out->build_id) {
      out->build_id_bytes = head.n_descsz;
      memcpy(out->build_id, at + name, head.n_descsz);
      return;
    }
    notes += all;
    size -= all;
  }
}

static int module_add(struct dl_phdr_info *info, size_t size, void *arg) {
  struct finding *f = arg;
  struct gyre__module_item item = {.base = info->dlpi_addr, .low = UINT64_MAX};
  (void)size;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    uint64_t start = info->dlpi_addr + p->p_vaddr;
    if (p->p_type == PT_LOAD) {
      if (start < item.low) item.low = start;
      if (start + p->p_memsz > item.high) item.high = start + p->p_memsz;
    } else if (p->p_type == PT_NOTE && item.build_id_bytes == 0) {
      build_id_find((const char *)(uintptr_t)start, p->p_memsz, &item); /* NOLINT: an address */
    }
  }
  if (item.low >= item.high) return 0;
  char self[PATH_MAX];
  const char *path = info->dlpi_name;
  if (path == NULL || *path == 0) {
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    path = self;
  }
  struct gyre__module_item *added =
      gyre__snapshot_intern(f->s, path, &item.path)
          ? gyre__vec_add(&f->s->parts[GYRE__PART_MODULES], sizeof *added)
          : NULL;
  if (added != NULL) *added = item;
  f->failed = added == NULL;
  return f->failed;
}

static uint32_t module_of(const struct gyre_snapshot *s, uint64_t pc) {
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_MODULES, struct gyre__module_item);
  for (size_t i = 0; i < count; i++) {
    const struct gyre__module_item *m =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, i);
    if (pc > m->low && pc <= m->high) return (uint32_t)i + 1;
  }
  return 0;
}

int gyre__modules_find(struct gyre_snapshot *s) {
  struct finding f = {.s = s};
  (void)dl_iterate_phdr(module_add, &f);
  if (f.failed) return -ENOMEM;
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAMES, struct gyre__frame_item);
  for (size_t i = 0; i < count; i++) {
    struct gyre__frame_item *item =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, i);
    item->module = module_of(s, item->pc);
  }
  return 0;
}

/* ---- libdw ---- */

#define FUNCTIONS(each)                                                                            \
  each(dwfl_begin) each(dwfl_end) each(dwfl_report_begin_add) each(dwfl_report_elf)                \
      each(dwfl_report_end) each(dwfl_addrmodule) each(dwfl_module_addrname)                       \
          each(dwfl_module_getsrc) each(dwfl_lineinfo) each(dwfl_standard_find_debuginfo)          \
              each(dwfl_offline_section_address) each(dwfl_module_nextcu) each(dwarf_haspc)        \
                  each(dwarf_getsrc_die) each(dwarf_lineno) each(dwarf_linesrc)

#define DECLARE(name) __typeof__(&name) name##_;
static struct {
  gyre__lock lock;
  gyre__atomic_ptr library; /* both set before the lock is taken */
  gyre__atomic_u32 was_opened;
  bool was_tried;
  bool is_there;
  Dwfl *dwfl;
  Dwfl_Callbacks callbacks;
  struct gyre_snapshot *naming;
  /* What has been reported to dwfl. */
  struct gyre__vec modules; /* struct reported */
  FUNCTIONS(DECLARE)
} dw;

struct reported {
  uint64_t base, low;
  uint32_t build_id_bytes;
  uint8_t build_id[24];
};

/* Whoever loads a library may be waiting for us in its constructor: no lock is held. Two who load it at the same time
 * have the same. */
static void dw_open(void) {
  /* acquire: the library; pairs with the store below. */
  if (gyre__load_acquire(&dw.was_opened) != 0) return;
  void *library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
  /* relaxed: before the flag; pairs with dw_load(). */
  gyre__store_relaxed(&dw.library, library);
  /* release: the library; pairs with the load above. */
  gyre__store_release(&dw.was_opened, 1);
}

static bool dw_find(void *library) {
#define LOAD(name)                                                                                 \
  void *address_of_##name = dlsym(library, #name);                                                 \
  memcpy(&dw.name##_, &address_of_##name, sizeof dw.name##_);                                      \
  if (address_of_##name == NULL) return false;
  FUNCTIONS(LOAD)
  dw.callbacks.find_debuginfo = dw.dwfl_standard_find_debuginfo_;
  dw.callbacks.section_address = dw.dwfl_offline_section_address_;
  return true;
}

static bool dw_load(void) {
  if (dw.was_tried) return dw.is_there;
  /* relaxed: after dw_open(), which pairs with it. */
  void *library = gyre__load_relaxed(&dw.library);
  if (library == NULL) return false;
  dw.is_there = dw_find(library);
  /* Last: the child of a fork begins again where another thread was. */
  dw.was_tried = true;
  return dw.is_there;
}

static void dw_forget(void) {
  if (dw.dwfl != NULL) dw.dwfl_end_(dw.dwfl);
  dw.dwfl = NULL;
  dw.modules.used = 0;
}

/* 1: known, 0: not, -1: something else is there. */
static int dw_knows(const struct gyre__module_item *m) {
  size_t count = GYRE__VEC_COUNT(&dw.modules, struct reported);
  for (size_t i = 0; i < count; i++) {
    const struct reported *r = GYRE__VEC_AT(&dw.modules, struct reported, i);
    if (r->base == m->base && r->low == m->low && r->build_id_bytes == m->build_id_bytes &&
        memcmp(r->build_id, m->build_id, sizeof r->build_id) == 0)
      return 1;
    if (r->low == m->low) return -1;
  }
  return 0;
}

static bool dw_report(const struct gyre_snapshot *s, const struct gyre__module_item *m) {
  struct reported *r = gyre__vec_add(&dw.modules, sizeof *r);
  if (r == NULL) return false;
  *r = (struct reported){.base = m->base, .low = m->low, .build_id_bytes = m->build_id_bytes};
  memcpy(r->build_id, m->build_id, sizeof r->build_id);
  const char *path = gyre__snapshot_string(s, m->path);
  /* A module that cannot be read has no names. */
  (void)dw.dwfl_report_elf_(dw.dwfl, path, path, -1, m->base, true);
  return true;
}

/* Has libdw know the modules that the snapshot needs. */
static bool dw_prepare(const struct gyre_snapshot *s) {
  if (!dw_load()) return false;
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_MODULES, struct gyre__module_item);
  for (size_t i = 0; i < count; i++)
    if (dw_knows(GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, i)) < 0)
      dw_forget();
  if (dw.dwfl == NULL) dw.dwfl = dw.dwfl_begin_(&dw.callbacks);
  if (dw.dwfl == NULL) return false;
  dw.dwfl_report_begin_add_(dw.dwfl);
  for (size_t i = 0; i < count; i++) {
    const struct gyre__module_item *m =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, i);
    if (dw_knows(m) == 0 && !dw_report(s, m)) break;
  }
  return dw.dwfl_report_end_(dw.dwfl, NULL, NULL) == 0;
}

/* ---- frames ---- */

struct names {
  const char *file, *func;
  unsigned line;
};

/* Without the table of addresses (.debug_aranges), which clang does not write: unit by unit. */
static const char *line_by_unit(Dwfl_Module *module, uint64_t pc, int *number) {
  Dwarf_Addr bias = 0;
  for (Dwarf_Die *unit = NULL; (unit = dw.dwfl_module_nextcu_(module, unit, &bias)) != NULL;) {
    if (dw.dwarf_haspc_(unit, pc - bias) != 1) continue;
    Dwarf_Line *line = dw.dwarf_getsrc_die_(unit, pc - bias);
    if (line == NULL || dw.dwarf_lineno_(line, number) != 0) return NULL;
    return dw.dwarf_linesrc_(line, NULL, NULL);
  }
  return NULL;
}

static void names_from_dw(uint64_t pc, struct names *out) {
  Dwfl_Module *module = dw.dwfl_addrmodule_(dw.dwfl, pc);
  if (module == NULL) return;
  const char *func = dw.dwfl_module_addrname_(module, pc);
  if (func != NULL) out->func = func;
  Dwfl_Line *line = dw.dwfl_module_getsrc_(module, pc);
  int number = 0;
  const char *file = line != NULL ? dw.dwfl_lineinfo_(line, NULL, &number, NULL, NULL, NULL)
                                  : line_by_unit(module, pc, &number);
  if (file == NULL) return;
  out->file = file;
  out->line = number > 0 ? (unsigned)number : 0;
}

static bool frame_name(struct gyre_snapshot *s, size_t index, bool has_dw) {
  struct gyre__frame_item *item =
      GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, index);
  struct names names = {.file = "<unknown>", .func = ""};
  char path[PATH_MAX];
  if (item->module != 0) {
    const struct gyre__module_item *m =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, item->module - 1);
    /* A copy: interning may move it. */
    size_t length = strnlen(gyre__snapshot_string(s, m->path), sizeof path - 1);
    memcpy(path, gyre__snapshot_string(s, m->path), length);
    path[length] = 0;
    if (length != 0) names.file = path;
    /* The address is where the call returns to: the call is before it. */
    Dl_info info;
    if (has_dw)
      names_from_dw(item->pc - 1, &names);
    else if (dladdr((void *)(uintptr_t)(item->pc - 1), &info) != 0 && info.dli_sname != NULL)
      names.func = info.dli_sname;
  }
  item->line = names.line;
  return gyre__snapshot_intern(s, names.file, &item->file) &&
         gyre__snapshot_intern(s, names.func, &item->func);
}

static int names_find(struct gyre_snapshot *s) {
  bool has_dw = dw_prepare(s);
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAMES, struct gyre__frame_item);
  for (size_t i = 0; i < count; i++)
    if (!frame_name(s, i, has_dw)) return -ENOMEM;
  return 0;
}

/* Under the lock. */
static int name_once(struct gyre_snapshot *s) {
  /* relaxed: written under the lock. */
  if (gyre__load_relaxed(&s->is_named) != 0) return 0;
  if (s->is_torn) return -ENOMEM;
  dw.naming = s;
  GYRE_WINDOW("trace/name");
  int result = names_find(s);
  gyre__map_free(&s->string_map);
  dw.naming = NULL;
  /* release: the names; pairs with the load in gyre__snapshot_name(). */
  if (result == 0) gyre__store_release(&s->is_named, 1);
  return result;
}

int gyre__snapshot_name(struct gyre_snapshot *s) {
  /* acquire: the names; pairs with the store in name_once(). */
  if (gyre__load_acquire(&s->is_named) != 0) return 0;
  gyre_park();
  dw_open();
  int cancel = gyre__cancel_put_off();
  gyre__lock_take(&dw.lock);
  int result = name_once(s);
  gyre__lock_give(&dw.lock);
  gyre__cancel_restore(cancel);
  gyre_unpark();
  return result;
}

int gyre__snapshot_name_now(struct gyre_snapshot *s) {
  dw_open();
  if (!gyre__lock_try(&dw.lock)) return -EAGAIN;
  int result = names_find(s);
  gyre__lock_give(&dw.lock);
  return result;
}

void gyre__symbols_release(void) {
  gyre__lock_take(&dw.lock);
  dw_forget();
  gyre__vec_free(&dw.modules);
  gyre__lock_give(&dw.lock);
}

void gyre__symbols_forget(void) {
  dw_forget();
  dw.modules = (struct gyre__vec){0};
}

/* A thread that the child does not have may have been in libdw: what it knew is left alone, and the snapshot that it was
 * at has no names. */
void gyre__symbols_fork_child(void) {
  gyre__lock_reset(&dw.lock);
  if (dw.naming != NULL) dw.naming->is_torn = true;
  dw.naming = NULL;
  dw.dwfl = NULL;
  dw.modules = (struct gyre__vec){0};
}
