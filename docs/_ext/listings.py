"""Runs what a page shows, so that it stays true.

``console``
    Every line that begins with ``$`` is run, and must print the lines below it; ``…`` stands for any further lines.
``python``, ``toml``, ``ini``
    Are written to the file that their first line names. Python runs without a warning, a configuration passes
    ``alarm-mw check``; but what a ``console`` listing names is left to that.
``bash``
    Is not run. Its ``alarm-mw`` commands must have the options that are used, and ``make`` the target.

All listings of a page share one folder.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from markdown_it import MarkdownIt

from alarm_mw.cli.main import main

#: Seconds that a command may take.
TIMEOUT = 60.0

_FILE = re.compile(r"[#;] ([\w.-]+\.(?:py|toml|ini))")
_DATE = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}")
_ASSIGNMENT = re.compile(r"\w+=")
_FILES = frozenset({"python", "toml", "ini"})


MAKEFILE = Path(__file__).parents[2] / "Makefile"


class ListingError(AssertionError):
    """A listing is not true."""


@dataclass(frozen=True)
class Listing:
    """A block of code on a page."""

    language: str
    text: str
    #: From 1.
    line: int

    @property
    def file(self) -> str:
        """The file that it is; empty where it names none."""
        found = _FILE.match(self.text)
        return found[1] if found else ""


def listings(page: Path) -> list[Listing]:
    """Return the blocks of code of a Markdown page."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return [
        Listing(token.info.strip(), token.content, token.map[0] + 1 if token.map else 0)
        for token in tokens
        if token.type == "fence"
    ]


def run_page(page: Path, folder: Path) -> int:
    """Run the listings of a page and return how many there were; raise `ListingError` for what is not true."""
    found = listings(page)
    shown = "".join(listing.text for listing in found if listing.language == "console")
    for listing in found:
        try:
            _run(listing, folder, shown)
        except ListingError as error:
            raise ListingError(f"{page.name}:{listing.line}: {error}") from None
    return len(found)


def _run(listing: Listing, folder: Path, shown: str) -> None:
    if listing.language in _FILES:
        if not listing.file:
            raise ListingError("the first line names no file")
        (folder / listing.file).write_text(listing.text, encoding="utf-8")
        (folder / listing.file).chmod(0o644)  # as the usual umask, 022, makes it
        if listing.file not in shown:
            _check(listing, folder)
    elif listing.language == "console":
        for command, output in _commands(listing.text):
            _compare(command, output, folder)
    elif listing.language == "bash":
        for command in listing.text.replace("\\\n", "").splitlines():
            _check_options(command)


def _check(listing: Listing, folder: Path) -> None:
    program = ["python", "-W", "error"] if listing.language == "python" else ["alarm-mw", "check"]
    done = _execute([*program, listing.file], folder)
    if done.returncode:
        raise ListingError(f"{listing.file} ended with {done.returncode}:\n{done.stdout}")


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that it must print."""
    for part in re.split(r"^\$ ", text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        yield command, [line for line in output if line]


def _compare(command: str, expected: list[str], folder: Path) -> None:
    done = _execute(["bash", "-c", command], folder)
    # Standard output and error come by two ways, in no order.
    wanted, got = sorted(map(_dateless, expected)), sorted(map(_dateless, filter(None, done.stdout.splitlines())))
    if "…" in wanted:
        got = [line for line in got if line in wanted] + ["…"]
    if wanted != sorted(got):
        raise ListingError(f"$ {command}\nprinted:\n{done.stdout}")


def _dateless(line: str) -> str:
    return _DATE.sub("DATE", line)


def _execute(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of commands: this Python's own come first, and their state stays in `folder`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Unbuffered, a line may be written in two parts, with one of another process between them.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PATH": path, "XDG_STATE_HOME": str(folder), "COLUMNS": "100"}


def _check_options(line: str) -> None:
    words = [*itertools.dropwhile(_ASSIGNMENT.match, shlex.split(line, comments=True))]
    if words[:1] == ["alarm-mw"]:
        parse(words[1:])
    elif words[:1] == ["make"] and not re.search(rf"^{re.escape(words[1])}:", MAKEFILE.read_text(), re.MULTILINE):
        raise ListingError(f"make has no target {words[1]}")


def parse(arguments: list[str]) -> None:
    """Raise `ListingError` where ``alarm-mw`` has not the command or the options in `arguments`."""
    try:
        name, command, rest = main.resolve_command(click.Context(main), arguments)
        assert command is not None
        context = click.Context(command, info_name=name, **command.context_settings)
        command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        raise ListingError(f"alarm-mw {shlex.join(arguments)}: {error.format_message()}") from None
