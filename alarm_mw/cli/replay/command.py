"""The command itself."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import click

from alarm_mw.cli.options import ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.cli.replay.logs import ReadProgress, blocks, files_of
from alarm_mw.cli.replay.rehearsal import Clock, Match, Rehearsal
from alarm_mw.cli.replay.times import read_moment, time_of
from alarm_mw.config.tables.follow import JOURNAL
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Firing, Record, Rule
from alarm_mw.patterns.prefilter import Hit
from alarm_mw.system.compression import DAMAGED, decompressed


class Moment(click.ParamType[float]):
    """A time that a person gives."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds since the epoch."""
        try:
            return read_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--json", "form", flag_value="json", help="Print a JSON object for each line or message.")
@click.option("--by-hour", "form", flag_value="hours", help="Print a table: how many lines or messages in each hour.")
@click.option("--simulate", is_flag=True, help="Print the messages that would have been sent, by the lines' own times.")
@click.option("--since", type=Moment(), help="Ignore lines before this time, such as 03:12, 2026-03-01 or 2h (ago).")
@click.option("--until", type=Moment(), help="Ignore lines from this time on.")
@click.argument("files", nargs=-1, required=True)
def replay(
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    form: str | None,
    files: tuple[str, ...],
    *,
    since: float | None,
    until: float | None,
    simulate: bool,
) -> None:
    """Evaluate the rules on logs and show what would have fired; "-" is the standard input.

    A FILE may be a directory, a pattern such as "logs/*.log", or "journal:UNIT[,UNIT]" for the journal ("*" is all
    of it). Logs compressed by gzip, xz or bzip2 are decompressed; those compressed by zstd too if the package
    "zstandard" is installed.

    Without --simulate, all lines count as printed at the same moment, so an alarm's repeated message is held back; give
    --alarm-freq 0 to see every one. With it, flood control and incidents follow the times in the lines, and what you
    see is what would have been sent: messages, reminders, escalations, ends of incidents and digests.

    Rules on requests match nothing, because a file has only lines; they are named on the standard error. Rules that
    require a level, a logger or other fields match lines in JSON and logfmt. --since and --until ignore lines without
    a time unless a line before them had one.
    """
    settings = settings_or_exit(sources(toml_files, ini_files))
    for rule in settings.rules:
        if wanted := _missing(rule):
            click.echo(f"{rule.where}: this rule matches nothing here: {wanted}", err=True)
    try:
        names = files_of(files)
    except FileNotFoundError as error:
        raise click.UsageError(str(error)) from error
    clock = Clock() if simulate else None
    reads_times = simulate or form == "hours"
    rehearsal = Rehearsal(settings, clock)
    reader = Reader(names, rehearsal, since, until, reads_times=reads_times, waits_for_time=simulate)
    show = Simulated(form) if simulate else Matches(form)
    for file, moment, number, found in reader:
        for shown in show.line(file, moment, number, found, reader.rehearsal):
            reader.progress.clear()
            sys.stdout.write(shown + "\n")
    for shown in show.end(reader.rehearsal):
        sys.stdout.write(shown + "\n")
    show.summarize(reader)


#: File, time, number from 1, and line; of a journal, record.
Found = tuple[str, float | None, int, Hit | Record]

#: How many matching lines wait for the first line that has a time.
MOST_WAITING = 100_000


