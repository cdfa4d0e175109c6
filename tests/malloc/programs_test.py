#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: MIT
"""Real programs do the same on libgyre_malloc.so.0 as without it.

Each program of the list runs twice on the same generated input, once plain and once with LD_PRELOAD, and
what it prints or writes is compared. Each also shows that the library was in use: a process of the program
has it among its mappings (/proc/PID/maps), or, for one that is over too soon to look, the dynamic linker says
that it bound malloc to it (LD_DEBUG=bindings).

Usage: programs_test [--library FILE] [NAME...]      (default: ./libgyre_malloc.so.0, all programs)
"""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SEED = 20240229
PYTHON = "/usr/bin/python3"  # the one that the test modules are of
LIMIT_S = 100


class Failure(Exception):
    pass


class Run:
    """One of the two runs of a program: its folder, and how commands are started in it."""

    def __init__(self, folder, library):
        self.folder = Path(folder)
        self.library = library

    def environment(self, **more):
        keep = {name: os.environ[name] for name in ("PATH", "GYRE_CONF") if name in os.environ}
        # Nothing that differs from one run or machine to the other.
        env = dict(keep, HOME=str(self.folder), TMPDIR=str(self.folder), LC_ALL="C.UTF-8", TZ="UTC", **more)
        if self.library:
            env["LD_PRELOAD"] = str(self.library)
        return env

    def command(self, *command, input=None, check=True, **env):
        """Runs a command; what it prints, errors included."""
        done = subprocess.run(
            [str(word) for word in command], cwd=self.folder, env=self.environment(**env), input=input,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False)
        if check and done.returncode != 0:
            tail = done.stdout.decode(errors="replace")[-3000:]
            raise Failure(f"{command[0]} ends with {done.returncode}:\n{tail}")
        return done.stdout

    def show_bound(self, *command, process=r"\S+"):
        """The dynamic linker's word that a short command, or a process that it starts, has its malloc from
        the library."""
        if not self.library:
            return
        output = self.command(*command, LD_DEBUG="bindings", check=False).decode(errors="replace")
        pattern = rf"binding file {process} \[0\] to {re.escape(str(self.library))} \[0\]: normal symbol `(malloc|_Znwm)'"
        if not re.search(pattern, output):
            raise Failure(f"{command[0]} does not have malloc from the library")

    def show_mapped(self, pid):
        """The kernel's word that a process that runs has the library."""
        if self.library and str(self.library) not in Path(f"/proc/{pid}/maps").read_text():
            raise Failure(f"process {pid} does not have the library")


# ---- inputs -------------------------------------------------------------------------------------------


def c_source(functions):
    """A C file of that many functions that call each other."""
    rng = random.Random(SEED)
    lines = ["#include <stdint.h>", "#include <string.h>"]
    for i in range(functions):
        call = f"f{rng.randrange(i)}((void *)p, n - 1)" if i else "n"
        lines.append(f"""
struct s{i} {{ int a[{rng.randrange(1, 40)}]; uint64_t b; struct s{i} *next; }};
uint64_t f{i}(struct s{i} *p, int n) {{
  uint64_t x = {rng.randrange(1 << 30)}u;
  for (int i = 0; i < n && p; i++, p = p->next) {{
    x ^= p->b * {rng.randrange(1 << 30) | 1}u;
    switch (x % {rng.randrange(3, 9)}) {{
    case 0: x += (uint64_t)p->a[0]; break;
    case 1: memset(p->a, (int)x, sizeof p->a); break;
    default: x = x >> {rng.randrange(1, 31)} | x << 32;
    }}
  }}
  return n > 0 ? x + {call} : x;
}}""")
    return "\n".join(lines) + "\n"


