/* SPDX-License-Identifier: MIT */
/* Text for a sink, and foreign text inside of documents. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/observe/graph.h"

void gyre__text_begin(struct gyre__text *t, gyre_text_sink *sink, void *arg) {
  t->sink = sink;
  t->arg = arg;
  t->result = 0;
  t->used = 0;
}

static void flush(struct gyre__text *t) {
  if (t->result == 0 && t->used > 0) {
    int answer = t->sink(t->buffer, t->used, t->arg);
    if (answer != 0) t->result = answer < 0 ? answer : -ECANCELED;
  }
  t->used = 0;
}

static void put(struct gyre__text *t, const char *text, size_t length) {
  while (length > 0) {
    if (t->used == sizeof t->buffer) flush(t);
    size_t part = sizeof t->buffer - t->used;
    if (part > length) part = length;
    memcpy(t->buffer + t->used, text, part);
    t->used += part;
    text += part;
    length -= part;
  }
}

void gyre__text_say(struct gyre__text *t, const char *text) { put(t, text, strlen(text)); }

void gyre__text_format(struct gyre__text *t, const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (length < 0) return;
  put(t, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
}

int gyre__text_end(struct gyre__text *t) {
  flush(t);
  return t->result;
}

/* ---- UTF-8 ---- */

#define REPLACEMENT 0xFFFDu

/* Takes the next character off the text; what is not one, byte by byte, is U+FFFD. The forms that are no
 * characters (longer than need be, surrogates, beyond the end) are not either (RFC 3629). */
static uint32_t character_take(const char **text) {
  const unsigned char *p = (const unsigned char *)*text;
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  unsigned length = p[0] < 0x80   ? 1
                    : p[0] < 0xC2 ? 0
                    : p[0] < 0xE0 ? 2
                    : p[0] < 0xF0 ? 3
                    : p[0] < 0xF5 ? 4
                                  : 0;
  uint32_t c = length <= 1 ? p[0] : p[0] & (0xFFu >> (length + 1));
  for (unsigned i = 1; i < length; i++) {
    if ((p[i] & 0xC0) != 0x80)
      length = 0;
    else
      c = c << 6 | (p[i] & 0x3Fu);
  }
  bool good = length != 0 && c >= least[length] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
  *text += good ? length : 1;
  return good ? c : REPLACEMENT;
}

static void character_put(struct gyre__text *t, uint32_t c) {
  char out[4];
  size_t length;
  if (c < 0x80) {
    out[0] = (char)c;
    length = 1;
  } else if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    length = 2;
  } else if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    length = 3;
  } else {
    out[0] = (char)(0xF0 | c >> 18);
    length = 4;
  }
  for (size_t i = 1; i < length; i++)
    out[i] = (char)(0x80 | ((c >> (6 * (length - 1 - i))) & 0x3F));
  put(t, out, length);
}

void gyre__text_dot(struct gyre__text *t, const char *text) {
  while (*text != 0) {
    uint32_t c = character_take(&text);
    if (c == '"' || c == '\\')
      gyre__text_format(t, "\\%c", (int)c);
    else if (c == '\n')
      gyre__text_say(t, "\\n");
    else
      character_put(t, c < ' ' || c == 0x7F ? REPLACEMENT : c);
  }
}

void gyre__text_xml(struct gyre__text *t, const char *text) {
  while (*text != 0) {
    uint32_t c = character_take(&text);
    switch (c) {
    case '&':
      gyre__text_say(t, "&amp;");
      break;
    case '<':
      gyre__text_say(t, "&lt;");
      break;
    case '>':
      gyre__text_say(t, "&gt;");
      break;
    case '"':
      gyre__text_say(t, "&quot;");
      break;
    case '\'':
      gyre__text_say(t, "&#39;");
      break;
    default:
      /* Control characters, and the two that are none, cannot be in XML 1.0. */
      if ((c < ' ' && c != '\t' && c != '\n') || c == 0x7F || c == 0xFFFE || c == 0xFFFF)
        c = REPLACEMENT;
      character_put(t, c);
    }
  }
}

void gyre__text_json(struct gyre__text *t, const char *text) {
  while (*text != 0) {
    uint32_t c = character_take(&text);
    if (c == '"' || c == '\\')
      gyre__text_format(t, "\\%c", (int)c);
    else if (c < ' ' || c == 0x7F)
      gyre__text_format(t, "\\u%04x", (unsigned)c);
    else
      character_put(t, c);
  }
}
