/* SPDX-License-Identifier: MIT */
/* Where options come from before the program sets any.
 *
 *     gyre_conf        a string the program defines, for those who build it     weakest
 *     short forms      GYRE_MALLOC, GYRE_RC, GYRE_DEBUG, GYRE_GCTRACE, GYRE_STATS
 *     GYRE_CONF        the same as the string, for those who run it
 *     code             gyre_option_set() and the setters of the other headers   strongest
 *
 * All are read at the first use of the library, in that order, so that the later one wins option by
 * option. A short form is another way to write a few options; the words it accepts are in a table
 * here. The environment is not looked at in a program with raised privileges.
 *
 * Nothing here ends the process. What does not fit is left out, and reported once everything else is
 * in place and no lock is held: with what the option accepts, or, if there is no such option, with the
 * name that is nearest and the names there are. (Nearest: the fewest letters put in, left out,
 * replaced, or swapped with their neighbours; Damerau 1964, Levenshtein 1965.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/options.h"

/* What a program does not define. */
__attribute__((weak)) const char *gyre_conf = NULL;

/* ---- names that are nearly right ---- */

#define NAME_MAX_LENGTH 24

/* The number of edits from one to the other; `length` is at most NAME_MAX_LENGTH. */
static size_t distance(const char *name, size_t length, const char *other) {
  size_t rows[3][NAME_MAX_LENGTH + 1];
  size_t *before = rows[0], *last = rows[1], *now = rows[2];
  for (size_t i = 0; i <= length; i++)
    last[i] = i;
  size_t other_length = strlen(other);
  for (size_t j = 1; j <= other_length; j++) {
    now[0] = j;
    for (size_t i = 1; i <= length; i++) {
      size_t best = last[i - 1] + (name[i - 1] != other[j - 1]);
      if (last[i] + 1 < best) best = last[i] + 1;
      if (now[i - 1] + 1 < best) best = now[i - 1] + 1;
      if (i > 1 && j > 1 && name[i - 1] == other[j - 2] && name[i - 2] == other[j - 1] &&
          before[i - 2] + 1 < best)
        best = before[i - 2] + 1;
      now[i] = best;
    }
    size_t *spare = before;
    before = last;
    last = now;
    now = spare;
  }
  return last[length];
}

/* The option whose name is nearest, if no more than a third of it is wrong; else NULL. */
static const struct gyre__option *nearest(const char *name, size_t length) {
  if (length > NAME_MAX_LENGTH) return NULL;
  const struct gyre__option *best = NULL;
  size_t least = length / 3 + 2;
  for (size_t i = 0; i < gyre__option_count(); i++) {
    size_t edits = distance(name, length, gyre__option_at(i)->name);
    if (edits >= least) continue;
    least = edits;
    best = gyre__option_at(i);
  }
  return best;
}

static void report_unknown(const char *source, const char *name, size_t length) {
  char names[800] = "";
  size_t at = 0;
  for (size_t i = 0; i < gyre__option_count() && at < sizeof names; i++)
    at += (size_t)snprintf(names + at, sizeof names - at, i == 0 ? "%s" : ", %s",
                           gyre__option_at(i)->name);
  const struct gyre__option *option = nearest(name, length);
  gyre__log("%s: there is no option \"%.*s\"%s%s%s; there are %s", source, (int)length, name,
            option != NULL ? ", did you mean \"" : "", option != NULL ? option->name : "",
            option != NULL ? "\"?" : "", names);
}

/* ---- key:value,key:value ---- */

/* Applies what fits, or else reports what does not. */
static void conf_walk(const char *source, const char *conf, enum gyre_option_source from,
                      bool report) {
  while (*conf != 0) {
    size_t length = strcspn(conf, ",");
    size_t key = strcspn(conf, ":,");
    const struct gyre__option *option = gyre__option_find(conf, key);
    bool has_value = key < length;
    const char *value = has_value ? conf + key + 1 : "";
    size_t value_length = has_value ? length - key - 1 : 0;
    uint64_t values[GYRE__OPTION_NUMBERS];
    unsigned count =
        option != NULL && has_value ? gyre__option_parse(option, value, value_length, values) : 0;
    if (!report) {
      if (count != 0) gyre__option_apply(option, values, count, from);
    } else if (option == NULL && length != 0) {
      report_unknown(source, conf, key);
    } else if (option != NULL && count == 0) {
      gyre__log("%s: option \"%s\" does not accept \"%.*s\", which is left out; %s", source,
                option->name, (int)value_length, value, option->help);
    }
    conf += length;
    if (*conf == ',') conf++;
  }
}

/* ---- short forms ---- */