CXX_SOURCE = """
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
template <int N> struct chain { std::unique_ptr<chain<N - 1>> next; std::map<int, std::string> words; };
template <> struct chain<0> { std::vector<double> numbers; };
int main() {
  chain<60> c;
  std::map<std::string, std::vector<int>> m;
  for (int i = 0; i < 200000; i++) m[std::to_string(i * 7919 % 997)].push_back(i);
  std::vector<std::string> results(8);
  std::vector<std::thread> threads;
  for (auto &r : results)
    threads.emplace_back([&r] {
      std::unordered_map<std::string, int> seen;
      for (int i = 0; i < 50000; i++) seen[std::string(static_cast<size_t>(i % 100), 'x')] += i;
      std::ostringstream s;
      s << seen.size() << ' ' << seen["xxx"];
      r = s.str();
    });
  for (auto &t : threads) t.join();
  for (auto &r : results) std::cout << r << '\\n';
  std::cout << m.size() << std::regex_match("abcbcd", std::regex("a(b|c)*d")) << '\\n';
  try { std::vector<char> v(static_cast<size_t>(-1) / 4); } catch (const std::bad_alloc &) { std::cout << "bad_alloc\\n"; }
}
"""

SQL = """
PRAGMA cache_size = 500;
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, age INTEGER, town INTEGER);
CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
  INSERT INTO town SELECT i, 'town ' || hex(i * 7919 % 65537) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
  INSERT INTO person SELECT i, printf('%x-%s', i * 2654435761 % 4294967296, substr('abcdefghijklmnopqrstuvwxyz', i % 20, 5)),
    i * 31 % 97, i * 17 % 500 + 1 FROM n;
CREATE INDEX by_name ON person (name);
CREATE INDEX by_age ON person (age, town);
SELECT town.name, count(*), sum(age), max(person.name) FROM person JOIN town ON town = town.id
  GROUP BY town.id ORDER BY 2, 1;
SELECT age, group_concat(name) FROM (SELECT * FROM person ORDER BY name) WHERE id % 100 = 0 GROUP BY age;
UPDATE person SET name = upper(name) WHERE age BETWEEN 20 AND 40;
DELETE FROM person WHERE id % 7 = 3;
SELECT count(*), sum(length(name)), min(name), max(name) FROM person;
SELECT name, row_number() OVER (PARTITION BY age ORDER BY name) FROM person WHERE id % 50 = 0 ORDER BY 1, 2;
VACUUM;
PRAGMA integrity_check;
"""

# ---- programs: each returns what is to be compared ----------------------------------------------------


def compiler_c(run):
    (run.folder / "big.c").write_text(c_source(1500))
    run.show_bound("gcc", "-O2", "-S", "-o", "/dev/null", "-x", "c", "/dev/null", process=r"\S*cc1")
    run.command("gcc", "-O2", "-S", "big.c", "-o", "big.s")
    return (run.folder / "big.s").read_bytes()


def compiler_cxx(run):
    (run.folder / "program.cc").write_text(CXX_SOURCE)
    run.show_bound("g++", "-S", "-o", "/dev/null", "-x", "c++", "/dev/null", process=r"\S*cc1plus")
    run.command("g++", "-std=c++17", "-O2", "-pthread", "-frandom-seed=1", "program.cc", "-o", "program")
    run.show_bound("./program", process=r"\S*program")
    return run.command("./program") + (run.folder / "program").read_bytes()


def python(run):
    modules = ["test_dict", "test_list", "test_json", "test_re", "test_set", "test_array", "test_threading",
               "test_gc"]
    run.show_bound(PYTHON, "-c", "")
    output = run.command(PYTHON, "-m", "test", "-v", "--timeout", "90", *modules, PYTHONMALLOC="malloc",
                         PYTHONHASHSEED="0").decode(errors="replace")
    verdicts = re.findall(r"^(?:test\w* \(test\..*\) \.\.\. \w+|All \d+ tests OK|Ran \d+ tests)", output, re.MULTILINE)
    if len(verdicts) < 500:
        raise Failure(f"python tells of {len(verdicts)} tests only:\n{output[-3000:]}")
    return "\n".join(verdicts).encode()