class Reader:
    """Reads logs one after the other, and gives the lines in which some rule may match, each with its time."""

    def __init__(
        self,
        files: list[str],
        rehearsal: Rehearsal,
        since: float | None,
        until: float | None,
        *,
        reads_times: bool,
        waits_for_time: bool = False,
    ) -> None:
        self._waits_for_time = waits_for_time
        self.rehearsal = rehearsal
        self.without_time = 0
        self._since, self._until = since, until
        self._reads_times = reads_times or since is not None or until is not None
        self._files = sorted(files, key=_first_time) if reads_times and "-" not in files else files
        self._sizes = {file: Path(file).stat().st_size for file in files if _is_file(file)}
        self.progress = ReadProgress(sum(self._sizes.values()) if all(map(_is_file, files)) else 0)
        self._done = 0

    def __iter__(self) -> Iterator[Found]:
        """Yield what was found; with `waits_for_time`, what comes before the first time has that time."""
        waiting: list[Found] = []
        is_waiting = self._waits_for_time
        for found in self._read():
            is_waiting = is_waiting and found[1] is None and len(waiting) < MOST_WAITING
            if is_waiting:
                waiting.append(found)
                continue
            yield from ((file, found[1], number, line) for file, _, number, line in waiting)
            waiting.clear()
            yield found
        yield from waiting

    def _read(self) -> Iterator[Found]:
        size = 0
        for file in self._files:
            self._done, size = self._done + size, self._sizes.get(file, 0)
            read = self._entries(file) if file.startswith(JOURNAL) else self._lines(file)
            try:
                for moment, number, found in read:
                    yield file, moment, number, found
            except DAMAGED as error:
                self.progress.clear()
                raise click.ClickException(f"{file}: cannot be read: {error}") from error
        self.progress.clear()

    def _lines(self, file: str) -> Iterator[tuple[float | None, int, Hit]]:
        last = None
        with click.open_file(file, "rb") as raw:
            for number, hit in self.rehearsal.play(self._followed(blocks(decompressed(raw)), raw.tell)):
                if self._reads_times:
                    last = time_of(hit.line) or last
                    self.without_time += last is None
                    if not self._is_wanted(last):
                        continue
                yield last, number, hit

    def _entries(self, name: str) -> Iterator[tuple[float, int, Record]]:
        from alarm_mw.cli.replay.journals import entries  # noqa: PLC0415  # a start without a journal is 4 ms faster
        from alarm_mw.master.follow.entries import record_of  # noqa: PLC0415  # as above

        for number, entry in enumerate(entries(name, self._since, self._until), 1):
            yield entry.seconds, number, record_of(entry)

    def _followed(self, read: Iterator[bytes], tell: Callable[[], int]) -> Iterator[bytes]:
        """Yield the blocks, and show how far that is."""
        for block in read:
            yield block
            self.progress(self._done + _position(tell))

    def _is_wanted(self, moment: float | None) -> bool:
        if self._since is None and self._until is None:
            return True
        if moment is None:
            return False
        return (self._since is None or moment >= self._since) and (self._until is None or moment < self._until)


def _position(tell: Callable[[], int]) -> int:
    try:
        return tell()
    except (OSError, ValueError):  # a pipe, or closed by what decompresses it
        return 0


def _is_file(name: str) -> bool:
    return name != "-" and not name.startswith(JOURNAL)


def _first_time(file: str) -> float:
    """Return the time of the first line of a log that has one; logs without any come first."""
    if file.startswith(JOURNAL):
        from alarm_mw.cli.replay.journals import first_time  # noqa: PLC0415  # see `Reader`

        try:
            return first_time(file)
        except (OSError, ValueError):  # reported when it is read
            return 0.0
    with Path(file).open("rb") as raw:
        try:
            for line in next(blocks(decompressed(raw)), b"").splitlines():
                if moment := time_of(line):
                    return moment
        except DAMAGED:  # reported when it is read
            pass
    return 0.0


class Matches:
    """Shows the lines that match."""

    def __init__(self, form: str | None) -> None:
        self._form = form
        self._has_matches = False
        self._hours: Counter[tuple[str, str]] = Counter()

    def line(
        self, file: str, moment: float | None, number: int, found: Hit | Record, rehearsal: Rehearsal
    ) -> Iterator[str]:
        """Yield what is printed of a line in which a rule may match, or of a record."""
        match = rehearsal.evaluate(number, found)
        if match is None or not match.verdict.matched:
            return
        self._has_matches = True
        if self._form == "hours":
            self._hours.update((_hour(moment), alarm) for alarm in match.verdict.matched)
        else:
            yield _as_json(file, match) if self._form == "json" else _as_text(file, match)

    def end(self, rehearsal: Rehearsal) -> Iterator[str]:  # noqa: ARG002  # as `Simulated` has it
        """Yield what is printed at the end."""
        if self._form == "hours":
            yield from _table(("hour", "alarm", "lines"), self._hours)

    def summarize(self, reader: Reader) -> None:
        """Say on the standard error that nothing matches, and what was left out."""
        if not self._has_matches:
            click.echo("0 lines match", err=True)
        if reader.without_time and self._form == "hours":
            click.echo(_without_time(reader.without_time), err=True)


