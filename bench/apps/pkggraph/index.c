/* SPDX-License-Identifier: MIT */
#include "bench/apps/pkggraph/index.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/apps/pkggraph/say.h"

static const char status_path[] = "/var/lib/dpkg/status";

static int file_size(int file, size_t *size) {
  struct stat about;
  if (fstat(file, &about) != 0) return -errno;
  if (S_ISDIR(about.st_mode)) return -EISDIR;
  /* A pipe or a terminal cannot be mapped. */
  if (!S_ISREG(about.st_mode)) return -ESPIPE;
  *size = (size_t)about.st_size;
  return 0;
}

static int open_file(struct index *index, const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return -errno;
  int error = file_size(file, &index->size);
  if (error != 0) {
    close(file);
    return error;
  }
  index->name = path;
  index->file = file;
  return 0;
}

/* Runs `apt-cache dumpavail` with its output into `file`. 0 if it ended well. */
static int run_apt_cache(int file) {
  char *const arguments[] = {"apt-cache", "dumpavail", NULL};
  posix_spawn_file_actions_t actions;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return -error;
  pid_t child;
  error = posix_spawn_file_actions_adddup2(&actions, file, STDOUT_FILENO);
  if (error == 0) error = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -error;

  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* A file without a name, because the output of a command cannot be mapped. */
static int open_apt_cache(struct index *index) {
  int file = memfd_create("package index", MFD_CLOEXEC);
  if (file < 0) return -errno;
  int error = run_apt_cache(file);
  if (error == 0) error = file_size(file, &index->size);
  if (error == 0 && index->size == 0) error = -ENODATA;
  if (error != 0) {
    close(file);
    return error;
  }
  index->name = "apt-cache dumpavail";
  index->file = file;
  return 0;
}

int index_open(struct index *index, const char *path) {
  *index = (struct index){.file = -1};
  if (path == NULL) {
    if (open_apt_cache(index) == 0) return 0;
    path = status_path;
  }
  int error = open_file(index, path);
  if (error != 0) say_error(path, error);
  return error;
}

void index_close(struct index *index) {
  index_unmap(index);
  if (index->file >= 0) close(index->file);
  index->file = -1;
}

int index_map(struct index *index) {
  if (index->size == 0) {
    index->bytes = "";
    return 0;
  }
  void *bytes = mmap(NULL, index->size, PROT_READ, MAP_SHARED, index->file, 0);
  if (bytes == MAP_FAILED) return -errno;
  index->bytes = bytes;
  return 0;
}

void index_unmap(struct index *index) {
  if (index->bytes != NULL && index->size != 0) munmap((void *)index->bytes, index->size);
  index->bytes = NULL;
}

size_t index_line(const struct index *index, const char *at) {
  size_t line = 1;
  const char *from = index->bytes;
  for (;;) {
    const char *newline = memchr(from, '\n', (size_t)(at - from));
    if (newline == NULL) return line;
    line++;
    from = newline + 1;
  }
}
