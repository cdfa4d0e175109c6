/* SPDX-License-Identifier: MIT */
/* What snapshots say: groups, comparisons, filters, texts, files. The traces are made by hand where the test
 * is about arithmetic: a snapshot with known frames. */
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

#include "lib/observe/snapshot.h"
#include "trace_test.h"

/* ---- snapshots by hand ---- */

struct known_frame {
  const char *file;
  unsigned line;
  const char *func;
};

/* One trace: frames the most recent first, up to a NULL file. */
struct known {
  size_t size;
  unsigned domain;
  const char *type;
  struct known_frame frames[4];
};

static void vec_put(struct gyre__vec *vec, const void *item, size_t bytes) {
  void *at = gyre__vec_add(vec, bytes);
  assert_non_null(at);
  memcpy(at, item, bytes);
}

static gyre_snapshot *snapshot_of(const struct known *traces, size_t count) {
  struct gyre_snapshot *s = gyre__snapshot_new();
  assert_non_null(s);
  s->nframe = 4;
  gyre__store_relaxed(&s->is_named, 1); /* relaxed: nobody else has it. */
  uint32_t name;
  assert_true(gyre__snapshot_intern(s, "main", &name));
  vec_put(&s->parts[GYRE__PART_THREADS], &name, sizeof name);
  for (size_t i = 0; i < count; i++) {
    struct gyre__stack_item stack = {0};
    stack.first = (uint32_t)GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAME_LIST, uint32_t);
    assert_true(gyre__snapshot_intern(s, traces[i].type ? traces[i].type : "", &stack.type));
    for (unsigned f = 0; f < 4 && traces[i].frames[f].file != NULL; f++) {
      const struct known_frame *k = &traces[i].frames[f];
      struct gyre__frame_item item = {.pc = 1000 + i * 4 + f, .line = k->line};
      assert_true(gyre__snapshot_intern(s, k->file, &item.file));
      assert_true(gyre__snapshot_intern(s, k->func ? k->func : "", &item.func));
      uint32_t number =
          (uint32_t)GYRE__SNAPSHOT_COUNT(s, GYRE__PART_FRAMES, struct gyre__frame_item);
      vec_put(&s->parts[GYRE__PART_FRAMES], &item, sizeof item);
      vec_put(&s->parts[GYRE__PART_FRAME_LIST], &number, sizeof number);
      stack.count++;
    }
    stack.total = stack.count;
    vec_put(&s->parts[GYRE__PART_STACKS], &stack, sizeof stack);
    struct gyre__trace_item trace = {
        .size = traces[i].size, .stack = (uint32_t)i, .domain = traces[i].domain, .weight = 1};
    vec_put(&s->parts[GYRE__PART_TRACES], &trace, sizeof trace);
  }
  return s;
}
#define SNAPSHOT_OF(traces) snapshot_of((traces), sizeof(traces) / sizeof(traces)[0])

/* "text|text|...": all lines of a list. */
static void expect_stats(gyre_snapshot *s, gyre_snapshot *old, enum gyre_trace_by by,
                         int cumulative, const char *expected) {
  struct gyre_statlist *list;
  int result = old == NULL ? gyre_snapshot_stats(s, by, cumulative, &list)
                           : gyre_snapshot_diff(s, old, by, cumulative, &list);
  assert_int_equal(result, 0);
  char all[2000] = "";
  for (size_t i = 0; i < list->count; i++) {
    char line[300];
    int length = gyre_stat_format(&list->at[i], line, sizeof line);
    assert_int_equal(length, strlen(line));
    assert_int_equal(gyre_stat_format(&list->at[i], NULL, 0), length);
    if (i > 0) strcat(all, "|");
    strcat(all, line);
  }
  assert_string_equal(all, expected);
  gyre_statlist_free(list);
}

