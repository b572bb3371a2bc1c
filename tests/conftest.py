"""What every test gets: a check that it leaves nothing behind; and the services that several folders need."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import resource
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from example_counts import USUAL
from hypothesis import settings
from prosody_server import Prosody, missing
from waiting import LEFTOVER_LIMIT

from alarm_mw import AlarmHandler, shutdown
from alarm_mw.transports import unix

# No deadline: how long an example takes says how busy the machine is. `brief` is for unit tests that run again, with
# other versions; `--hypothesis-profile=long` is for an evening.
settings.register_profile("brief", deadline=None, max_examples=USUAL // 5)
settings.register_profile("short", deadline=None, max_examples=USUAL)
settings.register_profile("long", deadline=None, max_examples=200 * USUAL)
settings.load_profile("short")

# A shell that runs the tests in the background ignores these, and so would everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under `nohup`; a handler is not inherited
    signal.signal(signal.SIGHUP, lambda *_: None)

# What programs that the tests start keep for their next start is not to be found by the next test.
os.environ["XDG_CACHE_HOME"] = os.devnull


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what failed in the last run and passes in this one, of the failed ones alone: it is flaky."""
    if not config.getoption("lf", False):
        return
    failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, ())}
    passed = {report.nodeid for report in terminalreporter.stats.get("passed", ())}
    for name in sorted(passed - failed):
        terminalreporter.write_line(f"FLAKY {name}: failed beside other tests, passes alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, in each process with another of them: none is left alone with it at the end."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = iter([item for item in items if not item.get_closest_marker("slow")])
    left, order = len(items), list[pytest.Item]()
    processes = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    for number in range(processes):  # xdist begins with a part of the list for each
        first = slow[number::processes]
        size = left // (processes - number)
        order += [*first, *itertools.islice(others, max(size - len(first), 0))]
        left -= size
    items[:] = [*order, *others]


def _descriptors() -> dict[str, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[entry] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):  # a thread that has ended
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


def _leftovers(threads: set[threading.Thread], children: set[str], descriptors: dict[str, str]) -> list[str]:
    gc.collect()
    return [
        *(f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads),
        *(f"process {pid}" for pid in _children() - children),
        *(f"descriptor {fd}: {target}" for fd, target in _descriptors().items() if fd not in descriptors),
    ]


@pytest.fixture(autouse=True)
def own_state_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep state apart: a master also delivers what other programs of its user have left, of other tests too."""
    home = Path(tempfile.gettempdir(), f"amw-state-{os.getpid()}-{next(_numbers)}")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    yield
    shutil.rmtree(home, ignore_errors=True)


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a process or a descriptor behind."""
    gc.collect()
    gc.freeze()  # so that only what the test makes is searched at its end: all the rest takes a tenth of a second
    before = set(threading.enumerate()), _children(), _descriptors()
    yield
    deadline = time.monotonic() + LEFTOVER_LIMIT
    pause = threading.Event()
    while found := _leftovers(*before):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(found)}")
        pause.wait(0.01)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Provide a certificate authority that nobody trusts unless told to."""
    return trustme.CA()


@pytest.fixture(scope="session")
def make_prosody(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Prosody]]:
    """Provide a function that makes an XMPP server, not started yet, and stops it at the end."""
    if lacks := missing():
        if "CI" in os.environ:
            pytest.fail(lacks)
        pytest.skip(lacks)

    @contextmanager
    def make(**options: Any) -> Iterator[Prosody]:
        server = Prosody(tmp_path_factory.mktemp("prosody"), authority, **options)
        try:
            yield server
        finally:
            server.stop()

    return make


@pytest.fixture(scope="session")
def prosody(make_prosody: Callable[..., AbstractContextManager[Prosody]]) -> Iterator[Prosody]:
    """Run an XMPP server with accounts, of which ``app`` and ``me`` see each other online."""
    with make_prosody() as server:
        server.register("app", "me", "you", "stranger")
        server.befriend("app", "me")
        server.start()
        yield server


@pytest.fixture
def new_prosody(make_prosody: Callable[..., AbstractContextManager[Prosody]]) -> Iterator[Callable[..., Prosody]]:
    """Provide a function that makes an XMPP server of the test's own, not started yet; it is stopped after the test."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(make_prosody(**options))


@pytest.fixture
def logged() -> Iterator[None]:
    """Put an alarm handler on the logger ``tests``, above those of the tests."""
    log = logging.getLogger("tests")
    handler = AlarmHandler()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)
    shutdown()


@pytest.fixture
def reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between two attempts to reach a master."""
    monkeypatch.setattr(unix, "RECONNECT_PAUSE", 0.0)


@contextmanager
def _full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """No file of this process grows, nor is changed, while the context lasts."""
    return _full_disk
