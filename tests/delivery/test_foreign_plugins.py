"""Plugins of third parties that misbehave in every way, found by a real entry point and run by a real master."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from alarm_mw import actions
from alarm_mw.cli.main import main
from alarm_mw.config.load import examine
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.engine.ledger import AlarmRow, imbalances
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.interfaces import Action
from alarm_mw.model.types import Record
from alarm_mw.testing import Recorder

#: A module of a third party; `{body}` is what is wrong with it.
PLUGIN = """
import asyncio, sys, threading, time, _thread
from alarm_mw.interfaces import PluginOptions, SECRET
from typing import Annotated
class RogueOptions(PluginOptions, frozen=True, kw_only=True):
    token: Annotated[str, SECRET] = ""
release = threading.Event()
calls = []
class Rogue:
    Options = RogueOptions
    concurrency = 1
    def __init__(self, options, context):
        self.options = options
    @classmethod
    def from_uwsgi(cls, args):
        return RogueOptions(token=args)
    async def __aenter__(self):
        return self
    async def __aexit__(self, *exc):
        pass
    async def deliver(self, firing):
        calls.append(firing)
{body}
"""

CONFIG = """
[alarms.rogue]
action = "rogue"
token = "hunter2"
limits = {{ repeat_after = 0 }}
[alarms.rogue.delivery]
attempt_timeout = {attempt_timeout}
backoff_first = 0.001
backoff_max = 0.002
give_up_after = {give_up_after}
[alarms.good]
action = "recording"
limits = {{ repeat_after = 0 }}
[[rules]]
pattern = "ERR"
alarms = ["rogue", "good"]
"""

#: The time limit, in seconds, of what never comes back.
SOON = 0.25

_numbers = itertools.count()


class Site:
    """A directory on the path with the plugin's package in it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self.recorder = Recorder()

    def install(self, body: str) -> None:
        metadata = self.directory / "rogue-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[alarm_mw.actions]\nrogue = rogue_plugin:Rogue\n")
        (self.directory / "rogue_plugin.py").write_text(PLUGIN.format(body=body))
        self._monkeypatch.syspath_prepend(str(self.directory))
        self._monkeypatch.delitem(sys.modules, "rogue_plugin", raising=False)

    def find(self, name: str) -> type[Action]:
        return self.recorder.find(name) if name == "recording" else actions.find(name)

    def settings(self, give_up_after: float = 0.0, attempt_timeout: float = 30.0) -> Settings:
        file = self.directory / "alarms.toml"
        file.write_text(CONFIG.format(give_up_after=give_up_after, attempt_timeout=attempt_timeout))
        examined = examine(Sources((str(file),)), {}, find_action=self.find)
        assert examined.problems == ()
        return examined.settings

    @contextmanager
    def running(self, settings: Settings) -> Iterator[Runtime]:
        runtime = Runtime(settings, write_log=lambda _: None, find_action=self.find)
        runtime.start()
        try:
            yield runtime
        finally:
            if plugin := sys.modules.get("rogue_plugin"):
                plugin.release.set()
            runtime.stop(0.5)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def send(runtime: Runtime, count: int) -> None:
    records = [Record(b"ERR %d\n" % n, "stdout", 1.0, f"k{next(_numbers)}") for n in range(count)]
    runtime.worker.submit(Batch([Item(record) for record in records]))


def row(runtime: Runtime) -> AlarmRow:
    """Return what became of the plugin's firings, once there is one."""
    wait_for(lambda: "rogue" in runtime.outbox.ledger.books()["alarms"])
    return runtime.outbox.ledger.books()["alarms"]["rogue"]


def wait_for(what: Callable[[], object], timeout: float = 60.0) -> None:
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause.wait(0.005)