/* tests of CPython's test_tracemalloc.py have traces like these. */
static const struct known before[] = {
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {2, 1, "pair", {{"a.c", 5, "f"}, {"b.c", 4, "g"}}},
    {66, 2, "row", {{"b.c", 1, "h"}}},
    {7, 3, NULL, {{"<unknown>", 0, ""}}},
};
static const struct known after[] = {
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
    {2, 1, "pair", {{"a.c", 5, "f"}, {"b.c", 4, "g"}}},
    {5000, 1, "pair", {{"a.c", 5, "f"}, {"b.c", 4, "g"}}},
    {400, 0, NULL, {{"c.c", 578, "k"}}},
};

static void figures_by_file_line_function_and_type(void **state) {
  (void)state;
  gyre_snapshot *s = SNAPSHOT_OF(before);
  expect_stats(s, NULL, GYRE_TRACE_BY_LINE, 0,
               "b.c:1: size=66 B, count=1, average=66 B|a.c:2: size=30 B, count=3, average=10 B|"
               "<unknown>:0: size=7 B, count=1, average=7 B|a.c:5: size=2 B, count=1, average=2 B");
  expect_stats(s, NULL, GYRE_TRACE_BY_FILE, 0,
               "b.c:0: size=66 B, count=1, average=66 B|a.c:0: size=32 B, count=4, average=8 B|"
               "<unknown>:0: size=7 B, count=1, average=7 B");
  expect_stats(s, NULL, GYRE_TRACE_BY_FUNCTION, 0,
               "b.c:h: size=66 B, count=1, average=66 B|a.c:f: size=32 B, count=4, average=8 B|"
               "<unknown>:0: size=7 B, count=1, average=7 B");
  expect_stats(s, NULL, GYRE_TRACE_BY_TYPE, 0,
               "row: size=66 B, count=1, average=66 B|<none>: size=37 B, count=4, average=9 B|"
               "pair: size=2 B, count=1, average=2 B");
  expect_stats(s, NULL, GYRE_TRACE_BY_THREAD, 0, "main: size=105 B, count=6, average=18 B");
  /* Stacks begin with the oldest frame, and so does the text. */
  expect_stats(s, NULL, GYRE_TRACE_BY_STACK, 0,
               "b.c:1: size=66 B, count=1, average=66 B|b.c:4: size=30 B, count=3, average=10 B|"
               "<unknown>:0: size=7 B, count=1, average=7 B|b.c:4: size=2 B, count=1, average=2 B");
  gyre_snapshot_free(s);
}

static void cumulative_figures_count_each_frame_once(void **state) {
  (void)state;
  static const struct known deep[] = {
      {10, 0, NULL, {{"a.c", 2, "f"}, {"b.c", 4, "g"}}},
      {5, 0, NULL, {{"a.c", 2, "f"}, {"a.c", 3, "f"}, {"a.c", 2, "f"}, {"b.c", 9, "m"}}},
  };
  gyre_snapshot *s = SNAPSHOT_OF(deep);
  expect_stats(s, NULL, GYRE_TRACE_BY_LINE, 1,
               "a.c:2: size=15 B, count=2, average=8 B|b.c:4: size=10 B, count=1, average=10 B|"
               "b.c:9: size=5 B, count=1, average=5 B|a.c:3: size=5 B, count=1, average=5 B");
  expect_stats(s, NULL, GYRE_TRACE_BY_FILE, 1,
               "b.c:0: size=15 B, count=2, average=8 B|a.c:0: size=15 B, count=2, average=8 B");
  struct gyre_statlist *list;
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_STACK, 1, &list), -EINVAL);
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_TYPE, 1, &list), -EINVAL);
  assert_int_equal(gyre_snapshot_stats(s, (enum gyre_trace_by)17, 0, &list), -EINVAL);
  assert_int_equal(gyre_snapshot_stats(NULL, GYRE_TRACE_BY_LINE, 0, &list), -EINVAL);
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_LINE, 0, NULL), -EINVAL);
  s->nframe = 1; /* with one frame a stack there is nothing to add up */
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_LINE, 1, &list), -EINVAL);
  gyre_snapshot_free(s);
}

