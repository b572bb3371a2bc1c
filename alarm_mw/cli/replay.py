"""``alarm-mw replay``: puts logs to the rules, and fires nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO

import click
import msgspec

from alarm_mw.cli.options import ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Settings
from alarm_mw.master.beside import beside
from alarm_mw.master.streams.lines import count_lines
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Record, Rule, Verdict
from alarm_mw.patterns.prefilter import Hit

#: How much is read at a time, in bytes: what a processor has near at hand.
BLOCK = 256 * 1024


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each line that matches.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def replay(
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    as_json: bool,
    files: tuple[str, ...],
) -> None:  # click's way
    """Put the lines of logs to the rules and show what they would have fired; "-" is the standard input.

    All lines count as printed at one moment, so that an alarm's same message twice in a row is held back; give
    --alarm-freq 0 to see each of them. A rule that asks for what a line of a file does not have, such as a level, is
    named on the standard error: it matches none of them.
    """
    settings = settings_or_exit(sources(toml_files, ini_files))
    for rule in settings.rules:
        if wanted := _missing(rule):
            click.echo(f"{rule.where}: this rule matches nothing here: {wanted}", err=True)
    rehearsal = Rehearsal(settings)
    write = sys.stdout.write
    for file in files:
        with click.open_file(file, "rb") as stream:
            for match in rehearsal.play(stream):
                write((_as_json(file, match) if as_json else _as_text(file, match)) + "\n")


class Match(msgspec.Struct, frozen=True):
    """A line that matches some rule."""

    #: From 1.
    number: int
    line: bytes
    verdict: Verdict


class Rehearsal:
    """A configuration's engine, without a clock and without anything behind it."""

    def __init__(self, settings: Settings) -> None:
        self._engine = engine_of(settings)

    def play(self, stream: IO[bytes]) -> Iterator[Match]:
        """Yield the lines of a stream that match."""
        passed = 0
        for hits, lines in beside(self._look_through, _blocks(stream)):
            for before, hit in hits:
                verdict = self._engine.evaluate(Record(hit.line, "stdout", 0.0, ""), 0.0, hit.rules, hit.certain)
                if verdict.matched:
                    yield Match(passed + before + 1, hit.line, verdict)
            passed += lines

    def _look_through(self, block: bytes) -> tuple[list[tuple[int, Hit]], int]:
        """Return the hits of a block, each with the number of lines before it, and how many lines there are."""
        hits, lines, at = [], 0, 0
        for hit in self._engine.prefilter.scan(block):
            lines += count_lines(block[at : hit.start])
            at = hit.start
            hits.append((lines, hit))
        return hits, lines + count_lines(block[at:])


def _missing(rule: Rule) -> str:
    """Return why no line of a file can match; empty where one can."""
    if rule.request is not None and not rule.request.access_log:
        return "it asks for requests, which only the middleware sees"
    asked = [name for name, value in (("level", rule.level), ("logger", rule.logger)) if value is not None]
    return f"it asks for the {' and the '.join(asked)} of a log record, which a line of a file has not" if asked else ""


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream in blocks of whole lines."""
    while data := stream.read(BLOCK):
        yield data if data.endswith(b"\n") else data + stream.readline()


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