class Simulated:
    """Shows the messages that would have been sent."""

    def __init__(self, form: str | None) -> None:
        self._form = form
        self._matches = 0
        self._sent: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._hours: Counter[tuple[str, str]] = Counter()

    def line(
        self,
        file: str,  # noqa: ARG002
        moment: float | None,
        number: int,
        found: Hit | Record,
        rehearsal: Rehearsal,
    ) -> Iterator[str]:
        """Yield the messages until a line, and those of the line."""
        if moment is not None:
            for firing in rehearsal.advance(moment):
                yield from self._message(firing)
        match = rehearsal.evaluate(number, found)
        if match is None:
            return
        self._matches += bool(match.verdict.matched)
        self._held.update(str(held.reason) for held in match.verdict.held)
        for firing in match.verdict.firings:
            yield from self._message(firing)

    def end(self, rehearsal: Rehearsal) -> Iterator[str]:
        """Yield the messages after the last line."""
        for firing in rehearsal.end():
            yield from self._message(firing)
        if self._form == "hours":
            yield from _table(("hour", "alarm", "messages"), self._hours)

    def summarize(self, reader: Reader) -> None:
        """Say on the standard error how many messages it were, and why not more."""
        statuses = [_count(self._sent[name], name) for name in _STATUSES if self._sent[name]]
        parts = [_count(self._matches, "match"), _count(self._sent.total(), "message"), *statuses]
        if open_ones := reader.rehearsal.firing_incidents():
            parts.append(f"{_count(open_ones, 'incident')} still firing at the end")
        click.echo(", ".join(parts), err=True)
        if self._held:
            held = ", ".join(f"{number:,} {reason}" for reason, number in self._held.most_common())
            click.echo(f"held back: {held}", err=True)
        if reader.without_time:
            text = "counted at the time of the line before, or of the first line with a time"
            click.echo(f"{_without_time(reader.without_time)}: {text}", err=True)

    def _message(self, firing: Firing) -> Iterator[str]:
        status = _status(firing)
        self._sent[status] += 1
        if self._form == "hours":
            self._hours[_hour(firing.time), firing.alarm] += 1
        elif self._form == "json":
            yield json.dumps(
                {
                    "time": firing.time,
                    "alarm": firing.alarm,
                    "status": status,
                    "rule": firing.rule,
                    "text": firing.message.decode("utf-8", "surrogateescape").rstrip("\n"),
                }
            )
        else:
            first = firing.message.split(b"\n", 1)[0]
            when = (
                datetime.fromtimestamp(firing.time).astimezone().strftime("%Y-%m-%d %H:%M:%S") if firing.time else "-"
            )
            yield f"{when} [{firing.alarm}] {status}: {printable(first)}"


#: What is counted of messages beside their number.
_STATUSES = ("reminder", "escalated", "resolved", "digest")
_NOUNS = {"match": "matches", "escalated": "escalations", "resolved": "ends of incidents"}


def _status(firing: Firing) -> str:
    notice = None if firing.trigger is None else firing.trigger.incident
    if notice is not None:
        return notice.status
    return "digest" if firing.is_digest else "firing"


def _count(number: int, noun: str) -> str:
    singular = {"escalated": "escalation", "resolved": "end of an incident"}.get(noun, noun)
    return f"{number:,} {singular if number == 1 else _NOUNS.get(noun, noun + 's')}"


def _without_time(number: int) -> str:
    return f"{_count(number, 'line')} without a time"


def _hour(moment: float | None) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:00") if moment else "-"


def _table(heads: tuple[str, str, str], counts: Counter[tuple[str, str]]) -> Iterator[str]:
    """Yield the rows of a table by hour and alarm."""
    rows = [heads, *((hour, alarm, f"{number:,}") for (hour, alarm), number in sorted(counts.items()))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for hour, alarm, number in rows:
        yield f"{hour:<{widths[0]}}  {alarm:<{widths[1]}}  {number:>{widths[2]}}"


def _missing(rule: Rule) -> str:
    """Return why no line of a file can match; empty if one can."""
    if rule.request is not None and not rule.request.access_log:
        return "it requires a request, which only the middleware sees"
    return ""


def _as_json(file: str, match: Match) -> str:
    verdict = match.verdict
    return json.dumps(
        {
            "file": file,
            "line": match.number,
            "text": match.line.removesuffix(b"\n").decode("utf-8", "surrogateescape"),
            "matched": verdict.matched,
            "fired": [firing.alarm for firing in verdict.firings],
            "held": {held.alarm: held.reason for held in verdict.held},
        }
    )


def _as_text(file: str, match: Match) -> str:
    held = {held.alarm: held.reason for held in match.verdict.held}
    alarms = ", ".join(f"{name} ({held[name]})" if name in held else name for name in match.verdict.matched)
    text = printable(match.line.removesuffix(b"\n"))
    return f"{file}:{match.number}: [{alarms}] {text}"