static void comparisons_have_what_came_and_what_went(void **state) {
  (void)state;
  gyre_snapshot *old = SNAPSHOT_OF(before), *s = SNAPSHOT_OF(after);
  expect_stats(s, old, GYRE_TRACE_BY_LINE, 0,
               "a.c:5: size=5002 B (+5000 B), count=2 (+1), average=2501 B|"
               "c.c:578: size=400 B (+400 B), count=1 (+1), average=400 B|"
               "b.c:1: size=0 B (-66 B), count=0 (-1)|"
               "<unknown>:0: size=0 B (-7 B), count=0 (-1)|"
               "a.c:2: size=30 B (+0 B), count=3 (+0), average=10 B");
  expect_stats(s, old, GYRE_TRACE_BY_FILE, 0,
               "a.c:0: size=5032 B (+5000 B), count=5 (+1), average=1006 B|"
               "c.c:0: size=400 B (+400 B), count=1 (+1), average=400 B|"
               "b.c:0: size=0 B (-66 B), count=0 (-1)|"
               "<unknown>:0: size=0 B (-7 B), count=0 (-1)");
  expect_stats(s, s, GYRE_TRACE_BY_TYPE, 0,
               "pair: size=5002 B (+0 B), count=2 (+0), average=2501 B|"
               "<none>: size=430 B (+0 B), count=4 (+0), average=108 B");
  gyre_snapshot_free(old);
  gyre_snapshot_free(s);
}

static void sizes_have_units_as_pythons(void **state) {
  (void)state;
  static const struct {
    size_t size;
    const char *text;
  } cases[] = {{0, "0 B"},
               {99, "99 B"},
               {10239, "10239 B"},
               {10240, "10.0 KiB"},
               {102399, "100.0 KiB"},
               {102400, "100 KiB"},
               {4971520, "4855 KiB"},
               {10485760, "10.0 MiB"},
               {(size_t)200 << 30, "200 GiB"},
               {(size_t)50000 << 40, "50000 TiB"}};
  for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct gyre_frame frame = {.file = "x", .func = ""};
    struct gyre_stat stat = {.size = cases[i].size,
                             .traceback = {.count = 1, .total = 1, .frames = &frame}};
    char text[100], expected[100];
    (void)gyre_stat_format(&stat, text, sizeof text);
    (void)snprintf(expected, sizeof expected, "x:0: size=%s, count=0", cases[i].text);
    assert_string_equal(text, expected);
  }
}

static void stacks_are_printed_as_pythons(void **state) {
  (void)state;
  char path[] = "/tmp/gyre_source_XXXXXX", text[1000], expected[1000];
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  const char *source = "first\n   \tsecond();  \n\nlast";
  assert_int_equal(write(fd, source, strlen(source)), strlen(source));
  close(fd);
  struct gyre_frame frames[] = {
      {path, 2, "a", 1}, {path, 3, "b", 2}, {"/no/such", 7, "c", 3}, {path, 4, "d", 4}};
  struct gyre_traceback t = {.count = 4, .total = 4, .frames = frames};
  assert_true(gyre_traceback_format(&t, 0, 0, text, sizeof text) > 0);
  (void)snprintf(expected, sizeof expected,
                 "  File \"%s\", line 2\n    second();\n  File \"%s\", line 3\n"
                 "  File \"/no/such\", line 7\n  File \"%s\", line 4\n    last\n",
                 path, path, path);
  assert_string_equal(text, expected);
  (void)gyre_traceback_format(&t, 1, 0, text, sizeof text);
  (void)snprintf(expected, sizeof expected, "  File \"%s\", line 4\n    last\n", path);
  assert_string_equal(text, expected);
  (void)gyre_traceback_format(&t, -2, 1, text, sizeof text);
  (void)snprintf(expected, sizeof expected,
                 "  File \"%s\", line 3\n  File \"%s\", line 2\n    second();\n", path, path);
  assert_string_equal(text, expected);
  (void)gyre_traceback_format(&t, 100, 0, text, sizeof text);
  assert_int_equal(gyre_traceback_format(&t, INT32_MIN, 0, NULL, 0), strlen(text));
  (void)gyre_frame_format(&frames[2], text, sizeof text);
  assert_string_equal(text, "/no/such:7");
  /* A name out of somebody's file is not read for ever. */
  struct gyre_frame endless[] = {{"/dev/zero", 2, "e", 5}};
  t = (struct gyre_traceback){.count = 1, .total = 1, .frames = endless};
  (void)gyre_traceback_format(&t, 0, 0, text, sizeof text);
  assert_string_equal(text, "  File \"/dev/zero\", line 2\n");
  (void)unlink(path);
}