def redis_call(path, *words):
    """One command over a connection of its own; the answer, of one line."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(path))
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        answer = b""
        while not answer.endswith(b"\r\n"):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
        return answer


def redis_load(path):
    """A deterministic load: all types, growing, shrinking, dying."""
    rng = random.Random(SEED)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT_S)
        connection.connect(str(path))
        reader = connection.makefile("rb")
        for _ in range(100):
            batch = []
            for _ in range(300):
                key, number = b"%d" % rng.randrange(3000), rng.randrange(1 << 20)
                value = b"v" * rng.randrange(1, 2000)
                batch.append(rng.choice([
                    (b"SET", b"s" + key, value), (b"APPEND", b"s" + key, value[:100]),
                    (b"RPUSH", b"l" + key, value[:50], value[:200]), (b"LPOP", b"l" + key),
                    (b"HSET", b"h" + key, b"%d" % (number % 50), value[:300]),
                    (b"ZADD", b"z" + key, b"%d" % number, b"%d" % (number % 100)),
                    (b"SADD", b"t" + key, b"%d" % number), (b"DEL", b"s" + key, b"l" + key, b"z" + key)]))
            connection.sendall(b"".join(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
                for words in batch))
            for _ in batch:
                line = reader.readline()
                if line[:1] == b"-":
                    raise Failure(f"redis-server: {line!r}")
                if line[:1] == b"$" and line != b"$-1\r\n":
                    reader.read(int(line[1:]) + 2)


def redis_await(server, path):
    """Until the server answers. It makes its socket at some time after it has started; there is no event
    to wait for but the connection itself."""
    limit = time.monotonic() + LIMIT_S
    while server.poll() is None and time.monotonic() < limit:
        try:
            if redis_call(path, b"PING") == b"+PONG\r\n":
                return
        except (FileNotFoundError, ConnectionRefusedError):
            os.sched_yield()
    raise Failure("redis-server does not answer")


def redis(run):
    path = run.folder / "redis.sock"
    # Debian's server asks its allocator, jemalloc, by the names of the family, so all of its data are ours.
    # (Only defragmentation uses jemalloc's own interface.) DIGEST needs the debug command.
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", run.folder,
               "--enable-debug-command", "yes", "--io-threads", "2", "--activedefrag", "no", "--logfile", ""]
    log = open(run.folder / "redis.log", "wb")
    server = subprocess.Popen(["redis-server"] + [str(word) for word in options], cwd=run.folder,
                              env=run.environment(), stdout=log, stderr=log)
    try:
        redis_await(server, path)
        run.show_mapped(server.pid)
        redis_load(path)
        digest = redis_call(path, b"DEBUG", b"DIGEST") + redis_call(path, b"DBSIZE")
        tests = "set,get,incr,lpush,rpop,sadd,hset,spop,zadd,lrange_100,mset"
        report = run.command("redis-benchmark", "-s", path, "-q", "--csv", "-n", "20000", "-c", "20", "-P", "4",
                             "-r", "5000", "-d", "300", "--threads", "2", "-t", tests).decode()
        names = re.findall(r'^"([^"]+)","[\d.]+"', report, re.MULTILINE)
        # A child that writes everything to disk beside the running server, and another server's start from it.
        if not redis_call(path, b"SAVE").startswith(b"+OK"):
            raise Failure("redis-server cannot save")
        server.send_signal(signal.SIGTERM)
        if server.wait(LIMIT_S) != 0:
            raise Failure(f"redis-server ends with {server.returncode}")
    except Failure as failure:
        raise Failure(f"{failure}\n{(run.folder / 'redis.log').read_text()[-2000:]}") from None
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        log.close()
    return digest + "\n".join(names).encode()


def sqlite(run):
    run.show_bound("sqlite3", ":memory:", "SELECT 1;")
    (run.folder / "load.sql").write_text(SQL)
    output = run.command("sqlite3", "-bail", "data.db", ".read load.sql")
    return output + (run.folder / "data.db").read_bytes()


def git(run):
    rng = random.Random(SEED)
    when = [0]

    def git_command(*words):
        when[0] += 60
        date = f"{1700000000 + when[0]} +0000"
        return run.command("git", "-C", "repository", *words, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date,
                           GIT_CONFIG_NOSYSTEM="1", GIT_PAGER="cat")

    run.show_bound("git", "--version")
    (run.folder / ".gitconfig").write_text(
        "[user]\nname = A\nemail = a@example.org\n[init]\ndefaultBranch = main\n[gc]\nauto = 0\n"
        "[pack]\nthreads = 2\n[advice]\ndetachedHead = false\n")
    run.command("git", "init", "--quiet", "repository")
    folder = run.folder / "repository"
    texts = [[f"line {rng.randrange(10 ** 9)}" for _ in range(rng.randrange(20, 2000))] for _ in range(60)]
    for commit in range(60):
        for index in rng.sample(range(60), 8):
            text = texts[index]
            at = rng.randrange(len(text))
            text[at:at + rng.randrange(5)] = [f"commit {commit} {rng.randrange(10 ** 9)}"
                                              for _ in range(rng.randrange(1, 8))]
            target = folder / f"{index % 7}" / f"file{index}"
            target.parent.mkdir(exist_ok=True)
            target.write_text("\n".join(text) + "\n")
        git_command("add", "--all")
        git_command("commit", "--quiet", "--message", f"commit {commit}")
        if commit == 30:
            git_command("branch", "side")
    git_command("checkout", "--quiet", "side")
    (folder / "aside").write_text("side\n" * 1000)
    git_command("add", "--all")
    git_command("commit", "--quiet", "--message", "side")
    git_command("merge", "--quiet", "--no-edit", "main")
    # Threads may find other deltas each time, so packs are compared by what is in them.
    git_command("gc", "--quiet", "--aggressive", "--prune=now")
    git_command("repack", "-a", "-d", "-f", "--quiet", "--window=20")
    return b"".join([
        git_command("log", "--stat", "--patch", "--graph", "--find-renames", "side", "--"),
        git_command("fsck", "--full", "--strict"),
        git_command("diff", "main~40", "side", "--"),
        git_command("blame", "side", "--", "3/file3"),
        git_command("cat-file", "--batch-all-objects", "--batch-check"),
        git_command("grep", "-c", "commit 5", "side"),
    ])


PROGRAMS = {"sqlite": sqlite, "git": git, "gcc": compiler_c, "g++": compiler_cxx, "redis": redis,
            "python": python}

# ---- both runs ----------------------------------------------------------------------------------------


def one_run(program, library):
    """What the program has made and how long it took. The folder has the same name both times, because
    programs write it into what they make."""
    folder = Path(tempfile.gettempdir()) / f"gyre_programs_{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    started = time.monotonic()
    try:
        return program(Run(folder, library)), time.monotonic() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compare(name, library):
    """True if both runs made the same."""
    try:
        plain, plain_s = one_run(PROGRAMS[name], None)
        ours, ours_s = one_run(PROGRAMS[name], library)
    except (Failure, subprocess.TimeoutExpired) as failure:
        print(f"{name}: {failure}", flush=True)
        return False
    print(f"{name}: {len(plain)} bytes of output, {'the same' if plain == ours else 'DIFFERENT'}; "
          f"{plain_s:.1f} s plain, {ours_s:.1f} s on the library", flush=True)
    if plain == ours:
        return True
    for a, b in zip(plain.splitlines(), ours.splitlines()):
        if a != b:
            print(f"  plain: {a[:200]!r}\n  ours:  {b[:200]!r}")
            break
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", default="libgyre_malloc.so.0", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *PROGRAMS], metavar="NAME")
    arguments = parser.parse_args()
    library = arguments.library.resolve()
    results = [compare(name, library) for name in arguments.names or PROGRAMS]
    sys.exit(0 if all(results) else 1)


main()
