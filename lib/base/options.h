/* SPDX-License-Identifier: MIT */
/* The table of options, for the two files that use it: options.c, which has it, and conf.c, which lays
 * the default string and the environment over it. */
#ifndef GYRE_LIB_BASE_OPTIONS_H
#define GYRE_LIB_BASE_OPTIONS_H

#include "lib/base/base.h"

#define GYRE__OPTION_NUMBERS 3 /* the most values of an option */
#define GYRE__OPTION_WORDS 7   /* the most words, and a NULL behind them */

struct gyre__option {
  const char *name;
  const char *accepts;
  const char *does;
  const char *default_text;
  const char *help;         /* all of these in one line */
  gyre__atomic_u64 *values; /* `numbers` of them, or one for a word's index */
  unsigned numbers;
  bool is_bytes;
  bool
      is_for_start; /* what it says is done at the first use of the library, and not changed later */
  uint64_t min, max;
  const char *words[GYRE__OPTION_WORDS]; /* instead of numbers: the value is the index */
};

size_t gyre__option_count(void);
const struct gyre__option *gyre__option_at(size_t i);
/* NULL if there is none of that name, which need not end with a 0. */
const struct gyre__option *gyre__option_find(const char *name, size_t length);
/* How many values the text gives, 0 if it does not fit. Changes nothing. */
unsigned gyre__option_parse(const struct gyre__option *option, const char *text, size_t length,
                            uint64_t out[GYRE__OPTION_NUMBERS]);
/* With the lock of the options held. */
void gyre__option_apply(const struct gyre__option *option, const uint64_t *values, unsigned count,
                        enum gyre_option_source source);

/* conf.c: applies what the program was linked with and what the environment says, with the lock of the
 * options held; and afterwards, without it, reports what does not fit. */
void gyre__conf_apply(void);
void gyre__conf_report(void);

#endif