/* ---- filters ---- */

static size_t left_by(gyre_snapshot *s, const struct gyre_filter *filters, size_t count) {
  gyre_snapshot *t = gyre_snapshot_filter(s, filters, count);
  assert_non_null(t);
  size_t left = gyre_snapshot_count(t);
  gyre_snapshot_free(t);
  return left;
}

/* Filter._match() of Python, for one trace of one frame a.c:5 in domain 1, and one inclusive or exclusive
 * filter; all combinations of whether file, line and domain fit. */
static void the_truth_table_of_one_filter(void **state) {
  (void)state;
  static const struct known one[] = {{1, 1, NULL, {{"a.c", 5, ""}, {"b.c", 4, ""}}}};
  gyre_snapshot *s = SNAPSHOT_OF(one);
  for (int inclusive = 0; inclusive < 2; inclusive++)
    for (int file = 0; file < 2; file++)
      for (int line = 0; line < 3; line++)
        for (int domain = 0; domain < 3; domain++) {
          struct gyre_filter f = {.inclusive = inclusive,
                                  .pattern = file ? "a.*" : "x.*",
                                  .line = line == 0   ? 0
                                          : line == 1 ? 5
                                                      : 6,
                                  .domain = domain == 0   ? -1
                                            : domain == 1 ? 1
                                                          : 0};
          bool fits = file && line != 2;
          bool passes = fits == inclusive;
          if (f.domain >= 0) passes = inclusive ? passes && domain == 1 : passes || domain != 1;
          assert_int_equal(left_by(s, &f, 1), passes);
        }
  /* By domain only. */
  for (int inclusive = 0; inclusive < 2; inclusive++) {
    struct gyre_filter f = {.inclusive = inclusive, .domain = 1};
    assert_int_equal(left_by(s, &f, 1), inclusive);
    f.domain = 2;
    assert_int_equal(left_by(s, &f, 1), !inclusive);
  }
  gyre_snapshot_free(s);
}

