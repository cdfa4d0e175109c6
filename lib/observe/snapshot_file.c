/* SPDX-License-Identifier: MIT */
/* Snapshots in files.
 *
 * The file is a row of blocks of 512 bytes: 504 of contents and a checksum of these (XXH3, seeded with the
 * block's number), so that damage is found where it is, and blocks that have changed places too. The last
 * block is as long as it needs to be. The contents: a head, then the parts of snapshot.h one after the
 * other, each padded to 8 bytes, little-endian, as they are in memory.
 *
 * Whoever reads one believes nothing: the checksums say that it is as it was written, and every number in
 * it is checked before it is used, because checksums can be computed by anybody. It is read piece by piece, no
 * further than it is good; so what it says of its length costs nothing, and no more memory is taken than
 * some times what has been read.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/observe/snapshot.h"
#include "lib/thread/thread.h"

#define BLOCK 512u
#define CONTENTS 504u
#define VERSION 1u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's order");

struct head {
  char magic[8];
  uint32_t version;
  uint32_t nframe;
  uint64_t sample;
  uint64_t bytes;              /* of all contents, this head included */
  uint64_t parts[GYRE__PARTS]; /* bytes of each, without padding */
};
static const char magic[8] = {'g', 'y', 'r', 'e', 's', 'n', 'a', 'p'};

static const size_t item_bytes[GYRE__PARTS] = {
    sizeof(struct gyre__trace_item),
    sizeof(struct gyre__stack_item),
    sizeof(uint32_t),
    sizeof(struct gyre__frame_item),
    sizeof(struct gyre__module_item),
    sizeof(uint32_t),
    1,
};
_Static_assert(sizeof(struct gyre__trace_item) == 24 && sizeof(struct gyre__stack_item) == 16 &&
                   sizeof(struct gyre__frame_item) == 24 && sizeof(struct gyre__module_item) == 56,
               "the file's layout");

static uint64_t padded(uint64_t bytes) { return (bytes + 7) & ~UINT64_C(7); }

/* How long a file with so many bytes of contents is. */
static uint64_t file_bytes(uint64_t contents) {
  uint64_t rest = contents % CONTENTS;
  return contents / CONTENTS * BLOCK + (rest != 0 ? rest + (BLOCK - CONTENTS) : 0);
}

static uint64_t checksum(const void *contents, size_t bytes, uint64_t number) {
  return XXH3_64bits_withSeed(contents, bytes, number);
}

/* ---- writing ---- */

struct writer {
  int fd;
  int error;
  uint64_t number; /* of the block that is being filled */
  size_t filled;
  unsigned char block[BLOCK];
  size_t waiting; /* bytes in `out` */
  unsigned char out[64 * BLOCK];
};

static void out_flush(struct writer *w) {
  for (size_t at = 0; at < w->waiting && w->error == 0;) {
    ssize_t n = write(w->fd, w->out + at, w->waiting - at);
    if (n >= 0)
      at += (size_t)n;
    else if (errno != EINTR)
      w->error = -errno;
  }
  w->waiting = 0;
}

static void block_flush(struct writer *w) {
  if (w->filled == 0) return;
  uint64_t sum = checksum(w->block, w->filled, w->number++);
  memcpy(w->block + w->filled, &sum, sizeof sum);
  memcpy(w->out + w->waiting, w->block, w->filled + sizeof sum);
  w->waiting += w->filled + sizeof sum;
  w->filled = 0;
  if (w->waiting + BLOCK > sizeof w->out) out_flush(w);
}

static void put(struct writer *w, const void *data, size_t bytes) {
  for (const char *at = data; bytes != 0;) {
    size_t n = CONTENTS - w->filled < bytes ? CONTENTS - w->filled : bytes;
    memcpy(w->block + w->filled, at, n);
    w->filled += n;
    at += n;
    bytes -= n;
    if (w->filled == CONTENTS) block_flush(w);
  }
}

