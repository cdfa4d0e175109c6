# SPDX-License-Identifier: MIT
"""C files as the lints see them: code without comments and strings, and comments with their lines."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_TOKEN = re.compile(
    r"""(?P<block>/\*.*?\*/)
      | (?P<line>//(?:\\\n|[^\n])*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL | re.VERBOSE,
)


class Comment:
    """One comment; adjacent // lines and block comments in adjacent lines count as one."""

    def __init__(self, first, last, text):
        self.first, self.last, self.text = first, last, text


class Source:
    """A file; line numbers start at 1, as in messages.

    code      the text with comments blanked and the contents of strings removed; same line numbers
    comments  in the order they appear
    """

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.name = (
            str(self.path.relative_to(ROOT)) if self.path.is_relative_to(ROOT) else str(path)
        )
        text = self.path.read_text(encoding="utf-8")
        self.raw = text.split("\n")
        self.comments = []
        blanked = _TOKEN.sub(lambda match: self._blank(match, text), text)
        self.code = blanked.split("\n")

    def _blank(self, match, text):
        token = match.group(0)
        if match.lastgroup == "string":
            # Includes are read from the code, so their names stay.
            start = text.rfind("\n", 0, match.start()) + 1
            if re.match(r"\s*#\s*include\b", text[start : match.start()]):
                return token
            return token[0] + token[-1]
        first = text.count("\n", 0, match.start()) + 1
        last = first + token.count("\n")
        self._add_comment(first, last, token)
        return "\n" * token.count("\n") if "\n" in token else " "

    def _add_comment(self, first, last, token):
        previous = self.comments[-1] if self.comments else None
        # A comment that stands alone continues the one in the line above it, if that stands alone too.
        if previous and previous.last == first - 1 and self._alone(previous) and self._starts(first):
            previous.last, previous.text = last, previous.text + "\n" + token
        else:
            self.comments.append(Comment(first, last, token))

    def _starts(self, line):
        return self.raw[line - 1].lstrip().startswith(("/*", "//"))

    def _alone(self, comment):
        return self._starts(comment.first)


def sources(arguments, folders, suffixes=(".c", ".h")):
    """The files named on the command line, or all of `folders`."""
    if arguments:
        return [Source(path) for path in arguments]
    found = []
    for folder in folders:
        found += [p for p in (ROOT / folder).rglob("*") if p.suffix in suffixes and p.is_file()]
    return [Source(path) for path in sorted(found)]


def finish(complaints, what):
    """Prints the complaints, which are (file name, line, text), and ends the lint."""
    for name, line, text in sorted(complaints):
        print(f"{name}:{line}: {text}")
    if complaints:
        print(f"{len(complaints)} {what}")
    sys.exit(1 if complaints else 0)
