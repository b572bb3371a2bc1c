"""``alarm-mw top``: the open incidents of running servers, live or once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import click
from rich.cells import cell_len

from alarm_mw.cli.console import console as make_console
from alarm_mw.cli.options import BAD_CONFIG
from alarm_mw.cli.servers import all_running, find, needing_answers, placed
from alarm_mw.cli.top.masters import Masters
from alarm_mw.cli.top.now import BESIDE, Terminal, quiet, rows, verdict

#: The least columns of what is printed once.
MIN_WIDTH = 80

#: Printed where the package is missing that shows it live.
NO_TEXTUAL = "alarm-mw: top needs textual: pip install 'alarm-mw[top]'; `alarm-mw top --once` works without it"

#: Terminals whose font has ASCII at best.
_PLAIN = frozenset({"dumb", "linux", "vt100", "vt102", "vt220"})


@click.command()
@click.option("--once", is_flag=True, help="Print it, and exit.")
@click.option("--all", "is_all", is_flag=True, help="All running servers with a default state directory.")
@click.option("--filter", "wanted", default="", metavar="WORDS", help="Only incidents with all these words.")
@click.option(
    "--unicode/--ascii", "is_unicode", default=None, help="Characters of the terminal. [default: as the locale says]"
)
@placed
def top(  # noqa: PLR0917  # the command line's options
    once: bool, is_all: bool, wanted: str, is_unicode: bool | None, state_dir: str | None, socket_path: str | None
) -> None:
    """Show the open incidents of a running server, the worst first, and act on them.

    Keys: j and k move, Enter opens an incident, a acknowledges it, s silences incidents like it, r retries its
    messages, / filters, ? shows all keys, q leaves. A word of a filter can be a label, as in severity=critical. Needs
    the extra `top`, except for --once. The exit status is 1 if no server answers.
    """
    if is_unicode is None:
        is_unicode = has_unicode(os.environ, sys.stdout.encoding)
    if once:
        _print(_masters(state_dir, socket_path, is_all=is_all), wanted, is_unicode=is_unicode)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("standard input and output must be a terminal; give --once to print the incidents")
    try:
        from alarm_mw.cli.top.app import Top  # noqa: PLC0415  # an extra
    except ImportError:
        click.echo(NO_TEXTUAL, err=True)
        sys.exit(BAD_CONFIG)
    masters = _masters(state_dir, socket_path, is_all=is_all)
    with needing_answers():
        masters.look()
    Top(masters, wanted, is_unicode=is_unicode).run()


def _masters(state_dir: str | None, socket_path: str | None, *, is_all: bool) -> Masters:
    if is_all:
        return Masters(all_running)
    with needing_answers():
        socket_file = find(state_dir, socket_path)
    return Masters(lambda: [socket_file])


def has_unicode(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Return whether a terminal shows more than ASCII: its type can, and the locale says so.

    Python itself sets `LC_CTYPE` to ``C.UTF-8`` where the locale is ``C`` (PEP 538), which says nothing.
    """
    if environ.get("TERM", "") in _PLAIN or (encoding or "").lower().replace("-", "") != "utf8":
        return False
    names = [environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    locale = next(filter(None, names), "").lower().replace("-", "")
    return locale.endswith("utf8") and not (locale == "c.utf8" and not names[0] and names[2] in {"", "C", "POSIX"})


def _print(masters: Masters, wanted: str, *, is_unicode: bool) -> None:
    with needing_answers():
        servers = masters.look()
    if all(server.error for server in servers):
        click.echo(f"alarm-mw: {servers[0].error}", err=True)
        sys.exit(1)
    console = make_console()
    found = rows(servers, wanted)
    longest = max((cell_len(row.incident.message) for row in found), default=0)
    width = min(console.width, max(longest + BESIDE, MIN_WIDTH))
    terminal = Terminal(width, is_unicode, with_names=len(servers) > 1)
    console.print(terminal.text(verdict(servers)), soft_wrap=True)
    now = time.time()
    for row in found:
        console.print(terminal.row(row, now), soft_wrap=True)
    if not found:
        console.print(terminal.text(quiet(servers)), soft_wrap=True)