static int snapshot_write(const struct gyre_snapshot *s, int fd) {
  static const char zeroes[8];
  struct head head = {.version = VERSION, .nframe = s->nframe, .sample = s->sample};
  memcpy(head.magic, magic, sizeof magic);
  head.bytes = sizeof head;
  for (unsigned i = 0; i < GYRE__PARTS; i++) {
    head.parts[i] = s->parts[i].used;
    head.bytes += padded(head.parts[i]);
  }
  struct writer *w = gyre__os_map(sizeof *w, gyre__os_page_size());
  if (w == NULL) return -ENOMEM;
  w->fd = fd;
  put(w, &head, sizeof head);
  for (unsigned i = 0; i < GYRE__PARTS; i++) {
    put(w, s->parts[i].data, s->parts[i].used);
    put(w, zeroes, (size_t)(padded(s->parts[i].used) - s->parts[i].used));
  }
  block_flush(w);
  out_flush(w);
  int error = w->error;
  gyre__os_unmap(w, sizeof *w);
  return error;
}

/* A new file beside the one that it is to replace. A descriptor or a negative errno value. */
static int open_beside(const char *path, char *name, size_t size) {
  static gyre__atomic_u32 number;
  for (;;) {
    /* relaxed: a number of one's own; partners: itself in other threads. */
    uint32_t n = gyre__fetch_add_relaxed(&number, 1);
    int length = snprintf(name, size, "%s.%ld.%u.new", path, (long)getpid(), n);
    if (length < 0 || (size_t)length >= size) return -ENAMETOOLONG;
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return fd;
    if (errno != EEXIST) return -errno;
  }
}

/* Puts a new file into the place of the one at `path`. */
static int replace_file(const struct gyre_snapshot *s, const char *path) {
  char beside[4096];
  int fd = open_beside(path, beside, sizeof beside);
  if (fd < 0) return fd;
  int result = snapshot_write(s, fd);
  if (close(fd) != 0 && result == 0) result = -errno;
  if (result == 0 && rename(beside, path) != 0) result = -errno;
  if (result != 0) (void)unlink(beside);
  return result;
}

/* For a pipe or a device, which nothing is to be put into the place of. */
static int write_into(const struct gyre_snapshot *s, const char *path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = snapshot_write(s, fd);
  if (close(fd) != 0 && result == 0) result = -errno;
  return result;
}

static int save(const struct gyre_snapshot *s, const char *path) {
  char target[PATH_MAX]; /* a symbolic link stays one */
  struct stat status;
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) return write_into(s, path);
  return replace_file(s, realpath(path, target) != NULL ? target : path);
}

/* A disk may take its time: nobody is to wait for this thread then. Nor may it be cancelled, and leave a
 * descriptor behind. Returns what file_end() is to be given. */
static int file_begin(void) {
  gyre_park();
  return gyre__cancel_put_off();
}

static void file_end(int cancel) {
  gyre__cancel_restore(cancel);
  gyre_unpark();
}

int gyre_snapshot_save(gyre_snapshot *s, const char *path) {
  if (s == NULL || path == NULL) return -EINVAL;
  int result = gyre__snapshot_name(s);
  if (result != 0) return result;
  int cancel = file_begin();
  result = save(s, path);
  file_end(cancel);
  return result;
}

/* ---- reading ---- */

struct reader {
  struct gyre__vec contents; /* so far */
  uint64_t file_size;
  uint64_t damage; /* where in the file */
};

/* Where in the file a place in the contents is: its block. */
static uint64_t place(uint64_t at) { return at / CONTENTS * BLOCK; }

static int damaged_at(struct reader *r, uint64_t at) {
  r->damage = at;
  return -EBADMSG;
}

/* Takes the contents out of the blocks of a piece of the file that begins at `at`. The last block of a file that was
 * cut off is damaged. */
