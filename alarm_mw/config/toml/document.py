"""Configuration in TOML, with ``${VARIABLE}`` of the environment and ``${file:/path}`` in its strings."""

from __future__ import annotations

import bisect
import re
import tomllib
from collections.abc import Iterator, Mapping

import msgspec

from alarm_mw.config.report import Report
from alarm_mw.config.sources import Budget, TooMuchError, UnreadableError, read_bytes
from alarm_mw.config.tables.tree import Origin, Path, Table, name_of
from alarm_mw.model.types import Where

#: Maximum number of parts of a dotted key: each is a table, and reading them takes quadratic time.
_MAX_DEPTH = 100
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DEEP_KEY = rf"(?m)(?:^|[\[{{,])[ \t]*+{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_MAX_DEPTH}}}"

_AT = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"
_UNCLOSED = r"""(?:Illegal|Found invalid) character '\\n'|Unterminated string|Expected ("?'+"?|'"+')"""
_TWICE = r"(?s)Cannot declare .* twice"
_HEADER = r"[ \t]*\[(?!\[)((?:[^\]\[\"'#]|\"(?:[^\"\\]|\\.)*\"|'[^']*')+)\]"
_VARIABLE = r"\$\$\{|\$\{([^}]*)\}?"
_FILE = "file:"
_NO_VARIABLE = "'${' begins no ${VARIABLE}, ${VARIABLE:-default} or ${file:/path}; write $${ for a literal one"
_NAME = r"(?s)([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?"


def read_toml(file: str, environ: Mapping[str, str], report: Report) -> Table | None:
    """Return the outermost table of a file, or None if it cannot be read, which is then in `report`."""
    text = _text(file, report)
    return None if text is None else parse_toml(text, file, environ, report)


def parse_toml(text: str, file: str, environ: Mapping[str, str], report: Report) -> Table | None:
    """Return the outermost table of a document; `file` names it in `report`."""
    if text.count(".") >= _MAX_DEPTH and (deep := re.search(_DEEP_KEY, text)):
        where = Where(file, text.count("\n", 0, deep.start() + 1) + 1)
        report.wrong(where, f"a key of more than {_MAX_DEPTH} parts")
        return None
    try:
        values = tomllib.loads(text)
        places = locate(text.replace("\r\n", "\n"))
    except RecursionError:
        report.wrong(Where(file), "tables or arrays are nested too deeply")
        return None
    except ValueError as error:
        report.wrong(*_syntax_error(str(error), file, text))
        return None
    source = _Source(file, text.replace("\r\n", "\n"), places)
    filler = _Filler(environ, source, report)
    try:
        filled = filler.fill(values, ())
    except TooMuchError as error:
        report.wrong(error.where, str(error))
        return None
    assert isinstance(filled, dict)
    origin = Origin(source.locate, report, source.column, frozenset(filler.filled), frozenset(filler.broken))
    return Table(filled, origin)


def _text(file: str, report: Report) -> str | None:
    try:
        data = read_bytes(file)
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        report.wrong(Where(file, data.count(b"\n", 0, error.start) + 1), "not UTF-8, which TOML must be")
    except UnreadableError as error:
        report.wrong(Where(file), f"cannot be read: {error}")
    return None


def _syntax_error(message: str, file: str, text: str) -> tuple[Where, str]:
    found = re.search(_AT, message)
    if found is None:
        return Where(file), message
    end = Where(file, text.count("\n") + 1)
    where = Where(file, int(found[1]), int(found[2])) if found[1] else end
    said = message[: found.start()]
    return where, _declared_twice(said, where, text) or _of_quotes(said) or said


def _of_quotes(message: str) -> str:
    """Return the message for what goes wrong between quotes; empty for other mistakes."""
    if message == "Unescaped '\\' in a string":
        return f"{message}: write a regexp in single quotes, such as '\\S+', where a backslash needs no other one"
    return "a quote is not closed, and a string ends in its line" if re.fullmatch(_UNCLOSED, message) else ""


def _declared_twice(message: str, where: Where, text: str) -> str:
    """Return the message for a table with two headers, with the place of the first; empty for other mistakes."""
    if re.fullmatch(_TWICE, message) is None:
        return ""
    headers = [
        (line, header[1].strip())
        for line, each in enumerate(text.split("\n"), 1)
        if (header := re.match(_HEADER, each))
    ]
    (_, again), *_ = [found for found in headers if found[0] == where.line] or [(0, "")]
    first = next((line for line, header in headers if _same(header, again)), where.line)
    if not again or first == where.line:
        return ""
    return f"the table [{again}] is given twice, the first time at {Where(where.file, first)}: put their keys into one"


def _same(header: str, other: str) -> bool:
    """Return whether two headers mean one table."""
    return header == other or tomllib.loads(f"[{header}]") == tomllib.loads(f"[{other}]")


class _Source(msgspec.Struct, frozen=True):
    """A document and the places of its values."""

    file: str
    text: str
    places: Mapping[Path, Place]

    def locate(self, path: Path) -> Where:
        """Return the file and line of a value."""
        return Where(self.file, self.places[path].line)

    def column(self, path: Path, text: str) -> int:
        """Return the column at which a string begins, or 0 if it is written differently there."""
        place = self.places[path]
        quotes = 3 if self.text.startswith(("'''", '"""'), place.index) else 1
        stands = "\n" not in text and self.text.startswith(text, place.index + quotes)
        return place.column + quotes if stands else 0


class _Filler(msgspec.Struct, frozen=True):
    """Replaces references to environment variables and files in strings. Raises `TooMuchError`."""

    environ: Mapping[str, str]
    source: _Source
    report: Report
    filled: set[Path] = msgspec.field(default_factory=set)
    broken: set[Path] = msgspec.field(default_factory=set)
    budget: Budget = msgspec.field(default_factory=Budget)

    def fill(self, value: object, path: Path) -> object:
        """Return `value` with the variables in its strings replaced."""
        if isinstance(value, dict):
            return {key: self.fill(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, (*path, index)) for index, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return re.sub(_VARIABLE, lambda match: self._paid(match, path), value)
        return value

    def _paid(self, match: re.Match[str], path: Path) -> str:
        value = self._replace(match, path)
        self.budget.spend(self.source.locate(path), text=len(value))
        return value

    def _replace(self, match: re.Match[str], path: Path) -> str:
        if match[1] is None:
            return "${"
        self.filled.update(path[:length] for length in range(len(path) + 1))
        if match[1].startswith(_FILE) and match[0].endswith("}"):
            return self._read(match[1].removeprefix(_FILE), path)
        name = re.fullmatch(_NAME, match[1])
        if name is None or not match[0].endswith("}"):
            return self._break(path, _NO_VARIABLE)
        value = self.environ.get(name[1])
        if name[2] is not None:
            return value or name[2]
        if value is None:
            return self._break(path, f"the environment variable {name[1]} is not set")
        return value

    def _read(self, file: str, path: Path) -> str:
        """Return the text of a file without its final newline, as secrets are mounted."""
        try:
            text = read_bytes(file).decode()
        except UnreadableError as error:
            return self._break(path, f"${{file:{file}}} cannot be read: {error}")
        except UnicodeDecodeError:
            return self._break(path, f"${{file:{file}}} is not UTF-8, expected text")
        return text.removesuffix("\n").removesuffix("\r")

    def _break(self, path: Path, text: str) -> str:
        self.broken.update(path[:length] for length in range(len(path) + 1))
        self.report.wrong(self.source.locate(path), f"{name_of(path)}: {text}")
        return ""


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