RAISES = {
    "an error": "        raise ZeroDivisionError",
    "SystemExit": "        sys.exit(3)",
    "KeyboardInterrupt": "        raise KeyboardInterrupt",
    "CancelledError": "        raise asyncio.CancelledError",
    "StopIteration": "        raise StopIteration",
    "GeneratorExit": "        raise GeneratorExit",
}
RAISING = [
    *(
        pytest.param(f"    async def deliver(self, firing):\n{body}", id=f"{name}, async")
        for name, body in RAISES.items()
    ),
    *(
        pytest.param(f"    def deliver(self, firing):\n{body}", id=f"{name}, in a thread")
        for name, body in RAISES.items()
    ),
    pytest.param("    def deliver(self, firing):\n        _thread.exit()", id="ends its thread"),
    pytest.param("    deliver = None", id="is not callable"),
    pytest.param("    def deliver(self):\n        pass", id="takes no firing"),
]


@pytest.mark.parametrize("body", RAISING)
def test_whatever_it_raises_only_its_own_firings_die(body: str, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that raises loses its own firings, which are counted; all others are delivered, the books balance."""
    site.install(body)
    with site.running(site.settings()) as runtime:
        send(runtime, 20)
        site.recorder.wait_for(20)
        wait_for(lambda: sum(row(runtime)["dead"].values()) == 20)
        with runtime.outbox.still():
            assert imbalances(*runtime.books()) == []
    assert "unexpected exception in action" in caplog.text


HANGING = [
    pytest.param("    async def deliver(self, firing):\n        await asyncio.Event().wait()", id="waits for ever"),
    pytest.param("    async def deliver(self, firing):\n        release.wait()", id="blocks in a coroutine"),
    pytest.param("    def deliver(self, firing):\n        release.wait()", id="blocks in a thread"),
    pytest.param(
        "    async def deliver(self, firing):\n"
        "        while not release.is_set():\n"
        "            try: await asyncio.sleep(0.01)\n"
        "            except asyncio.CancelledError: pass",
        id="will not be cancelled",
    ),
]


@pytest.mark.parametrize("body", HANGING)
def test_however_it_hangs_only_its_own_lane_waits(body: str, site: Site) -> None:
    """A plugin that never comes back holds nobody else up, and cannot gather more and more threads."""
    site.install(body)
    with site.running(site.settings(attempt_timeout=SOON)) as runtime:
        before = threading.active_count()
        send(runtime, 8)
        site.recorder.wait_for(8)
        wait_for(lambda: sum(row(runtime)["dead"].values()) >= 2)
        send(runtime, 100)
        site.recorder.wait_for(108)
        assert threading.active_count() <= before + 8
        with runtime.outbox.still():
            assert imbalances(*runtime.books()) == []


def test_a_plugin_that_recovers_is_used_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Once its abandoned calls have come back, what waited is delivered."""
    site.install(
        "    def deliver(self, firing):\n        calls.append(firing)\n        if not release.is_set(): release.wait()"
    )
    with site.running(site.settings(give_up_after=3600.0, attempt_timeout=SOON)) as runtime:
        send(runtime, 1)
        plugin = sys.modules["rogue_plugin"]
        wait_for(lambda: "4 earlier calls have not come back" in caplog.text)
        assert len(plugin.calls) == 4
        plugin.release.set()
        wait_for(lambda: row(runtime)["delivered"] == 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("    async def deliver(self, firing):\n        return False", id="a value"),
        pytest.param("    def deliver(self, firing):\n        return b'ok'", id="a value from a thread"),
    ],
)
def test_what_it_returns_means_nothing_and_is_told_once(
    body: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """To return is to have delivered; a value that may mean something else is named in the log."""
    site.install(body)
    with site.running(site.settings(give_up_after=60.0)) as runtime:
        send(runtime, 5)
        wait_for(lambda: row(runtime)["delivered"] == 5)
    assert caplog.text.count("expected None") == 1


def test_a_plain_function_may_return_what_is_to_be_awaited(site: Site) -> None:
    """`deliver` without `async` that gives back a coroutine is delivered when that has run."""
    site.install(
        "    def deliver(self, firing):\n        return self._send(firing)\n"
        "    async def _send(self, firing):\n        calls.append(firing)"
    )
    with site.running(site.settings()) as runtime:
        send(runtime, 3)
        wait_for(lambda: row(runtime)["delivered"] == 3)
        assert len(sys.modules["rogue_plugin"].calls) == 3


def test_its_own_timeout_is_tried_again(site: Site) -> None:
    """TimeoutError is the one that needs no wrapping: a plugin's own time limit is no mistake."""
    site.install(
        "    async def deliver(self, firing):\n"
        "        calls.append(firing)\n"
        "        if len(calls) == 1: raise TimeoutError"
    )
    with site.running(site.settings(give_up_after=3600.0)) as runtime:
        send(runtime, 1)
        wait_for(lambda: row(runtime)["delivered"] == 1)
        assert len(sys.modules["rogue_plugin"].calls) == 2


OPENING = [
    pytest.param("raise ZeroDivisionError", id="raises"),
    pytest.param("sys.exit(1)", id="exits"),
    pytest.param("await asyncio.Event().wait()", id="waits for ever"),
    pytest.param("release.wait()", id="blocks"),
]


@pytest.mark.parametrize("line", OPENING)
def test_a_plugin_that_cannot_be_opened_keeps_its_firings(
    line: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails or hangs in `__aenter__` is told, delays only its own alarm, and loses nothing."""
    site.install(f"    async def __aenter__(self):\n        {line}\n        return self")
    with site.running(site.settings(attempt_timeout=SOON)) as runtime:
        send(runtime, 10)
        site.recorder.wait_for(10)
        wait_for(lambda: "its lane failed and is started again" in caplog.text)
        assert row(runtime)["waiting"] == 10


def test_a_task_of_its_own_cannot_end_the_loop(site: Site) -> None:
    """SystemExit in a task that a plugin started on the side ends nothing."""
    site.install("    async def deliver(self, firing):\n        asyncio.get_running_loop().call_soon(sys.exit)\n")
    with site.running(site.settings()) as runtime:
        send(runtime, 10)
        site.recorder.wait_for(10)
        wait_for(lambda: row(runtime)["delivered"] == 10)


def test_a_plugin_that_cannot_be_made_is_an_error_at_the_start(site: Site) -> None:
    """The error names place, alarm, plugin and cause, and no secret."""
    site.install("    def __init__(self, options, context):\n        raise RuntimeError('bad ' + options.token)")
    settings = site.settings()
    with pytest.raises(ConfigError) as caught:
        Runtime(settings, write_log=lambda _: None, find_action=site.find)
    assert unmakable(settings, site.find) == caught.value.problems
    assert str(caught.value) == (
        f"{site.directory / 'alarms.toml'}:2: alarm 'rogue': the alarm plugin 'rogue' cannot be used: "
        "RuntimeError: bad ********"
    )


def test_check_and_run_tell_it_before_the_server_starts(site: Site) -> None:
    """`alarm-mw check` makes every action once, and `alarm-mw run` starts nothing."""
    site.install("    def __init__(self, options, context):\n        raise RuntimeError('no modem')")
    file = site.directory / "alarms.toml"
    file.write_text('[alarms.rogue]\naction = "rogue"\n')
    expected = f"{file}:1: alarm 'rogue': the alarm plugin 'rogue' cannot be used: RuntimeError: no modem"
    checked = CliRunner().invoke(main, ["check", str(file)])
    assert (checked.exit_code, checked.output.splitlines()) == (2, [expected, "1 problem"])
    started = CliRunner().invoke(main, ["run", "--config", str(file), "--", "touch", str(site.directory / "started")])
    assert (started.exit_code, started.output.splitlines()) == (2, [expected])
    assert not (site.directory / "started").exists()


@pytest.mark.parametrize("line", ["1 / 0", "sys.exit(1)", "def"])
def test_a_module_that_cannot_be_imported_is_an_error_at_the_start(line: str, site: Site) -> None:
    """Whatever an import does, the configuration's error names the plugin."""
    site.install(line)
    with pytest.raises(AssertionError, match="'rogue' cannot be loaded from rogue_plugin:Rogue"):
        site.settings()