static int blocks_take(struct reader *r, uint64_t at, const char *piece, size_t size) {
  for (size_t done = 0; done < size; done += BLOCK) {
    size_t bytes = size - done < BLOCK ? size - done : BLOCK;
    uint64_t sum;
    if (bytes <= sizeof sum) return damaged_at(r, at + done);
    bytes -= sizeof sum;
    memcpy(&sum, piece + done + bytes, sizeof sum);
    if (checksum(piece + done, bytes, (at + done) / BLOCK) != sum) return damaged_at(r, at + done);
    void *contents = gyre__vec_add(&r->contents, bytes);
    if (contents == NULL) return -ENOMEM;
    memcpy(contents, piece + done, bytes);
  }
  return 0;
}

/* Reads up to `size` bytes: fewer at the end. A negative errno value. */
static ssize_t piece_read(int fd, char *piece, size_t size) {
  size_t got = 0;
  while (got < size) {
    ssize_t n = read(fd, piece + got, size - got);
    if (n == 0) break;
    if (n < 0 && errno != EINTR) return -errno;
    if (n > 0) got += (size_t)n;
  }
  return (ssize_t)got;
}

#define PIECE (128 * BLOCK)

static int file_read(struct reader *r, int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -EINVAL;
  char *piece = gyre__os_map(PIECE, gyre__os_page_size());
  if (piece == NULL) return -ENOMEM;
  int result = 0;
  for (;;) {
    ssize_t got = piece_read(fd, piece, PIECE);
    if (got > 0) result = blocks_take(r, r->file_size, piece, (size_t)got);
    if (got < 0) result = (int)got;
    if (got <= 0 || result != 0) break;
    r->file_size += (uint64_t)got;
  }
  gyre__os_unmap(piece, PIECE);
  return result;
}

static int parts_read(struct reader *r, struct gyre_snapshot *s) {
  struct head head;
  if (r->contents.used < sizeof head) return damaged_at(r, 0);
  memcpy(&head, r->contents.data, sizeof head);
  if (memcmp(head.magic, magic, sizeof magic) != 0) return damaged_at(r, 0);
  if (head.version != VERSION) return head.version > VERSION ? -ENOTSUP : damaged_at(r, 0);
  uint64_t at = sizeof head;
  for (unsigned i = 0; i < GYRE__PARTS; i++) {
    if (head.parts[i] > UINT64_MAX / 2 || head.parts[i] % item_bytes[i] != 0 ||
        head.parts[i] / item_bytes[i] > UINT32_MAX || head.bytes < at ||
        head.bytes - at < padded(head.parts[i]))
      return damaged_at(r, 0);
    at += padded(head.parts[i]);
  }
  if (at != head.bytes || head.nframe == 0 || head.nframe > GYRE_TRACE_FRAMES_MAX)
    return damaged_at(r, 0);
  if (file_bytes(head.bytes) != r->file_size)
    return damaged_at(r, file_bytes(head.bytes) < r->file_size ? file_bytes(head.bytes)
                                                               : r->file_size);
  at = sizeof head;
  for (unsigned i = 0; i < GYRE__PARTS; i++) {
    s->parts[i].used = 0;
    if (head.parts[i] != 0) {
      void *copy = gyre__vec_add(&s->parts[i], head.parts[i]);
      if (copy == NULL) return -ENOMEM;
      memcpy(copy, r->contents.data + at, head.parts[i]);
    }
    at += padded(head.parts[i]);
  }
  s->nframe = head.nframe;
  s->sample = head.sample;
  /* relaxed: nobody else has it, as everywhere where one is made. */
  gyre__store_relaxed(&s->is_named, 1);
  return 0;
}

/* ---- believing nothing ---- */

/* Where an item is in the file. */
static uint64_t item_place(const struct gyre_snapshot *s, unsigned part, size_t index) {
  uint64_t at = sizeof(struct head);
  for (unsigned i = 0; i < part; i++)
    at += padded(s->parts[i].used);
  return place(at + index * item_bytes[part]);
}

