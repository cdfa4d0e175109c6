/* SPDX-License-Identifier: MIT */
/* Frames, stacks and figures as text, as Python's tracemalloc writes them. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gyre/trace.h>

#include "lib/base/base.h"

/* Where text goes, of which the end may not fit. */
struct text {
  char *buffer;
  size_t size, length;
};

static void text_add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void text_add(struct text *t, const char *format, ...) {
  va_list args;
  va_start(args, format);
  size_t room = t->length < t->size ? t->size - t->length : 0;
  int length = vsnprintf(room != 0 ? t->buffer + t->length : NULL, room, format, args);
  va_end(args);
  if (length > 0) t->length += (size_t)length;
}

static struct text text_begin(char *buffer, size_t size) {
  if (size != 0) buffer[0] = 0;
  return (struct text){buffer, size, 0};
}

static int text_end(const struct text *t) {
  return t->length <= INT32_MAX ? (int)t->length : INT32_MAX;
}

int gyre_frame_format(const struct gyre_frame *frame, char *buffer, size_t size) {
  struct text t = text_begin(buffer, size);
  text_add(&t, "%s:%u", frame->file, frame->line);
  return text_end(&t);
}

/* ---- stacks ---- */

/* The name may come from a file that somebody else has written: what never ends, or has to be waited for, is
 * no source. */
static FILE *source_open(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return NULL;
  struct stat status;
  FILE *file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? fdopen(fd, "r") : NULL;
  if (file == NULL) (void)close(fd);
  return file;
}

/* The line of the source file, without the space around it; false if it cannot be read or is empty. */
static bool source_line(const struct gyre_frame *frame, char *out, size_t size) {
  FILE *file = frame->line != 0 ? source_open(frame->file) : NULL;
  if (file == NULL) return false;
  bool found = false;
  /* Long lines come in pieces; only those that end one count. */
  for (unsigned line = 1; line <= frame->line && fgets(out, (int)size, file) != NULL;) {
    found = line == frame->line;
    if (found) break;
    if (strchr(out, '\n') != NULL) line++;
  }
  (void)fclose(file);
  if (!found) return false;
  const char *space = " \t\r\n\f\v";
  size_t start = strspn(out, space), end = strlen(out);
  while (end > start && strchr(space, out[end - 1]) != NULL)
    end--;
  memmove(out, out + start, end - start);
  out[end - start] = 0;
  return end > start;
}

int gyre_traceback_format(const struct gyre_traceback *traceback, int limit, int most_recent_first,
                          char *buffer, size_t size) {
  struct text t = text_begin(buffer, size);
  size_t first = 0, end = traceback->count;
  if (limit > 0 && (size_t)limit < end) first = end - (size_t)limit;
  if (limit < 0 && (size_t)(-(int64_t)limit) < end) end = (size_t)(-(int64_t)limit);
  for (size_t i = first; i < end; i++) {
    const struct gyre_frame *frame =
        &traceback->frames[most_recent_first ? end - 1 - (i - first) : i];
    char source[512];
    text_add(&t, "  File \"%s\", line %u\n", frame->file, frame->line);
    if (source_line(frame, source, sizeof source)) text_add(&t, "    %s\n", source);
  }
  return text_end(&t);
}

/* ---- figures ---- */

/* As tracemalloc._format_size(). */
static void size_add(struct text *t, double size, bool sign) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  const unsigned last = sizeof units / sizeof units[0] - 1;
  unsigned unit = 0;
  for (; unit < last; unit++) {
    double magnitude = size < 0 ? -size : size;
    if (unit != 0 && magnitude < 100) {
      text_add(t, sign ? "%+.1f %s" : "%.1f %s", size, units[unit]);
      return;
    }
    if (magnitude < 10 * 1024) break;
    size /= 1024;
  }
  bool small = unit == last && size < 100 && size > -100;
  if (small)
    text_add(t, sign ? "%+.1f %s" : "%.1f %s", size, units[unit]);
  else
    text_add(t, sign ? "%+.0f %s" : "%.0f %s", size, units[unit]);
}

int gyre_stat_format(const struct gyre_stat *stat, char *buffer, size_t size) {
  struct text t = text_begin(buffer, size);
  const struct gyre_frame *frame = &stat->traceback.frames[0];
  if (stat->name != NULL)
    text_add(&t, "%s", *stat->name != 0 ? stat->name : "<none>");
  else if (stat->traceback.count == 1 && frame->line == 0 && *frame->func != 0 && frame->pc == 0)
    text_add(&t, "%s:%s", frame->file, frame->func);
  else
    text_add(&t, "%s:%u", frame->file, frame->line);
  text_add(&t, ": size=");
  size_add(&t, (double)stat->size, false);
  if (stat->is_diff) {
    text_add(&t, " (");
    size_add(&t, (double)stat->size_diff, true);
    text_add(&t, ")");
  }
  text_add(&t, ", count=%zu", stat->count);
  if (stat->is_diff) text_add(&t, " (%+td)", stat->count_diff);
  if (stat->count != 0) {
    text_add(&t, ", average=");
    size_add(&t, (double)stat->size / (double)stat->count, false);
  }
  return text_end(&t);
}
