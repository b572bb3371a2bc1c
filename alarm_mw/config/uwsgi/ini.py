"""uWSGI's ini files, as uWSGI reads them: unlike `configparser`.

Keys can repeat, only the requested section is read (it can occur several times), ``;`` and ``#`` begin a comment only
at the start of a line, and a key can have no ``=``. After uWSGI 2.0's ``core/ini.c`` and ``core/config.c``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import structs

from alarm_mw.config.parts import Entry
from alarm_mw.config.report import Report
from alarm_mw.config.sources import Budget, TooMuchError, UnreadableError, read_text, split_section
from alarm_mw.config.uwsgi import logic
from alarm_mw.config.uwsgi.expand import expand
from alarm_mw.config.uwsgi.forms import FormError, form_of, parse_form
from alarm_mw.config.uwsgi.magic import MagicLine, Table, file_table, host_table, magic_lines
from alarm_mw.model.types import Where

SECTION = "uwsgi"
_BLANKS = " \t\r"
_COMMENT = ";#"
_INCLUDES = frozenset({"ini", "include", "yaml", "yml", "json"})
_PLACEHOLDERS = frozenset({"set-placeholder", "set-ph", "set"})
#: The keys that only shape the configuration itself.
STRUCTURE = logic.ENDS | _INCLUDES | _PLACEHOLDERS | {"inherit", "else"}


def read_ini(file: str, environ: Mapping[str, str], report: Report) -> list[Entry]:
    """Return the entries of an ini file, in order, with what it includes and all references replaced.

    `file` may end in ``:section``. Mistakes go to `report`, and the rest is still read.
    """
    reader = _Reader(environ, report, host_table())
    name, section = split_section(file)
    try:
        reader.read(name, section or SECTION, Where(name))
        reader.finish()
    except TooMuchError as error:
        report.wrong(error.where, str(error))
        return []
    return expand(reader.entries, environ, report)


def parse(lines: Iterable[MagicLine], file: str, section: str) -> Iterator[Entry]:
    """Yield the entries of one section."""
    current = ""
    for line in lines:
        text = line.text.strip(_BLANKS)
        if text.startswith("["):
            current = text[1:-1]
        elif text and text[0] not in _COMMENT and current == section:
            key, _, value = text.partition("=")
            yield Entry(key.rstrip(_BLANKS), value.strip(_BLANKS), Where(file, line.number), line.source)


#: Maximum depth of includes.
_MAX_DEPTH = 50


class _Reader(msgspec.Struct):
    """Reads a file with its includes. Raises `TooMuchError`."""

    environ: Mapping[str, str]
    report: Report
    table: Table
    entries: list[Entry] = msgspec.field(default_factory=list)
    #: The files being read, outermost first, with their sections.
    open: tuple[tuple[str, str], ...] = ()
    #: What to inherit, each with the files that were open where it was named.
    inherited: list[tuple[tuple[tuple[str, str], ...], Entry]] = msgspec.field(default_factory=list)
    block: Entry | None = None
    #: A key of a block is being added: blocks do not reach into what it includes.
    is_repeating: bool = False
    budget: Budget = msgspec.field(default_factory=Budget)

    def read(self, file: str, section: str, where: Where) -> None:
        """Add the entries of a file; `where` is the place that named it."""
        if (file, section) in self.open:
            self.report.wrong(where, f"{file} includes itself")
            return
        if len(self.open) >= _MAX_DEPTH:
            self.report.wrong(where, f"{file} is included by {_MAX_DEPTH} files, one inside of the other")
            return
        text = self._text(file, where)
        if text is not None:
            self.budget.spend(where, files=1, text=len(text))
            self.open = (*self.open, (file, section))
            self._read_lines(self._magic(text, file, section), file, section, form_of(file, text))
            self.open = self.open[:-1]

    def finish(self) -> None:
        """Add inherited entries, which come last, and warn about a block without an end."""
        if self.block is not None:
            self.report.warn(self.block.where, f"{self.block.key}: the block has no end, so it goes on to the last key")
            self.block = None
        while self.inherited:
            self.open, entry = self.inherited.pop(0)
            self._include(entry)

    def _magic(self, text: str, file: str, section: str) -> list[MagicLine]:
        """Return the lines of a file with their variables replaced, and warn about unknown ones."""
        table = file_table(file, "" if section == SECTION else section, self.table)
        self.table = {**self.table, **{name: value for name, value in table.items() if name.isupper()}}
        grown = sum(text.count(f"%{letter}") * len(value) for letter, value in table.items())
        self.budget.spend(Where(file), text=grown)
        lines = [*magic_lines(text, table)]
        for line in lines:
            if line.removed and line.text.strip(_BLANKS)[:1] not in ("", *_COMMENT):
                gone = ", ".join(repr(name) for name in line.removed)
                advice = "is no magic variable, so uWSGI removes it; write %% for a percent sign"
                self.report.warn(Where(file, line.number), f"{gone} {advice}")
        return lines

    def _read_lines(self, lines: Sequence[MagicLine], file: str, section: str, form: str) -> None:
        try:
            entries = [*(parse_form(lines, file, section, form) if form else parse(lines, file, section))]
        except FormError as error:
            self.report.wrong(Where(file, error.line), str(error))
            return
        for entry in entries:
            self._add(entry)
        if not entries:
            text = f"there is no section [{section}] with keys in it, so nothing was read"
            self.report.doubt(Where(file), text, is_strict=bool(form))

    def _text(self, file: str, where: Where) -> str | None:
        try:
            text = read_text(file)
        except UnreadableError as error:
            is_it = where == Where(file)
            self.report.wrong(where, f"cannot be read: {error}" if is_it else f"cannot read {file}: {error}")
            return None
        if "\0" in text:
            self.report.wrong(Where(file, text[: text.index("\0")].count("\n") + 1), "a NUL byte, expected text")
            return None
        return text.removeprefix("\ufeff")

    def _add(self, entry: Entry) -> None:
        if self.is_repeating:
            self._run(entry)
        elif entry.option in logic.ENDS:
            self.block = None
        elif self.block is not None:
            self._repeat(self.block, entry)
        else:
            self._run(entry)

    def _repeat(self, block: Entry, entry: Entry) -> None:
        """Add a key as many times as its block repeats it."""
        self.is_repeating = True
        try:
            for turn in logic.turns(block, logic.Facts(self.environ, self.entries)):
                size = 0 if turn is None else len(turn) * (1 + entry.value.count("%(_)"))
                self.budget.spend(entry.where, keys=1, text=size)
                self._run(entry if turn is None else structs.replace(entry, value=entry.value.replace("%(_)", turn)))
        except logic.LogicError as error:
            self.report.wrong(block.where, f"{block.key}: {error}")
        self.is_repeating = False

    def _run(self, entry: Entry) -> None:
        if logic.is_block(entry.option):
            self._begin(entry)
        elif entry.option in _INCLUDES:
            self._include(entry)
        elif entry.option == "inherit":
            self.inherited.append((self.open, entry))
        elif entry.option in _PLACEHOLDERS:
            key, _, value = entry.value.partition("=")
            self.entries.append(structs.replace(entry, key=key, value=value))
        elif entry.option == "else":
            self.report.warn(entry.where, "else: uWSGI 2.0 has none, so the block just goes on to its end")
        else:
            self.entries.append(entry)

    def _begin(self, entry: Entry) -> None:
        if self.block is not None:
            self.report.wrong(entry.where, f"{entry.key}: a block inside of a block, which uWSGI refuses")
            return
        self.block = entry

    def _include(self, entry: Entry) -> None:
        name, section = split_section(entry.value)
        name = name or self.open[-1][0]
        if "://" in name:
            self.report.wrong(entry.where, f"{entry.key}: only files can be read here, not {name.partition('://')[0]}:")
        elif entry.option == "include" and name.rpartition(".")[2] not in {"ini", "yaml", "yml", "json"}:
            self.report.warn(entry.where, f"{entry.key}: {name} was not read: only ini, YAML and JSON files are")
        else:
            self.read(name, section or SECTION, entry.where)