static bool item_is_good(const struct gyre_snapshot *s, unsigned part, size_t index) {
  size_t strings = s->parts[GYRE__PART_STRINGS].used;
  size_t stacks = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_STACKS, struct gyre__stack_item);
  size_t list = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAME_LIST, uint32_t);
  size_t frames = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAMES, struct gyre__frame_item);
  size_t modules = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_MODULES, struct gyre__module_item);
  size_t threads = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_THREADS, uint32_t);
  switch (part) {
  case GYRE__PART_TRACES: {
    const struct gyre__trace_item *t =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_TRACES, struct gyre__trace_item, index);
    return t->stack < stacks && t->thread < threads && t->weight >= 1 && t->weight < 0x1p60f;
  }
  case GYRE__PART_STACKS: {
    const struct gyre__stack_item *k =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, index);
    return k->count != 0 && k->count <= s->nframe && k->total >= k->count && k->first < list &&
           k->count <= list - k->first && k->total <= GYRE_TRACE_FRAMES_MAX && k->type < strings;
  }
  case GYRE__PART_FRAME_LIST:
    return *GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAME_LIST, uint32_t, index) < frames;
  case GYRE__PART_FRAMES: {
    const struct gyre__frame_item *f =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_FRAMES, struct gyre__frame_item, index);
    return f->file < strings && f->func < strings && f->module <= modules;
  }
  case GYRE__PART_MODULES: {
    const struct gyre__module_item *m =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, index);
    return m->path < strings && m->build_id_bytes <= sizeof m->build_id;
  }
  case GYRE__PART_THREADS:
    return *GYRE__SNAPSHOT_AT(s, GYRE__PART_THREADS, uint32_t, index) < strings;
  default:
    return true;
  }
}

/* Each stack has frames of its own, one after the other: so what is made of a file is not larger than the file by
 * more than a factor. */
static int stacks_check(struct reader *r, const struct gyre_snapshot *s) {
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_STACKS, struct gyre__stack_item);
  uint64_t next = 0;
  for (size_t i = 0; i < count; i++) {
    const struct gyre__stack_item *k =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, i);
    if (k->first != next) return damaged_at(r, item_place(s, GYRE__PART_STACKS, i));
    next += k->count;
  }
  return 0;
}

static int parts_check(struct reader *r, const struct gyre_snapshot *s) {
  const struct gyre__vec *strings = &s->parts[GYRE__PART_STRINGS];
  if (strings->used == 0 || strings->data[strings->used - 1] != 0)
    return damaged_at(r, item_place(s, GYRE__PART_STRINGS, 0));
  for (unsigned part = 0; part < GYRE__PART_STRINGS; part++) {
    size_t count = s->parts[part].used / item_bytes[part];
    for (size_t i = 0; i < count; i++)
      if (!item_is_good(s, part, i)) return damaged_at(r, item_place(s, part, i));
  }
  return stacks_check(r, s);
}

static int load(struct reader *r, const char *path, struct gyre_snapshot *s) {
  /* Something else than a file is not waited for. */
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return -errno;
  int result = file_read(r, fd);
  (void)close(fd);
  if (result == 0) result = parts_read(r, s);
  if (result == 0) result = parts_check(r, s);
  return result;
}

gyre_snapshot *gyre_snapshot_load(const char *path, uint64_t *offset) {
  struct reader r = {0};
  struct gyre_snapshot *s = path != NULL ? gyre__snapshot_new() : NULL;
  if (path == NULL) errno = EINVAL;
  if (s == NULL) return NULL;
  gyre__map_free(&s->string_map);
  int cancel = file_begin();
  int result = load(&r, path, s);
  file_end(cancel);
  gyre__vec_free(&r.contents);
  if (result == 0) return s;
  gyre_snapshot_free(s);
  if (result == -EBADMSG && offset != NULL) *offset = r.damage;
  errno = -result;
  return NULL;
}