static void filters_together(void **state) {
  (void)state;
  gyre_snapshot *s = SNAPSHOT_OF(before);
  assert_int_equal(left_by(s, NULL, 0), 6);
  struct gyre_filter in_a = {.inclusive = 1, .pattern = "a.c", .domain = -1};
  struct gyre_filter in_b = {.inclusive = 1, .pattern = "b.c", .domain = -1};
  struct gyre_filter in_b_all = {.inclusive = 1, .pattern = "b.c", .all_frames = 1, .domain = -1};
  struct gyre_filter not_a = {.pattern = "a.c", .domain = -1};
  struct gyre_filter not_b_all = {.pattern = "b.c", .all_frames = 1, .domain = -1};
  struct gyre_filter not_a2 = {.pattern = "a.c", .line = 2, .domain = -1};
  assert_int_equal(left_by(s, &in_a, 1), 4);
  assert_int_equal(left_by(s, &in_b, 1), 1);
  assert_int_equal(left_by(s, &in_b_all, 1), 5);
  assert_int_equal(left_by(s, &not_a, 1), 2);
  assert_int_equal(left_by(s, &not_b_all, 1), 1);
  /* Any inclusive one, and no exclusive one. */
  assert_int_equal(left_by(s, (struct gyre_filter[]){in_a, in_b}, 2), 5);
  assert_int_equal(left_by(s, (struct gyre_filter[]){in_a, not_a2}, 2), 1);
  assert_int_equal(left_by(s, (struct gyre_filter[]){not_a, in_a}, 2), 0);
  assert_int_equal(left_by(s, (struct gyre_filter[]){not_a, not_b_all}, 2), 1);
  struct gyre_filter slashes = {.inclusive = 1, .pattern = "*.c", .domain = -1};
  static const struct known deep[] = {{1, 0, NULL, {{"/usr/src/x.c", 5, ""}}}};
  gyre_snapshot *paths = SNAPSHOT_OF(deep);
  assert_int_equal(left_by(paths, &slashes, 1), 1);
  gyre_snapshot_free(paths);
  errno = 0;
  assert_null(gyre_snapshot_filter(s, NULL, 1));
  assert_int_equal(errno, EINVAL);
  gyre_snapshot_free(s);
}

/* ---- files ---- */

static char file_path[] = "/tmp/gyre_snapshot_XXXXXX";

static void file_begin(void) {
  (void)snprintf(file_path, sizeof file_path, "/tmp/gyre_snapshot_XXXXXX");
  int fd = mkstemp(file_path);
  assert_true(fd >= 0);
  close(fd);
}

static size_t file_read_all(unsigned char *out, size_t room) {
  FILE *f = fopen(file_path, "rb");
  assert_non_null(f);
  size_t size = fread(out, 1, room, f);
  assert_true(size < room);
  (void)fclose(f);
  return size;
}

static void file_write_all(const unsigned char *data, size_t size) {
  FILE *f = fopen(file_path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, size, f), size);
  (void)fclose(f);
}

static void a_file_gives_back_the_snapshot(void **state) {
  (void)state;
  file_begin();
  gyre_snapshot *old = SNAPSHOT_OF(before), *s = SNAPSHOT_OF(after);
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot *loaded = gyre_snapshot_load(file_path, NULL);
  assert_non_null(loaded);
  assert_int_equal(gyre_snapshot_count(loaded), 6);
  assert_int_equal(gyre_snapshot_limit(loaded), 4);
  struct gyre_trace trace;
  assert_int_equal(gyre_snapshot_trace(loaded, 4, &trace), 0);
  assert_int_equal(trace.size, 5000);
  assert_int_equal(trace.domain, 1);
  assert_string_equal(trace.type, "pair");
  assert_string_equal(trace.thread_name, "main");
  assert_int_equal(trace.traceback.count, 2);
  assert_string_equal(trace.traceback.frames[1].file, "a.c");
  assert_string_equal(trace.traceback.frames[1].func, "f");
  gyre_traceback_free(&trace.traceback);
  assert_int_equal(gyre_snapshot_trace(loaded, 6, &trace), -EINVAL);
  /* It can be compared with one that was never in a file. */
  expect_stats(loaded, old, GYRE_TRACE_BY_FILE, 0,
               "a.c:0: size=5032 B (+5000 B), count=5 (+1), average=1006 B|"
               "c.c:0: size=400 B (+400 B), count=1 (+1), average=400 B|"
               "b.c:0: size=0 B (-66 B), count=0 (-1)|"
               "<unknown>:0: size=0 B (-7 B), count=0 (-1)");
  gyre_snapshot_free(loaded);
  gyre_snapshot_free(old);
  gyre_snapshot_free(s);
  (void)unlink(file_path);
}

