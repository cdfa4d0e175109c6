/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/base.h"

#define LINE_BYTES 1001

/* Where lines go; NULL: stderr. Both fields under the lock, which is never held while the sink
 * runs. */
static gyre__lock sink_lock;
static gyre_log_sink *sink_function;
static void *sink_arg;

/* One write for the whole line, so that lines of several threads do not mix. */
static void line_to_stderr(const char *line) {
  char text[LINE_BYTES + 8];
  int length = snprintf(text, sizeof text, "gyre: %s\n", line);
  if (length <= 0) return;
  size_t size = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
  /* Nothing can be done about a log line that cannot be written. */
  if (write(STDERR_FILENO, text, size) < 0) return;
}

void gyre__log(const char *format, ...) {
  char line[LINE_BYTES];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(line, sizeof line, format, args);
  va_end(args);

  gyre__lock_take(&sink_lock);
  gyre_log_sink *sink = sink_function;
  void *arg = sink_arg;
  gyre__lock_give(&sink_lock);
  int cancel = gyre__cancel_put_off();
  if (sink != NULL)
    sink(line, arg);
  else
    line_to_stderr(line);
  gyre__cancel_restore(cancel);
}

void gyre_set_log(gyre_log_sink *sink, void *arg) {
  gyre__lock_take(&sink_lock);
  sink_function = sink;
  sink_arg = arg;
  gyre__lock_give(&sink_lock);
}

void gyre__log_fork_prepare(void) { gyre__lock_take(&sink_lock); }
void gyre__log_fork_parent(void) { gyre__lock_give(&sink_lock); }
void gyre__log_fork_child(void) { gyre__lock_reset(&sink_lock); }
