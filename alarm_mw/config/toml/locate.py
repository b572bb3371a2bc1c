"""Finds where each value of a TOML document stands, which `tomllib` does not tell.

The document must be valid: it is only followed, never checked. After TOML 1.0.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from collections.abc import Iterator

import msgspec

from alarm_mw.config.tables.tree import Path

#: Blanks, newlines and comments.
_BETWEEN = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'""")
#: Keys with dots between them, and what may stand around each.
_KEYS = re.compile(rf"(?:[ \t.]*+(?:{_KEY.pattern}))++[ \t]*+")
_PAIR = re.compile(rf"{_KEYS.pattern}=[ \t]*+")
#: Up to two quotes may stand right before the closing three.
_STRING = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}|\'{3}(?:[^']|'{1,2}(?!'))*+'{3,5}'''
    r"""|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+\'""",
    re.DOTALL,
)
#: Numbers, dates and booleans.
_SCALAR = re.compile(r"[^,\]}#\n]*+")


class Place(msgspec.Struct, frozen=True):
    """A line and a column, both from 1, and the index into the text."""

    line: int
    column: int
    index: int


def locate(text: str) -> dict[Path, Place]:
    """Return the place of each value in a valid document: where the value begins.

    For a table it is its header, or the first key that makes it; for ``()`` the start of the document.
    """
    walk = _Walk(text)
    walk.document()
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    places: dict[Path, Place] = {}
    for path, index in walk.found.items():
        line = bisect.bisect_right(starts, index)
        places[path] = Place(line, index - starts[line - 1] + 1, index)
    return places


class _Walk(msgspec.Struct):
    text: str
    index: int = 0
    found: dict[Path, int] = msgspec.field(default_factory=lambda: {(): 0})
    #: How many tables each ``[[array]]`` has so far.
    arrays: dict[Path, int] = msgspec.field(default_factory=dict)

    def document(self) -> None:
        table: Path = ()
        self._skip(_BETWEEN)
        while self.index < len(self.text):
            if self.text[self.index] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BETWEEN)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        """Step over what matches, and return it."""
        match = pattern.match(self.text, self.index)
        assert match is not None
        self.index = match.end()
        return match[0]

    def _header(self) -> Path:
        """Follow ``[table]`` or ``[[array]]`` and return the path of what comes under it."""
        start = self.index
        is_array = self.text.startswith("[[", start)
        self.index += 1 + is_array
        *parents, last = self._keys(_KEYS)
        self.index += 1 + is_array
        path: Path = ()
        for key in parents:
            path = self._inside((*path, key))
            self.found.setdefault(path, start)
        path = (*path, last)
        if is_array:
            self.found.setdefault(path, start)
            self.arrays[path] = self.arrays.get(path, 0) + 1
        path = self._inside(path)
        # A table that was made by an earlier [table.inner] has its own header now.
        self.found[path] = start
        return path

    def _inside(self, path: Path) -> Path:
        """Return the path of the last table of an array of tables, and of any other table itself."""
        return (*path, self.arrays[path] - 1) if path in self.arrays else path

    def _keys(self, pattern: re.Pattern[str]) -> Iterator[str]:
        """Follow ``a."b".c``, and what the pattern has behind it."""
        return map(_unquote, _KEY.findall(self._skip(pattern)))

    def _pair(self, table: Path) -> None:
        """Follow ``key = value``."""
        start = self.index
        *parents, last = self._keys(_PAIR)
        path = table
        for key in parents:
            path = (*path, key)
            self.found.setdefault(path, start)
        self._value((*path, last))

    def _value(self, path: Path) -> None:
        self.found[path] = self.index
        opening = self.text[self.index]
        if opening in "[{":
            self._items(path, is_table=opening == "{")
        elif opening in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _items(self, path: Path, *, is_table: bool) -> None:
        """Follow an array or an inline table."""
        self.index += 1
        count = 0
        self._skip(_BETWEEN)
        while self.text[self.index] not in "]}":
            if is_table:
                self._pair(path)
            else:
                self._value((*path, count))
            count += 1
            self._skip(_BETWEEN)
            if self.text[self.index] == ",":
                self.index += 1
                self._skip(_BETWEEN)
        self.index += 1


def _unquote(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] == '"' else key