static void a_file_that_cannot_be_had(void **state) {
  (void)state;
  gyre_snapshot *s = SNAPSHOT_OF(before);
  assert_int_equal(gyre_snapshot_save(s, "/no/such/folder/file"), -ENOENT);
  assert_int_equal(gyre_snapshot_save(s, NULL), -EINVAL);
  assert_null(gyre_snapshot_load("/no/such/file", NULL));
  assert_int_equal(errno, ENOENT);
  assert_null(gyre_snapshot_load("/tmp", NULL));
  assert_int_equal(errno, EINVAL);
  gyre_snapshot_free(s);
}

static void a_link_stays_one(void **state) {
  (void)state;
  file_begin();
  char link_path[sizeof file_path + 8];
  (void)snprintf(link_path, sizeof link_path, "%s.link", file_path);
  assert_int_equal(symlink(file_path, link_path), 0);
  gyre_snapshot *s = SNAPSHOT_OF(before);
  assert_int_equal(gyre_snapshot_save(s, link_path), 0);
  gyre_snapshot_free(s);
  struct stat status;
  assert_int_equal(lstat(link_path, &status), 0);
  assert_true(S_ISLNK(status.st_mode));
  s = gyre_snapshot_load(file_path, NULL);
  assert_non_null(s);
  gyre_snapshot_free(s);
  (void)unlink(link_path);
  (void)unlink(file_path);
}

/* What is no file is not replaced: a program may run as root, and be asked to write to /dev/stderr. */
static void a_pipe_is_written_to(void **state) {
  (void)state;
  file_begin();
  (void)unlink(file_path);
  assert_int_equal(mkfifo(file_path, 0600), 0);
  gyre_snapshot *s = SNAPSHOT_OF(before);
  int reader = open(file_path, O_RDONLY | O_NONBLOCK);
  assert_true(reader >= 0);
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  char start[8];
  assert_int_equal(read(reader, start, sizeof start), sizeof start);
  assert_memory_equal(start, "gyresnap", sizeof start);
  (void)close(reader);
  struct stat status;
  assert_int_equal(stat(file_path, &status), 0);
  assert_true(S_ISFIFO(status.st_mode));
  /* It is not waited for. */
  assert_null(gyre_snapshot_load(file_path, NULL));
  assert_int_equal(errno, EINVAL);
  gyre_snapshot_free(s);
  (void)unlink(file_path);
}

/* Every byte of a small file, changed in turn. */
static void any_damage_is_found_where_it_is(void **state) {
  (void)state;
  file_begin();
  gyre_snapshot *s = SNAPSHOT_OF(after);
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  static unsigned char data[8192];
  size_t size = file_read_all(data, sizeof data);
  assert_true(size > 600); /* several blocks */
  for (size_t at = 0; at < size; at++)
    for (unsigned bit = 0; bit < 8; bit += TEST_OPTIMIZED ? 1 : 7) {
      data[at] ^= (unsigned char)(1u << bit);
      file_write_all(data, size);
      uint64_t offset = UINT64_MAX;
      errno = 0;
      assert_null(gyre_snapshot_load(file_path, &offset));
      assert_int_equal(errno, EBADMSG);
      assert_true(offset <= at && at < offset + 512);
      data[at] ^= (unsigned char)(1u << bit);
    }
  /* Cut off, or with something behind it. */
  for (size_t left = 0; left < size; left++) {
    file_write_all(data, left);
    uint64_t offset = UINT64_MAX;
    assert_null(gyre_snapshot_load(file_path, &offset));
    assert_int_equal(errno, EBADMSG);
    assert_true(offset <= left);
  }
  data[size] = 'x';
  file_write_all(data, size + 1);
  assert_null(gyre_snapshot_load(file_path, NULL));
  assert_int_equal(errno, EBADMSG);
  (void)unlink(file_path);
}

/* Files whose checksums are right and whose numbers are not: made by the library itself, of snapshots that
 * are wrong. */
