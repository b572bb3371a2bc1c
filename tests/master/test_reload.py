"""Reading the configuration again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from waiting import until

from alarm_mw.config.load import read
from alarm_mw.config.settings import Loaded, Settings
from alarm_mw.config.sources import Sources
from alarm_mw.master import reload
from alarm_mw.master.link import environ_of_start
from alarm_mw.master.reload import Reloader, needs_restart
from alarm_mw.model.errors import ConfigError, Problem
from alarm_mw.model.types import Where
from alarm_mw.supervisor.plan import Plan

GOOD = 'reload = "auto"\nalarms = {{ {name} = "log:" }}\n'


class House:
    """A configuration file, and what was taken over of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.write("first")
        self.taken: list[Loaded] = []
        self.refuses = False
        self.came: asyncio.Event | None = None
        #: Stands in for what takes over.
        self.instead: Callable[[Loaded], list[str]] | None = None
        _, loaded = read(Sources((str(file),)), {}, 0.0)
        self.reloader = Reloader(loaded, {}, self.take_over)

    def write(self, name: str) -> None:
        self.file.write_text(GOOD.format(name=name))

    def take_over(self, loaded: Loaded) -> list[str]:
        if self.instead is not None:
            return self.instead(loaded)
        if self.refuses:
            raise ConfigError([Problem(Where("here", 1), "no")])
        self.taken.append(loaded)
        return ["a note"]

    def names(self) -> list[str]:
        return [alarm.name for loaded in self.taken for alarm in loaded.settings.alarms]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "a.toml")


def test_a_good_configuration_is_taken_over(house: House) -> None:
    """The answer says what a check says, and what else is to be known; generations are counted."""

    async def twice() -> None:
        house.write("second")
        first, second = await asyncio.gather(house.reloader.reload(), house.reloader.reload())
        expected = {"taken": True, "lines": ["ok: 1 alarm, 0 rules"], "notes": ["a note"], "generation": 1}
        assert first == expected
        assert second == {**expected, "generation": 2}

    asyncio.run(twice())
    assert house.names() == ["second", "second"]


def test_what_is_suspicious_is_in_the_answer(house: House) -> None:
    """A reload warns of the same as a check."""
    house.file.write_text('alarms = { a = "log:", b = "log:" }\n[[rules]]\npattern = "lost"\nalarms = "a"\n')
    warning, summary = asyncio.run(house.reloader.reload())["lines"]
    assert "warning: no rule, route, monitor or escalation fires alarm 'b'" in warning
    assert summary == "ok: 2 alarms, 1 rule, 1 warning"


@pytest.mark.parametrize("text", ["alarms = 3", "[[rules]]\npattern = '('\nalarms = ['a']", "="])
def test_a_bad_configuration_changes_nothing(house: House, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every mistake is in the answer and in the log; what was in force stays so."""
    before = house.reloader.loaded
    house.file.write_text(text)
    answer = asyncio.run(house.reloader.reload())
    assert (answer["taken"], answer["generation"], house.taken) == (False, 0, [])
    assert house.reloader.refused == tuple(answer["lines"])
    assert house.reloader.loaded is before
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR][1:] == answer["lines"]


def test_one_that_cannot_be_taken_over_is_refused(house: House) -> None:
    """Where an action cannot be made after all, the old configuration stays."""
    house.refuses = True
    answer = asyncio.run(house.reloader.reload())
    assert (answer["taken"], answer["lines"]) == (False, ["here:1: no"])


def test_a_plan_without_sources_cannot_be_read_again() -> None:
    """Nothing is taken for an empty configuration that is not known."""
    reloader = Reloader(Loaded(Settings()), {}, lambda _: [])
    assert not asyncio.run(reloader.reload())["taken"]


def test_a_blocked_event_loop_is_no_traceback(house: House) -> None:
    """The answer says what is in the way; when the next one is taken, nothing is refused any more."""

    def blocked(_: Loaded) -> list[str]:
        raise TimeoutError

    house.instead = blocked
    reloader = house.reloader
    answer = asyncio.run(reloader.reload())
    assert (answer["taken"], len(answer["lines"])) == (False, 1)
    assert "blocks the event loop" in answer["lines"][0]
    assert reloader.refused == tuple(answer["lines"])
    house.instead = None
    asyncio.run(reloader.reload())
    assert not reloader.refused


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.01)


def watching(house: House, play: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        watch = asyncio.create_task(house.reloader.watch())
        await play()
        watch.cancel()

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_changed_file_is_read_by_itself(house: House) -> None:
    """A bad one is refused once, until it changes again; what no longer asks for it is not watched."""

    async def play() -> None:
        house.write("second")
        await until(lambda: house.names() == ["second"])
        house.file.write_text("alarms = 3")
        await until(lambda: house.reloader.loaded.generation == 1 and house.reloader.refused)
        house.write("third")
        await until(lambda: house.names() == ["second", "third"])

    watching(house, play)


@pytest.mark.usefixtures("quick")
def test_what_asks_for_it_after_all_is_watched_from_then_on(house: House) -> None:
    """A configuration that was told to be read again may say that from now on it is read by itself."""

    async def play() -> None:
        house.file.write_text('alarms = { second = "log:" }\n')
        await until(lambda: house.names() == ["second"])
        house.write("third")
        await house.reloader.reload()
        house.write("fourth")
        await until(lambda: house.names() == ["second", "third", "fourth"])

    watching(house, play)


def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    """A crash monitor needs what only a start gives; so does a descriptor."""
    file = tmp_path / "a.ini"
    file.write_text("[uwsgi]\nalarm = a log:\nalarm-segfault = a\nalarm-fd = a 9:1 x\n")
    _, loaded = read(Sources(ini_files=(str(file),)), {}, 0.0)
    plan = Plan([], [], "socket", "run")
    assert [line.partition(",")[0] for line in needs_restart(loaded.settings, plan)] == [
        "needs a restart: crashes are not watched",
        "needs a restart: descriptor 9 was not open at the start and is not watched",
    ]
    ready = Plan([], [], "socket", "run", server_env={"PYTHONFAULTHANDLER": "1"}, master_fds=[9])
    assert list(needs_restart(loaded.settings, ready)) == []


def test_the_environment_is_that_of_the_start() -> None:
    """What the supervisor tells its masters is none of the configuration's business."""
    assert environ_of_start({"HOME": "/", "ALARM_MW_FDS": "{}", "ALARM_MW_PLAN_FD": "3"}) == {"HOME": "/"}


@pytest.mark.usefixtures("quick")
def test_one_look_that_fails_is_not_the_last(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody has thought of is logged, and files are looked at all the same later."""
    monkeypatch.setattr(reload, "PAUSE", 0.01)

    def fail(_: Loaded) -> list[str]:
        house.instead = None
        raise RuntimeError("unforeseen")

    async def play() -> None:
        house.instead = fail
        house.write("second")
        await until(lambda: "unforeseen" in caplog.text)
        house.write("third")
        await until(lambda: house.names() == ["third"])

    watching(house, play)
