/* SPDX-License-Identifier: MIT */
/* pkggraph: Debian's package index as a graph of objects. bench/apps/README.md says what it is
 * for. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/apps/pkggraph/compare.h"
#include "bench/apps/pkggraph/run.h"
#include "bench/apps/pkggraph/say.h"

enum { EXIT_USAGE = 2, MOST_THREADS = 256, MOST_REPETITIONS = 1000 };

static const char usage[] =
    "usage: pkggraph [options]\n"
    "Reads a Debian package index into a graph, answers questions, takes the graph apart again.\n"
    "\n"
    "  --index FILE       the index; otherwise what `apt-cache dumpavail` prints, or the dpkg\n"
    "                     status file\n"
    "  --system SYSTEM    what the graph's memory is managed by: gyre (default) or malloc\n"
    "  --threads N        threads that read (default: one a processor)\n"
    "  --depends NAME     prints the edges that leave a package; may be repeated\n"
    "  --rdepends NAME    prints the edges that lead to it; may be repeated\n"
    "  --scc              lists the strongly connected components of Depends and Pre-Depends\n"
    "  --drop PERCENT     the share of packages to drop (default 50)\n"
    "  --report           prints time and memory of each phase to stderr\n"
    "  --bench            runs on both systems in turn and compares them, instead of the above\n"
    "  --reps N           how often, with --bench (default 5)\n"
    "  --json FILE        writes the figures as JSON; - is stdout, and all else goes to stderr\n"
    "\n"
    "Exit status: 0, 1 if something is wrong (with the index, or with what was reclaimed), 2 for\n"
    "wrong usage.\n";

struct command {
  struct run_options run;
  const char *index;
  struct question *questions; /* run.questions, writable */
  bool report;
  bool bench;
  unsigned repetitions;
  const char *json;
};

/* ---- the command line ---- */

static int parse_number(const char *text, unsigned least, unsigned most, unsigned *out) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || value < least || value > most) {
    say("%s: a number from %u to %u is wanted", text, least, most);
    return -EINVAL;
  }
  *out = (unsigned)value;
  return 0;
}

static int parse_system(const char *text, const struct store_ops **out) {
  static const struct store_ops *const systems[] = {&gyre_store_ops, &malloc_store_ops};
  for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
    if (strcmp(text, systems[i]->name) == 0) {
      *out = systems[i];
      return 0;
    }
  }
  say("%s: gyre or malloc is wanted", text);
  return -EINVAL;
}

enum { OPTION_HELP = 'h', OPTION_FIRST = 256 };
enum option_id {
  OPTION_INDEX = OPTION_FIRST,
  OPTION_SYSTEM,
  OPTION_THREADS,
  OPTION_DEPENDS,
  OPTION_RDEPENDS,
  OPTION_SCC,
  OPTION_DROP,
  OPTION_REPORT,
  OPTION_BENCH,
  OPTION_REPS,
  OPTION_JSON
};

static const struct option options[] = {
    {"index", required_argument, NULL, OPTION_INDEX},
    {"system", required_argument, NULL, OPTION_SYSTEM},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"depends", required_argument, NULL, OPTION_DEPENDS},
    {"rdepends", required_argument, NULL, OPTION_RDEPENDS},
    {"scc", no_argument, NULL, OPTION_SCC},
    {"drop", required_argument, NULL, OPTION_DROP},
    {"report", no_argument, NULL, OPTION_REPORT},
    {"bench", no_argument, NULL, OPTION_BENCH},
    {"reps", required_argument, NULL, OPTION_REPS},
    {"json", required_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static int apply_option(struct command *command, int id, const char *argument) {
  switch (id) {
  case OPTION_INDEX:
    command->index = argument;
    return 0;
  case OPTION_SYSTEM:
    return parse_system(argument, &command->run.ops);
  case OPTION_THREADS:
    return parse_number(argument, 1, MOST_THREADS, &command->run.threads);
  case OPTION_DEPENDS:
  case OPTION_RDEPENDS:
    command->questions[command->run.question_count++] =
        (struct question){argument, id == OPTION_RDEPENDS};
    return 0;
  case OPTION_SCC:
    command->run.list_components = true;
    return 0;
  case OPTION_DROP:
    return parse_number(argument, 0, 100, &command->run.drop_percent);
  case OPTION_REPORT:
    command->report = true;
    return 0;
  case OPTION_BENCH:
    command->bench = true;
    return 0;
  case OPTION_REPS:
    return parse_number(argument, 1, MOST_REPETITIONS, &command->repetitions);
  case OPTION_JSON:
    command->json = argument;
    return 0;
  default:
    return -EINVAL;
  }
}

static unsigned processors(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) return 1;
  return count < MOST_THREADS ? (unsigned)count : MOST_THREADS;
}