struct meaning {
  const char *word;
  const char *conf;
  bool in_debug;           /* only builds with GYRE_DEBUG can do it */
  const char *system_conf; /* instead, if the C library serves gyre_malloc(); or NULL */
};

struct short_form {
  const char *variable;
  bool is_list;                /* several words with commas between them */
  struct meaning meanings[10]; /* up to one without a word */
};

#define HOOKS "poison:1,quarantine:64k"
static const struct short_form short_forms[] = {
    {"GYRE_MALLOC",
     false,
     {{"pool", "malloc:pool", false, NULL},
      {"system", "malloc:system", false, NULL},
      {"pool_debug", "malloc:pool_debug", false, NULL},
      {"system_debug", "malloc:system_debug", false, NULL}}},
    {"GYRE_RC", false, {{"on", "rc:on", false, NULL}, {"off", "rc:off", false, NULL}}},
    {"GYRE_DEBUG",
     true,
     {{"0", "", false, NULL},
      {"1", HOOKS ",leaks:1", true, NULL},
      {"guard", "malloc:pool_debug", false, "malloc:system_debug"},
      {"pages", "guard:1", true, NULL},
      {"poison", "poison:1", true, NULL},
      {"quarantine", "quarantine:64k", true, NULL},
      {"leaks", "leaks:1", false, NULL},
      {"visit", "check_visits:1", false, NULL},
      {"collect", "collect_always:3", false, NULL}}},
    {"GYRE_GCTRACE", false, {{"0", "gc_trace:0", false, NULL}, {"1", "gc_trace:1", false, NULL}}},
    {"GYRE_STATS",
     false,
     {{"0", "stats:off", false, NULL},
      {"1", "stats:text", false, NULL},
      {"text", "stats:text", false, NULL},
      {"json", "stats:json", false, NULL},
      {"openmetrics", "stats:openmetrics", false, NULL}}},
};

static const struct meaning *meaning_of(const struct short_form *form, const char *word,
                                        size_t length) {
  for (const struct meaning *m = form->meanings; m->word != NULL; m++)
    if (strlen(m->word) == length && memcmp(m->word, word, length) == 0) return m;
  return NULL;
}

static const char *conf_of(const struct meaning *m) {
  uint64_t choice = gyre__option(malloc_choice);
  bool is_system = choice == GYRE__CHOICE_SYSTEM || choice == GYRE__CHOICE_SYSTEM_DEBUG;
  return is_system && m->system_conf != NULL ? m->system_conf : m->conf;
}

static void report_word(const struct short_form *form, const char *word, size_t length) {
  char words[200] = "";
  size_t at = 0;
  for (const struct meaning *m = form->meanings; m->word != NULL && at < sizeof words; m++)
    at += (size_t)snprintf(words + at, sizeof words - at, m == form->meanings ? "%s" : ", %s",
                           m->word);
  gyre__log("%s does not accept \"%.*s\", which is left out; it accepts %s%s", form->variable,
            (int)length, word, words, form->is_list ? ", with commas between them" : "");
}

static void short_form_walk(const struct short_form *form, const char *text, bool report) {
#ifdef GYRE_DEBUG
  const bool can_debug = true;
#else
  const bool can_debug = false;
#endif
  while (*text != 0) {
    size_t length = form->is_list ? strcspn(text, ",") : strlen(text);
    const struct meaning *m = meaning_of(form, text, length);
    if (m != NULL && m->in_debug && !can_debug) {
      if (report)
        gyre__log("%s: \"%s\" needs a library that was built with GYRE_DEBUG, and is left out",
                  form->variable, m->word);
    } else if (m != NULL) {
      conf_walk(form->variable, conf_of(m), GYRE_OPTION_FROM_ENVIRONMENT, report);
    } else if (report && length != 0) {
      report_word(form, text, length);
    }
    text += length;
    if (*text == ',') text++;
  }
}

/* ---- all of them ---- */

static void sources_walk(bool report) {
  if (!GYRE__IS_MALLOC && gyre_conf != NULL)
    conf_walk("gyre_conf", gyre_conf, GYRE_OPTION_FROM_PROGRAM, report);
  /* They mean the library with the objects; a preloaded malloc would only say the same again. */
  for (size_t i = 0; i < sizeof short_forms / sizeof short_forms[0] && !GYRE__IS_MALLOC; i++) {
    const char *text = secure_getenv(short_forms[i].variable);
    if (text != NULL) short_form_walk(&short_forms[i], text, report);
  }
  const char *conf = secure_getenv("GYRE_CONF");
  if (conf != NULL) conf_walk("GYRE_CONF", conf, GYRE_OPTION_FROM_ENVIRONMENT, report);
}

void gyre__conf_apply(void) { sources_walk(false); }
void gyre__conf_report(void) { sources_walk(true); }
