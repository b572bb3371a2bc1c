"""``alarm-mw replay``: evaluates the rules on logs, and fires nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from typing import IO, cast

import click
import msgspec

from alarm_mw.cli.options import ConfiguredCommand, config_options, settings_or_exit, sources
from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Settings
from alarm_mw.master.streams.lines import count_lines
from alarm_mw.model.printable import printable
from alarm_mw.model.types import Record, Rule, Verdict
from alarm_mw.patterns.prefilter import Hit

#: Bytes that are read at a time: as much as fits into a processor's cache.
BLOCK = 256 * 1024


@click.command(cls=ConfiguredCommand)
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each line that matches.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
def replay(
    toml_files: tuple[str, ...],
    ini_files: tuple[str, ...],
    as_json: bool,
    files: tuple[str, ...],
) -> None:  # click's way
    """Evaluate the rules on logs and show what would have fired; "-" is the standard input.

    Logs compressed by gzip, xz or bzip2 are decompressed; those compressed by zstd too if the package "zstandard" is
    installed.

    All lines count as printed at the same moment, so an alarm's repeated message is held back; give --alarm-freq 0 to
    see every one. Rules on requests match nothing, because a file has only lines; they are named on the standard
    error. Rules that require a level, a logger or other fields match lines in JSON and logfmt.
    """
    settings = settings_or_exit(sources(toml_files, ini_files))
    for rule in settings.rules:
        if wanted := _missing(rule):
            click.echo(f"{rule.where}: this rule matches nothing here: {wanted}", err=True)
    rehearsal = Rehearsal(settings)
    write = sys.stdout.write
    for file in files:
        with click.open_file(file, "rb") as stream:
            try:
                for match in rehearsal.play(decompressed(stream)):
                    write((_as_json(file, match) if as_json else _as_text(file, match)) + "\n")
            except (EOFError, OSError, ValueError, lzma.LZMAError) as error:
                raise click.ClickException(f"{file}: cannot be read: {error}") from error


class Match(msgspec.Struct, frozen=True):
    """A line that matches some rule."""

    #: From 1.
    number: int
    line: bytes
    verdict: Verdict


class Rehearsal:
    """A configuration's engine, with a stopped clock and without actions."""

    def __init__(self, settings: Settings) -> None:
        self._engine = engine_of(settings)

    def play(self, stream: IO[bytes]) -> Iterator[Match]:
        """Yield the lines of a stream that match."""
        passed = 0
        for hits, lines in map(self._look_through, _blocks(stream)):
            for before, hit in hits:
                verdict = self._engine.evaluate(Record(hit.line, "stdout", 0.0, ""), 0.0, hit.rules, hit.certain)
                if verdict.matched:
                    yield Match(passed + before + 1, hit.line, verdict)
            passed += lines

    def _look_through(self, block: bytes) -> tuple[list[tuple[int, Hit]], int]:
        """Return the hits of a block, each with the number of lines before it, and the number of lines."""
        hits, lines, at = [], 0, 0
        for hit in self._engine.prefilter.scan(block):
            lines += count_lines(block[at : hit.start])
            at = hit.start
            hits.append((lines, hit))
        return hits, lines + count_lines(block[at:])


def decompressed(stream: IO[bytes]) -> IO[bytes]:
    """Return a log as text, decompressed if its first bytes say so.

    Raises `ValueError` for a kind of compression that cannot be read here.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
    start = buffered.peek(6)
    for magic, name in _UNREADABLE.items():
        if start.startswith(magic):
            raise ValueError(
                f'compressed by {name}, which is not supported: decompress it, and give "-" to read the standard input'
            )
    for magic, opened in _READERS.items():
        if start.startswith(magic):
            return opened(buffered)
    return buffered


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        raise ValueError("compressed by zstd: pip install zstandard") from None
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True))


def _gzip(stream: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))


#: By the bytes with which a file begins.
_READERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
    b"\x28\xb5\x2f\xfd": _zstd,
}
_UNREADABLE = {
    b"\x1f\x9d": "compress",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
}


def _missing(rule: Rule) -> str:
    """Return why no line of a file can match; empty if one can."""
    if rule.request is not None and not rule.request.access_log:
        return "it requires a request, which only the middleware sees"
    return ""


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