static void numbers_that_make_no_sense_are_found(void **state) {
  (void)state;
  file_begin();
  for (unsigned part = 0; part < GYRE__PART_STRINGS; part++) {
    gyre_snapshot *whole = SNAPSHOT_OF(after);
    size_t words = whole->parts[part].used / 4;
    gyre_snapshot_free(whole);
    for (size_t word = 0; word < words; word++) {
      gyre_snapshot *s = SNAPSHOT_OF(after);
      *GYRE__SNAPSHOT_AT(s, part, uint32_t, word) = UINT32_MAX;
      assert_int_equal(gyre_snapshot_save(s, file_path), 0);
      gyre_snapshot_free(s);
      errno = 0;
      s = gyre_snapshot_load(file_path, NULL);
      /* Some fields may have any value; whatever is let in can be used. */
      if (s == NULL) {
        assert_int_equal(errno, EBADMSG);
        continue;
      }
      struct gyre_statlist *list;
      assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_STACK, 0, &list), 0);
      gyre_statlist_free(list);
      assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_THREAD, 0, &list), 0);
      gyre_statlist_free(list);
      gyre_snapshot_free(s);
    }
  }
  (void)unlink(file_path);
}

static void expect_damage(uint64_t at) {
  uint64_t offset = UINT64_MAX;
  errno = 0;
  assert_null(gyre_snapshot_load(file_path, &offset));
  assert_int_equal(errno, EBADMSG);
  assert_int_equal(offset, at);
}

/* Files that say they are larger than any memory: nothing is taken on trust. */
static void a_huge_file_is_read_no_further_than_it_is_good(void **state) {
  (void)state;
  file_begin();
  assert_int_equal(truncate(file_path, (off_t)1 << 42), 0);
  expect_damage(0);
  gyre_snapshot *s = SNAPSHOT_OF(after);
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  struct stat status;
  assert_int_equal(stat(file_path, &status), 0);
  assert_int_equal(truncate(file_path, (off_t)1 << 42), 0);
  expect_damage((uint64_t)status.st_size / 512 * 512);
  (void)unlink(file_path);
}

static void what_is_no_file_is_not_waited_for(void **state) {
  (void)state;
  file_begin();
  (void)unlink(file_path);
  assert_int_equal(mkfifo(file_path, 0600), 0);
  assert_null(gyre_snapshot_load(file_path, NULL));
  assert_int_equal(errno, EINVAL);
  (void)unlink(file_path);
}

/* Stacks that share frames would let a small file stand for any number of them. */
static void stacks_that_share_frames_are_damage(void **state) {
  (void)state;
  file_begin();
  gyre_snapshot *s = SNAPSHOT_OF(after);
  GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, 1)->first = 0;
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  expect_damage(0);
  s = SNAPSHOT_OF(after);
  GYRE__SNAPSHOT_AT(s, GYRE__PART_STACKS, struct gyre__stack_item, 1)->total = 65536;
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  expect_damage(0);
  (void)unlink(file_path);
}

/* More than there can be is as much as there can be. */
static void sums_have_an_end(void **state) {
  (void)state;
  file_begin();
  gyre_snapshot *s = SNAPSHOT_OF(after);
  for (unsigned i = 0; i < 3; i++) {
    struct gyre__trace_item *t =
        GYRE__SNAPSHOT_AT(s, GYRE__PART_TRACES, struct gyre__trace_item, i);
    t->size = UINT64_MAX;
    t->weight = 0x1p59f;
  }
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  s = gyre_snapshot_load(file_path, NULL);
  assert_non_null(s);
  struct gyre_statlist *list;
  assert_int_equal(gyre_snapshot_stats(s, GYRE_TRACE_BY_LINE, 0, &list), 0);
  assert_true(list->at[0].size == SIZE_MAX && list->at[0].count == (size_t)3 << 59);
  gyre_statlist_free(list);
  gyre_snapshot_free(s);
  (void)unlink(file_path);
}

