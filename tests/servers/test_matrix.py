"""Real servers, one start for each: every alarm arrives once and in order, whatever happens to the workers."""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from matrix_rows import IN_PROCESS, PROGRAMS, SERVERS, Event, Program, Row
from matrix_site import Site

APPS = Path(__file__).parent / "apps"
REPOSITORY = Path(__file__).parents[2]

#: A worker of gunicorn that is told to end while it starts does not hear it, and its arbiter waits for it in vain.
GUNICORN = {"GUNICORN_CMD_ARGS": "--graceful-timeout 10"}

#: As many as have the workers of a row recycled, and its order seen.
REQUESTS = 30


@pytest.fixture
def site(installation: Any, until: Callable[..., None]) -> Iterator[Site]:
    """Provide clients of a server, whose applications lie in its directory."""
    for app in APPS.glob("*.py"):
        (installation.directory / app.name).write_bytes(app.read_bytes())
    path = [str(installation.directory), str(REPOSITORY), sysconfig.get_path("purelib")]
    programs = [str(Path(sys.executable).parent), installation.environ["PATH"]]
    environ = {**installation.environ, "PYTHONPATH": ":".join(path), "PATH": ":".join(programs), **GUNICORN}
    site = Site(installation, until, environ)
    with site.cleanup():
        yield site


def die(site: Site, row: Row) -> None:
    """Kill the server by its worker, and start it again."""
    site.kill_a_worker()
    assert site.wait() == row.death
    site.start_server(row, site.options)


def kill(site: Site) -> None:
    """Kill a worker, and wait for the one that takes its place."""
    site.kill_a_worker()
    site.wait_for_another()


def reload(site: Site, row: Row) -> None:
    """Have all workers replaced, by a signal or a changed file, while clients ask."""
    before = set(site.pids)
    with site.being_asked():
        if Event.RELOAD in row.events:
            site.signal(signal.SIGHUP)
        else:
            (site.installation.directory / "asgi_app.py").touch()
        site.until(lambda: site.pids - before)
        asked = len(site.answered)
        site.until(lambda: len(site.answered) > asked + 20)


def live(site: Site, row: Row) -> None:
    """Let everything happen to a server that its row names."""
    site.start_server(row, site.options)
    site.ask_in_turn(REQUESTS)
    if row.ends_late:
        site.until(site.all_have_ended)
    if Event.DEATH in row.events:
        die(site, row)
    if Event.KILL in row.events:
        kill(site)
    if {Event.RELOAD, Event.CHANGE} & {*row.events}:
        reload(site, row)
    assert site.installation.status()["imbalances"] == []
    site.ask_in_turn(3)
    if row.access:
        # Most servers write them after the answer.
        site.until(lambda: len(site.access_lines(row)) >= len(site.answered))


def all_was_heard(site: Site) -> None:
    """Check, after the end, what came of all that was said: each once, in order, with books that balance."""
    assert site.heard() == Counter(site.expected())
    assert site.is_in_order()
    assert site.printed() == Counter(said for said in site.expected() if said[0] == "print")
    assert site.books()["alarms"]["hook"]["delivered"] == len(site.expected())


@pytest.mark.parametrize("row", SERVERS, ids=lambda row: row.name)
def test_each_alarm_of_a_server_arrives_once(row: Row, site: Site) -> None:
    """By print, logging, structlog and middleware: once, in order, whatever process has ended since it was said."""
    live(site, row)
    assert site.stop() == row.status
    all_was_heard(site)
    assert row.hangs_up or not site.unanswered
    if row.access:
        assert site.access_lines(row) == Counter(map(str, site.answered))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_each_alarm_of_a_program_arrives_once(program: Program, site: Site) -> None:
    """By print, logging and structlog: once, in order, though it kills itself with the last word."""
    site.start_program(program, site.options)
    if program.stays:
        site.until(lambda: len(site.hook.bodies) >= len(site.expected()))
        site.signal(signal.SIGTERM)
    assert site.wait() == program.status
    all_was_heard(site)


@pytest.mark.parametrize("row", IN_PROCESS, ids=lambda row: row.name)
def test_each_alarm_of_a_server_with_a_master_inside_arrives_once(row: Row, site: Site) -> None:
    """After `alarm_mw.init()` and `alarm_mw.capture_stdio()` the same holds, while the process lives."""
    site.environ["IN_PROCESS_HOOK"] = site.hook.url
    site.start_server(row)
    site.ask_in_turn(REQUESTS)
    site.until(lambda: len(site.hook.bodies) >= len(site.expected()))
    site.stop()
    assert site.heard() == Counter(site.expected())
    assert site.is_in_order()
    assert site.printed() == Counter(said for said in site.expected() if said[0] == "print")


def test_each_alarm_of_a_script_with_a_master_inside_arrives_once(site: Site) -> None:
    """A script that ends delivers what it has said."""
    site.environ["IN_PROCESS_HOOK"] = site.hook.url
    site.start_program(PROGRAMS[0])
    assert site.wait() == 0
    assert site.heard() == Counter(site.expected())


PACKAGES = sorted({package for row in (*SERVERS, *PROGRAMS) for package in row.packages})


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_tested_is_what_is_pinned(package: str) -> None:
    """The versions that the documentation names, from `constraints.txt`, are those that these tests ran with."""
    assert f"\n{package}=={version(package)}\n" in (REPOSITORY / "constraints.txt").read_text()


def test_uwsgi_is_the_one_that_is_named() -> None:
    """The documentation names the version of uWSGI that these tests ran with."""
    (row,) = (row for row in SERVERS if row.name == "uWSGI")
    found = subprocess.run(["uwsgi", "--version"], capture_output=True, text=True, check=True).stdout
    assert found.startswith(row.brought_by.removeprefix("Debian's ") + ".")
