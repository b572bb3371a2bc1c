"""Reloads the configuration: a valid one takes effect, an invalid one changes nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

from msgspec import structs

from alarm_mw.config.report import Examined, format_report
from alarm_mw.config.settings import Loaded, Settings, asks_for_deaths
from alarm_mw.config.sources import fingerprint
from alarm_mw.master.runtime.making import unmakable
from alarm_mw.model.errors import ConfigError
from alarm_mw.supervisor.plan import STACKS, Plan

log = logging.getLogger(__name__)


def needs_restart(settings: Settings, plan: Plan) -> Iterator[str]:
    """Yield a sentence for each thing in a configuration that takes effect only when the server is restarted."""
    if asks_for_deaths(settings.monitors) and STACKS not in plan.server_env:
        yield "needs a restart: crashes are not watched, since no monitor asked for that when the server was started"
    for number in sorted(settings.descriptors.difference(plan.master_fds)):
        yield f"needs a restart: descriptor {number} was not open at the start and is not watched"


#: Seconds between looks at whether a file has changed, where ``reload = "auto"`` asks for it.
LOOK_EVERY = 1.0

#: Seconds until the next look after one that has failed.
PAUSE = 60.0

#: Puts a configuration in force and returns what is to be said about that; raises `ConfigError` and changes nothing.
TakeOver = Callable[[Loaded], list[str]]


class Reloaded(TypedDict):
    """The answer to ``alarm-mw reload``."""

    #: Whether the configuration is in force now; else the old one stays.
    taken: bool
    #: What ``alarm-mw check`` would print.
    lines: list[str]
    #: What is to be known beside: what needs a restart, which mules were started again.
    notes: list[str]
    #: How often the configuration has been read again and taken over since the start.
    generation: int


class Reloader:
    """Lives on the event loop; the reading is done in a thread of its own, and one at a time."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], take_over: TakeOver) -> None:
        #: What is in force.
        self.loaded = loaded
        #: Why what was read last is not in force, a line each; empty where it is.
        self.refused: tuple[str, ...] = ()
        self._environ = environ
        self._take_over = take_over
        self._reading = asyncio.Lock()
        self._is_read = asyncio.Event()
        #: What the files were when they were last read, taken over or not.
        self._seen = loaded

    async def reload(self) -> Reloaded:
        """Read the configuration again, with the environment of the start, and return what came of it."""
        async with self._reading:
            try:
                return await asyncio.to_thread(self._reload)
            finally:
                self._is_read.set()

    async def watch(self) -> None:
        """Read it again whenever one of its files has changed, as long as it says ``reload = "auto"``."""
        changed: list[str] = []
        while True:
            await self._until_look()
            try:
                changed = await self._look(changed)
            except Exception:  # it must not be the last look
                log.exception("changed files cannot be read again")
                await asyncio.sleep(PAUSE)

    async def _until_look(self) -> None:
        """Wait until it is time to look; where nobody asks for that, until the configuration was read again."""
        while self.loaded.settings.upkeep.reload != "auto":
            self._is_read.clear()
            await self._is_read.wait()
        await asyncio.sleep(LOOK_EVERY)

    async def _look(self, before: list[str]) -> list[str]:
        """Read changed files again once they were the same at two looks: a file may still be written."""
        changed = await asyncio.to_thread(self._fingerprints)
        if changed and changed == before:
            await self.reload()
            return []
        return changed

    def _fingerprints(self) -> list[str]:
        """Return the changed files with what they are now; none where nothing has changed."""
        return [f"{file} {fingerprint(file)}" for file in self._seen.changed_files()]

    def _reload(self) -> Reloaded:
        # 10 ms and 1 MB, for the first reload
        from alarm_mw.config.lint.suspicions import with_suspicions  # noqa: PLC0415
        from alarm_mw.config.load import read  # noqa: PLC0415

        sources = self.loaded.sources
        if sources is None:
            return self._refused(["it is not known where the configuration was read from"])
        examined, fresh = read(sources, self._environ, time.time(), self.loaded.generation + 1)
        self._seen = fresh
        if not examined.problems:
            examined = with_suspicions(examined, self._environ)
            examined = structs.replace(examined, problems=unmakable(examined.settings))
        if examined.problems:
            return self._refused([*format_report(examined)])
        return self._taken(examined, fresh)

    def _taken(self, examined: Examined, fresh: Loaded) -> Reloaded:
        lines = [*format_report(examined)]
        try:
            notes = self._take_over(fresh)
        except ConfigError as error:
            return self._refused([*map(str, error.problems)])
        except TimeoutError:
            return self._refused(["an action blocks the event loop of the alarms; try again when it has ended"])
        self.loaded, self.refused = fresh, ()
        log.info("the configuration was read again: %s", lines[-1])
        for line in lines[:-1]:
            log.warning("%s", line)
        return {"taken": True, "lines": lines, "notes": notes, "generation": fresh.generation}

    def _refused(self, lines: list[str]) -> Reloaded:
        log.error("the new configuration is refused, the old one stays in force")
        for line in lines:
            log.error("%s", line)
        self.refused = tuple(lines)
        return {"taken": False, "lines": lines, "notes": [], "generation": self.loaded.generation}
