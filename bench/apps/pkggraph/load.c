/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/apps/pkggraph/say.h"

/* So many chunks a thread that a slow one at the end makes no difference. */
enum { CHUNKS_PER_THREAD = 16 };

struct failure {
  const char *at; /* NULL unless the index is broken */
  char text[sizeof((struct parser *)0)->error];
};

struct loading {
  const struct index *index;
  const struct store_ops *ops;
  struct store *store;
  size_t chunk_count;
  struct failure *failures; /* one a chunk, each written by the thread that has the chunk */
};

static int add_all(const struct loading *loading, struct parser *parser) {
  int status;
  while ((status = parser_next(parser)) > 0) {
    int error = loading->ops->add(loading->store, &parser->paragraph);
    if (error != 0) return error;
    loading->ops->pause();
  }
  return status;
}

/* A step of a team's loop. */
static int load_chunk(size_t i, void *arg) {
  const struct loading *loading = arg;
  const struct index *index = loading->index;
  struct parser parser;
  parser_begin(&parser, chunk_split(index->bytes, index->size, i, loading->chunk_count));
  int error = add_all(loading, &parser);
  if (error == -EBADMSG) {
    loading->failures[i].at = parser.error_at;
    memcpy(loading->failures[i].text, parser.error, sizeof parser.error);
  }
  parser_end(&parser);
  return error;
}

static void say_failure(const struct loading *loading, int error) {
  const struct index *index = loading->index;
  if (error != -EBADMSG) {
    say_error(index->name, error);
    return;
  }
  /* The first chunk that failed is where reading it all from the front would have ended. */
  const struct failure *failure = loading->failures;
  while (failure->at == NULL)
    failure++;
  say("%s:%zu: %s", index->name, index_line(index, failure->at), failure->text);
}

int load(const struct index *index, const struct store_ops *ops, struct store *store,
         const struct team *team) {
  if (index->size == 0) {
    say("%s:1: the index is empty", index->name);
    return -EBADMSG;
  }
  struct loading loading = {index, ops, store, (size_t)team->members * CHUNKS_PER_THREAD, NULL};
  loading.failures = calloc(loading.chunk_count, sizeof *loading.failures);
  int error = loading.failures != NULL
                  ? team_for(team, loading.chunk_count, 1, load_chunk, &loading)
                  : -ENOMEM;
  if (error != 0) say_failure(&loading, error);
  free(loading.failures);
  return error;
}