/* Reads the command line into *command. Returns -1 to go on, or the exit status. */
static int parse_command(int argc, char **argv, struct command *command) {
  int id;
  while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
    if (id == OPTION_HELP) {
      fputs(usage, stdout);
      return EXIT_SUCCESS;
    }
    if (apply_option(command, id, optarg) != 0) {
      fputs("Try pkggraph --help.\n", stderr);
      return EXIT_USAGE;
    }
  }
  if (optind < argc) {
    say("%s: no argument is wanted here", argv[optind]);
    return EXIT_USAGE;
  }
  return -1;
}

/* ---- what it asks for ---- */

static void write_json(const struct report *report, const char *system, FILE *json) {
  struct figure figures[REPORT_FIGURES];
  report_figures(report, figures);
  struct json_list list = {.out = json};
  json_begin(&list);
  for (size_t i = 0; i < REPORT_FIGURES; i++) {
    json_add(&list, figures[i].name, system, figures[i].value, figures[i].unit);
  }
  json_end(&list);
}

static int execute(const struct command *command, struct index *index, FILE *json) {
  if (command->bench) {
    FILE *table = json == stdout ? stderr : stdout;
    return compare(&command->run, index, command->repetitions, table, json);
  }
  struct run_options run_options = command->run;
  if (json == stdout) run_options.out = stderr;
  struct report report = {0};
  int error = run(&run_options, index, &report);
  if (error != 0) return error;
  if (command->report) {
    fflush(stdout);
    report_print(&report, stderr);
  }
  if (json != NULL) write_json(&report, command->run.ops->name, json);
  return 0;
}

/* Closes what was written to, and tells whether all of it arrived. */
static int finish_output(FILE *file, const char *name) {
  bool failed = ferror(file) != 0;
  if (fclose(file) != 0) failed = true;
  if (failed) say_error(name, -EIO);
  return failed ? -EIO : 0;
}

static int execute_with_output(const struct command *command, struct index *index) {
  if (command->json == NULL) return execute(command, index, NULL);
  if (strcmp(command->json, "-") == 0) return execute(command, index, stdout);
  FILE *json = fopen(command->json, "we");
  if (json == NULL) {
    int error = -errno;
    say_error(command->json, error);
    return error;
  }
  int error = execute(command, index, json);
  int output_error = finish_output(json, command->json);
  return error != 0 ? error : output_error;
}

static int execute_with_index(const struct command *command) {
  struct index index;
  int error = index_open(&index, command->index);
  if (error != 0) return error;
  error = execute_with_output(command, &index);
  index_close(&index);
  return error;
}

int main(int argc, char **argv) {
  struct command command = {
      .run = {.ops = &gyre_store_ops, .threads = processors(), .drop_percent = 50, .out = stdout},
      .repetitions = 5,
  };
  /* No more questions than arguments. */
  command.questions = calloc((size_t)argc + 1, sizeof *command.questions);
  if (command.questions == NULL) {
    say_error("reading the command line", -ENOMEM);
    return EXIT_FAILURE;
  }
  command.run.questions = command.questions;
  int status = parse_command(argc, argv, &command);
  if (status < 0) {
    int error = execute_with_index(&command);
    if (finish_output(stdout, "stdout") != 0) error = -EIO;
    status = error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  free(command.questions);
  return status;
}