static void names_and_build_ids_are_in_the_file(void **state) {
  (void)state;
  file_begin();
  trace_on(4, 0, 0);
  void *block = gyre_malloc(123);
  gyre_snapshot *s = snapshot_now();
  assert_int_equal(gyre_snapshot_save(s, file_path), 0);
  gyre_snapshot_free(s);
  gyre_free(block);
  gyre_trace_stop();
  s = gyre_snapshot_load(file_path, NULL);
  assert_non_null(s);
  size_t count = GYRE__SNAPSHOT_COUNT(s, GYRE__PART_MODULES, struct gyre__module_item), ids = 0;
  for (size_t i = 0; i < count; i++)
    ids +=
        GYRE__SNAPSHOT_AT(s, GYRE__PART_MODULES, struct gyre__module_item, i)->build_id_bytes != 0;
  assert_true(count >= 2 && ids >= 1); /* the C library has one */
  struct gyre_trace trace;
  assert_int_equal(gyre_snapshot_trace(s, 0, &trace), 0);
  assert_int_equal(trace.size, 123);
  const struct gyre_frame *last = &trace.traceback.frames[trace.traceback.count - 1];
  assert_non_null(strstr(last->file, "snapshot_"));
  assert_non_null(strstr(last->func, "names_and_build_ids"));
  gyre_traceback_free(&trace.traceback);
  gyre_snapshot_free(s);
  (void)unlink(file_path);
}

/* ---- samples ---- */

static void samples_estimate_what_there_is(void **state) {
  (void)state;
  static const size_t means[] = {1024, 70000};
  for (unsigned m = 0; m < 2; m++) {
    trace_on(1, means[m], 0);
    /* Some 40 MB, so that some 600 blocks are sampled even at the larger. */
    enum { COUNT = 60000 };
    static void *blocks[3 * COUNT];
    size_t n = 0, bytes = 0, count[3] = {COUNT, COUNT / 4, COUNT / 400};
    static const size_t sizes[] = {100, 2000, 100000};
    for (unsigned k = 0; k < 3; k++)
      for (size_t i = 0; i < count[k]; i++, bytes += sizes[k])
        blocks[n++] = gyre_malloc(sizes[k]);
    double expected = (double)bytes;
    assert_true(fabs((double)traced_now() - expected) < 0.35 * expected);
    gyre_snapshot *s = snapshot_now();
    assert_true(gyre_snapshot_count(s) < n);
    size_t blocks_there, size;
    snapshot_sum(s, &blocks_there, &size);
    assert_true(fabs((double)size - expected) < 0.35 * expected);
    assert_true(fabs((double)blocks_there - (double)n) < 0.5 * (double)n);
    gyre_snapshot_free(s);
    while (n > 0)
      gyre_free(blocks[--n]);
    assert_int_equal(traced_now(), 0);
    gyre_trace_stop();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(figures_by_file_line_function_and_type),
      TEST(cumulative_figures_count_each_frame_once),
      TEST(comparisons_have_what_came_and_what_went),
      TEST(sizes_have_units_as_pythons),
      TEST(stacks_are_printed_as_pythons),
      TEST(the_truth_table_of_one_filter),
      TEST(filters_together),
      TEST(a_file_gives_back_the_snapshot),
      TEST(a_file_that_cannot_be_had),
      TEST(a_link_stays_one),
      TEST(a_pipe_is_written_to),
      TEST(any_damage_is_found_where_it_is),
      TEST(numbers_that_make_no_sense_are_found),
      TEST(a_huge_file_is_read_no_further_than_it_is_good),
      TEST(what_is_no_file_is_not_waited_for),
      TEST(stacks_that_share_frames_are_damage),
      TEST(sums_have_an_end),
      TEST(names_and_build_ids_are_in_the_file),
      TEST(samples_estimate_what_there_is),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
