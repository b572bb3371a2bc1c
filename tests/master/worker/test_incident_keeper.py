"""Incidents against an independent, naive model: matches, people, marks, absence, reloads, crashes and clocks.

Each example is a row of bytes, two for a step. A step is done by the engine and written by a real outbox, in which a
crash may come at any statement; the model knows no deadlines, no database and no reconciliation: it looks at all of it
every minute.
"""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from alarm_mw.delivery.outbox.clock import LastingClock
from alarm_mw.delivery.outbox.database import Opened, prepare
from alarm_mw.delivery.outbox.entries import Entry, Outcome, Settlement
from alarm_mw.delivery.outbox.limits import OutboxOptions, State
from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.engine import Engine
from alarm_mw.engine.flood_control.silences import Silence
from alarm_mw.engine.incidents.incident import Step
from alarm_mw.engine.incidents.incidents import Incidents
from alarm_mw.engine.incidents.tracker import IncidentRule
from alarm_mw.engine.ledger import imbalances
from alarm_mw.engine.memory import Memory
from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.master.worker import incident_keeper
from alarm_mw.master.worker.incident_keeper import IncidentKeeper
from alarm_mw.model.types import Absence, Firing, Flap, IncidentOptions, InhibitRule, Record, Rule, TimeInterval
from alarm_mw.patterns.prefilter import Prefilter

#: All times are whole minutes: then the model need not look in between.
TICK = 60.0
BEGIN = 1_800_000_000.0 // 86_400 * 86_400

#: Steps of an example, and how many examples there are: 32,000 steps in all, and 6 million in the profile `long`.
STEPS = 100
EXAMPLES = examples(80)

KEYS = "abc"
STEPS_OF_DB = (
    Step("mail", repeat_interval=10 * TICK),
    Step("sms", after=6 * TICK),
    Step("boss", after=20 * TICK, repeat=2, period=15 * TICK),
)
STEPS_OF_OTHERS = (Step("mail"),)
INHIBIT = InhibitRule(('rule="host"',), ('db=~"a|b"',))
MUTE = TimeInterval(times=tuple((hour * 60 + 40, hour * 60 + 50) for hour in range(24)), timezone="UTC")
ABSENT = 15
SILENCES = (('alarm="mail"',), ('rule=~"db.*"',), ('db="a"', 'alarm!="boss"'))


class CrashError(BaseException):
    """The process was killed."""


class Connection(sqlite3.Connection):
    """A database whose process is killed before or after one of its statements."""

    #: How many more statements it takes; None: it lives.
    fuse: int | None = None
    is_after = False

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return self._run(super().execute, arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return self._run(super().executemany, arguments)

    def _run(self, statement: Callable[..., sqlite3.Cursor], arguments: tuple[Any, ...]) -> sqlite3.Cursor:
        if self.fuse is None:
            return statement(*arguments)
        self.fuse -= 1
        if self.fuse >= 0:
            return statement(*arguments)
        self.fuse = None
        if self.is_after:
            statement(*arguments)
        raise CrashError


@dataclass(frozen=True)
class Variant:
    """What the rule ``db`` says."""

    count: int = 1
    resolve_after: int = 0
    keep: int = 0
    flap: Flap | None = None
    max_keys: int = 10
    is_muted: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether the model knows each message: it knows neither flapping nor eviction."""
        return self.flap is None and self.max_keys >= len(KEYS)


VARIANTS = (
    Variant(keep=3, is_muted=True),
    Variant(count=3, resolve_after=12),
    Variant(resolve_after=12, keep=2, is_muted=True),
    Variant(flap=Flap(4, 20 * TICK), max_keys=2, is_muted=True),
)


@dataclass
class Configuration:
    """What a reload changes."""

    name: str = "db"
    has_host: bool = True
    inhibits: bool = True
    steps: tuple[Step, ...] = STEPS_OF_DB


class Clocks:
    """The clocks of the machine."""

    def __init__(self) -> None:
        self.boot = 1000.0
        self.suspended = 0.0
        self.step = BEGIN - self.boot

    def awake(self) -> float:
        return self.boot - self.suspended

    def wall(self) -> float:
        return self.boot + self.step


@dataclass
class Known:
    """What the model knows of an incident."""

    is_firing: bool = False
    fired: float = 0.0
    matches: list[float] = field(default_factory=list)
    #: The last match, in minutes that were observed.
    last: float = 0.0
    ends: float | None = None
    acked_until: float = 0.0
    steps: tuple[Step, ...] = ()
    is_over: bool = False


class Model:
    """What should be, from one minute to the next."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.now = 0.0
        self.blind = 0.0
        #: By rule and key.
        self.known: dict[tuple[str, str], Known] = {("job", ""): Known(), ("host", ""): Known()}

    def of(self, rule: str, key: str) -> Known:
        return self.known.setdefault((rule, key), Known())

    def fire(self, known: Known, steps: tuple[Step, ...]) -> None:
        known.is_firing, known.fired, known.matches, known.acked_until = True, self.now, [], 0.0
        known.steps, known.ends, known.is_over = steps, None, False

    def end(self, known: Known) -> None:
        known.is_firing, known.ends, known.is_over = False, None, True

    def match(self, rule: str, key: str, steps: tuple[Step, ...]) -> None:
        known = self.of(rule, key)
        known.last, known.ends = self.now - self.blind, None
        if rule == "job":
            if known.is_firing:
                self.end(known)
        elif not known.is_firing:
            count = self.variant.count if rule.startswith("db") else 1
            if known.is_over:
                known.matches, known.is_over = [], False
            recent = [time for time in known.matches if self.now - time <= 5 * TICK]
            known.matches = [*recent, self.now]
            if len(known.matches) >= count:
                self.fire(known, steps)

    def resolve(self, rule: str, key: str) -> None:
        known = self.of(rule, key)
        keep = self.variant.keep if rule.startswith("db") else 0
        if not known.is_firing:
            known.matches = []
        elif not keep:
            self.end(known)
        elif known.ends is None:
            known.ends = self.now + keep * TICK

    def tick(self) -> None:
        """Look at everything."""
        for (rule, _), known in self.known.items():
            quiet = self.now - self.blind - known.last
            is_quiet = 0 < self.variant.resolve_after * TICK <= quiet and rule.startswith("db")
            if rule == "job":
                if not known.is_firing and quiet >= ABSENT * TICK:
                    self.fire(known, STEPS_OF_OTHERS)
            elif known.is_firing and (is_quiet or (known.ends is not None and known.ends <= self.now)):
                self.end(known)


class Process:
    """The engine and what it writes, over restarts; and what its alarms receive."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.clocks = Clocks()
        self.configuration = Configuration()
        self.connection = Connection(":memory:", isolation_level=None, check_same_thread=False)
        prepare(self.connection)
        #: Of the messages that were read from the outbox.
        self.last = 0
        self.waiting: list[Entry] = []
        self.is_down = False
        self.received: list[Firing] = []
        self.start()

    def start(self) -> None:
        """Start a process with what is written down."""
        if self.connection.in_transaction:
            sqlite3.Connection.execute(self.connection, "ROLLBACK")
        clocks = self.clocks
        self.outbox = Outbox(Path("/nonexistent/outbox"), opened=Opened(self.connection, has_file=True))
        saved = self.outbox.memory()
        self.memory = Memory() if saved is None else Memory.loads(saved, clocks.awake(), clocks.wall())
        self.keeper = IncidentKeeper(
            self.outbox,
            lambda before: LastingClock(before, clocks.wall, lambda: clocks.boot, "boot", clocks.awake),
        )
        self.engine = self.make()
        self.write(self.keeper.adopt(self.incidents))

    @property
    def incidents(self) -> Incidents:
        assert self.engine.incidents is not None
        return self.engine.incidents

    def make(self) -> Engine:
        """Return an engine with the present configuration."""
        name, variant, clocks = self.configuration.name, self.variant, self.clocks
        alarms = tuple(step.alarm for step in self.configuration.steps)
        tracked = [
            IncidentRule(
                name,
                self.configuration.steps,
                variant.count,
                5 * TICK,
                variant.resolve_after * TICK,
                variant.keep * TICK,
                key=("db",),
                flap=variant.flap,
                max_keys=variant.max_keys,
                mute=(MUTE,) if variant.is_muted else (),
            ),
            IncidentRule("host", STEPS_OF_OTHERS),
            IncidentRule("job", STEPS_OF_OTHERS, absence=Absence(ABSENT * TICK)),
        ]
        if not self.configuration.has_host:
            del tracked[1]
        compiled, prefilter = compiled_rules(name, alarms, self.configuration.has_host)
        engine = Engine(
            compiled,
            prefilter,
            ["mail", "sms", "boss"],
            alarm_freq=0.0,
            alarm_msg_size=512,
            memory=self.memory,
        )
        engine.incidents = Incidents(
            {each.rule.name: each for each in compiled if each.rule.incident is not None},
            tracked,
            alarms=["mail", "sms", "boss"],
            alarm_msg_size=512,
            admit=lambda alarm, rule, labels: engine.admit(alarm, rule, labels, clocks.awake()),
            clock=self.keeper.clock,
            time=clocks.wall,
            inhibit_rules=(INHIBIT,) if self.configuration.inhibits else (),
        )
        return engine

    def write(self, firings: Sequence[Firing]) -> None:
        """Write what has changed, as the worker does, and let the receivers have the messages."""

        def book(firing: Firing, is_new: bool) -> None:
            assert is_new, "two messages have one id"
            column = firing.trigger.incident.column if firing.trigger and firing.trigger.incident else "matched"
            self.outbox.ledger.alarm(firing.alarm, column)
            self.outbox.ledger.alarm(firing.alarm, "fired")

        self.keeper.collect()
        memory = self.memory.dumps(self.clocks.awake(), self.clocks.wall()) if self.memory.is_changed else None
        self.outbox.take(firings, book, memory, self.keeper.write)
        self.keeper.written()

    def deliver(self) -> list[Firing]:
        """Return what the receivers get now."""
        if self.is_down:
            return []
        found = [entry for alarm in ("mail", "sms", "boss") for entry in self.outbox.waiting(alarm, after=0, limit=999)]
        if not found:
            return []
        found.sort(key=lambda entry: entry.seq)
        self.outbox.settle(Settlement(found, Outcome(State.DELIVERED, 1)))
        return [entry.firing for entry in found]

    def see(self, text: str, key: str) -> None:
        verdict = self.engine.evaluate(Record(text.encode(), "logging", self.clocks.wall(), key), self.clocks.awake())
        for held in verdict.held:
            self.outbox.ledger.alarm(held.alarm, "matched")
            self.outbox.ledger.alarm(held.alarm, "held_back", reason=held.reason)
        self.write(verdict.firings)

    def reload(self) -> None:
        self.engine = self.make()
        self.write(self.keeper.adopt(self.incidents))


@functools.cache
def compiled_rules(name: str, alarms: tuple[str, ...], has_host: bool) -> tuple[list[CompiledRule], Prefilter]:
    """Return the rules of a configuration, which are the same in each process."""
    rules = [
        Rule(r"lost (?P<db>\w)", alarms, name=name, incident=IncidentOptions(("db",))),
        Rule(r"back (?P<db>\w)", (), resolves=name),
        Rule("job done", ("mail",), name="job", incident=IncidentOptions(absence=Absence(ABSENT * TICK))),
    ]
    if has_host:
        rules.append(Rule("host down", ("mail",), name="host", incident=IncidentOptions()))
        rules.append(Rule("host up", (), resolves="host"))
    compiled = [compile_rule(rule) for rule in rules]
    return compiled, Prefilter(compiled)


class Play:
    """Does each step to the process and to the model, and compares what the alarms receive with what they should."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.process = Process(variant)
        self.model = Model(variant)
        self.model.now = self.process.keeper.clock()
        self.model.of("job", "").last = self.model.now
        self.silences: list[tuple[int, float, float]] = []
        self.numbers = itertools.count()
        #: By incident and alarm: what it was told last, and when.
        self.told: dict[tuple[str, str, str], tuple[str, float]] = {}
        #: While receivers were down or the outbox was full, and a little longer, messages may be late.
        self.late_until = 0.0
        self.is_full = False

    # What the process is asked to do: again where it was killed

    def do(self, action: Callable[[], object], crash: int) -> bool:
        """Do something, during which the process may be killed: then the next one does it again. Return whether."""
        connection = self.process.connection
        if crash:
            connection.fuse, connection.is_after = (crash - 1) // 2, bool(crash % 2)
        is_killed = False
        try:
            action()
        except CrashError:
            is_killed = True
            self.process.start()
            action()
        connection.fuse = None
        self.check_received()
        return is_killed

    def step(self, kind: int, value: int) -> None:
        """Do what two bytes say."""
        crash, value = ((value >> 3) % 24, value & 7) if kind & 0x80 else (0, value)
        actions = (
            *(self.wait, self.wait, self.lose, self.lose, self.regain, self.change_host, self.work, self.by_hand),
            *(self.silence, self.restart, self.move_clock, self.reload, self.receivers),
            *(self.acknowledge, self.acknowledge, self.wait),
        )
        actions[kind & 0x0F](value, crash)
        self.check_model()

    def see(self, text: str, crash: int) -> None:
        number = f"r{next(self.numbers)}"
        self.do(lambda: self.process.see(text, number), crash)

    def lose(self, value: int, crash: int) -> None:
        configuration = self.process.configuration
        self.see(f"lost {KEYS[value % 3]}", crash)
        self.model.match(configuration.name, KEYS[value % 3], configuration.steps)

    def regain(self, value: int, crash: int) -> None:
        self.see(f"back {KEYS[value % 3]}", crash)
        self.model.resolve(self.process.configuration.name, KEYS[value % 3])

    def change_host(self, value: int, crash: int) -> None:
        self.see(("host down", "host up")[value % 2], crash)
        if self.process.configuration.has_host and value % 2:
            self.model.resolve("host", "")
        elif self.process.configuration.has_host:
            self.model.match("host", "", STEPS_OF_OTHERS)

    def work(self, _: int, crash: int) -> None:
        self.see("job done", crash)
        self.model.match("job", "", STEPS_OF_OTHERS)

    def wait(self, value: int, crash: int) -> None:
        self.advance((1, 2, 3, 5, 7, 11, 16, 25)[value % 8], crash)

    def restart(self, value: int, crash: int) -> None:
        for _ in range(1 + value % 4):
            self.pause((0, 1, 7, 30)[value // 4 % 4], crash)

    def advance(self, ticks: int, crash: int) -> None:
        for number in range(ticks):
            self.process.clocks.boot += TICK
            self.model.now += TICK
            if self.do(self.tick, crash if number == 0 else 0):
                # Since the time was written down last: it is not while nothing is awaited.
                self.model.blind += self.process.keeper.clock.gap
            self.model.tick()

    def tick(self) -> None:
        self.process.write(self.process.keeper.tick())

    def pause(self, ticks: int, crash: int) -> None:
        """Be away for a while: for a restart, or asleep with the machine."""
        self.process.clocks.boot += ticks * TICK
        self.model.now += ticks * TICK
        self.model.blind += ticks * TICK
        self.do(self.process.start, crash)
        self.do(self.tick, 0)
        self.model.tick()

    def move_clock(self, value: int, crash: int) -> None:
        """Set the time of day, or suspend the machine."""
        clocks = self.process.clocks
        if value % 3 == 2:
            clocks.boot += 20 * TICK
            clocks.suspended += 20 * TICK
            self.model.now += 20 * TICK
            self.model.blind += 20 * TICK
        else:
            clocks.step += 45 * TICK * (1 if value % 3 else -1)
        self.process.memory.is_changed = True  # its clock goes by the time of day over restarts
        self.process.write([])
        self.do(self.tick, crash)
        self.model.tick()

    def chosen(self, value: int) -> tuple[tuple[str, str], Known] | None:
        firing = [(name, known) for name, known in sorted(self.model.known.items()) if known.is_firing]
        return firing[value % len(firing)] if firing else None

    def id_of(self, name: tuple[str, str]) -> str:
        for incident in self.process.incidents.tracker:
            if (incident.rule, "".join(value for _, value in incident.key)) == name:
                return incident.id
        return ""

    def by_hand(self, value: int, crash: int) -> None:
        found = self.chosen(value)
        if found is None:
            return
        name, known = found
        self.do(
            lambda: self.process.write(self.process.incidents.resolve_by_hand(self.id_of(name), "kim") or []), crash
        )
        self.model.end(known)
        if name[0] == "job":
            known.last = self.model.now - self.model.blind

    def acknowledge(self, value: int, crash: int) -> None:
        found = self.chosen(value)
        if found is None:
            return
        name, known = found
        seconds = (0.0, 4 * TICK, 40 * TICK)[value // 8 % 3]

        def acknowledging() -> None:
            incidents = self.process.incidents
            if seconds:
                firings = incidents.acknowledge(self.id_of(name), "kim", seconds, "")
            else:
                firings = incidents.unacknowledge(self.id_of(name), "kim")
            self.process.write(firings or [])

        self.do(acknowledging, crash)
        known.acked_until = self.model.now + seconds if seconds else 0.0

    def silence(self, value: int, crash: int) -> None:
        """Silence something now or later, or end all silences of it."""
        which, now = value % 3, self.process.clocks.awake()
        if value // 4 % 3 == 2:

            def changing() -> None:
                for each in self.process.engine.silences():
                    if each.matchers == tuple(sorted(SILENCES[which])) and each.ends > self.process.clocks.awake():
                        self.process.engine.expire_silence(each.id, self.process.clocks.awake())
                self.process.write(self.process.incidents.look_at_held())

            self.do(changing, crash)
            self.silences = [each for each in self.silences if each[0] != which]
            return
        begin = now + (4 * TICK if value // 4 % 3 else 0.0)
        wanted = Silence("", SILENCES[which], begin, begin + 9 * TICK)

        def silencing() -> None:
            self.process.engine.put_silence(wanted, self.process.clocks.awake())
            self.process.write(self.process.incidents.look_at_held())

        self.do(silencing, crash)
        if begin == now:  # it goes on with the one that is active
            self.silences = [each for each in self.silences if each[0] != which or not each[1] <= now < each[2]]
        self.silences.append((which, begin, begin + 9 * TICK))

    def reload(self, value: int, crash: int) -> None:
        configuration = self.process.configuration
        match value % 4:
            case 0:
                for (rule, _), known in self.model.known.items():
                    if rule == configuration.name and known.is_firing:
                        self.model.end(known)
                configuration.name = "db2" if configuration.name == "db" else "db"
            case 1:
                configuration.has_host = not configuration.has_host
                if not configuration.has_host and self.model.of("host", "").is_firing:
                    self.model.end(self.model.of("host", ""))
            case 2:
                configuration.inhibits = not configuration.inhibits
            case _:
                is_short = len(configuration.steps) == 1
                configuration.steps = STEPS_OF_DB if is_short else STEPS_OF_DB[:1]
        self.do(self.process.reload, crash)

    def receivers(self, value: int, crash: int) -> None:
        """Let the receivers fail for a while, or work again; let the outbox be full meanwhile."""
        process = self.process
        if process.is_down:
            self.late_until = self.model.now + 2 * TICK
        process.is_down = not process.is_down
        self.is_full = process.is_down and value % 2 == 1
        process.outbox.limit(OutboxOptions(waiting=2) if self.is_full else OutboxOptions())
        self.do(self.tick, crash)

    # What the alarms receive

    def check_received(self) -> None:
        """Nobody is told an end without a beginning, nor anything that is held back."""
        for firing in self.process.deliver():
            assert firing.trigger is not None
            assert firing.trigger.incident is not None
            notice = firing.trigger.incident
            name = (firing.trigger.name, "".join(notice.key.values()), firing.alarm)
            status, _ = self.told.get(name, ("resolved", 0.0))
            if notice.status == "resolved":
                assert status != "resolved", f"{name} was told that it is over, and not that it began"
            elif notice.status == "reminder":
                assert status != "resolved", f"{name} was reminded of what it was not told"
            self.told[name] = (notice.status, self.model.now)

    def is_silenced(self, alarm: str, rule: str, key: str) -> bool:
        now = self.process.clocks.awake()
        selects = (alarm == "mail", rule.startswith("db"), key == "a" and alarm != "boss")
        return any(selects[which] and begin <= now < end for which, begin, end in self.silences)

    def is_muted(self, rule: str) -> bool:
        minute = self.process.clocks.wall() // 60 % 60
        return self.variant.is_muted and rule.startswith("db") and 40 <= minute < 50

    def is_inhibited(self, rule: str, key: str) -> bool:
        host = self.model.of("host", "")
        return self.process.configuration.inhibits and host.is_firing and rule.startswith("db") and key in "ab"

    def is_held_back(self, name: tuple[str, str], known: Known, alarm: str) -> bool:
        rule, key = name
        is_acked = known.acked_until > self.model.now
        return is_acked or self.is_silenced(alarm, *name) or self.is_inhibited(rule, key) or self.is_muted(rule)

    def check_model(self) -> None:
        """Whoever is to be told was told, and nothing else: by what the model knows at this minute."""
        if not self.variant.is_exact or self.process.is_down or self.model.now < self.late_until:
            return
        for name, known in self.model.known.items():
            for step in known.steps:
                status, time = self.told.get((*name, step.alarm), ("resolved", 0.0))
                where = f"{name} {step.alarm}"
                if not known.is_firing:
                    if not self.is_muted(name[0]):
                        assert status == "resolved", f"{where}: was not told that it is over"
                elif not self.is_held_back(name, known, step.alarm) and self.model.now >= known.fired + step.after:
                    assert status != "resolved", f"{where}: was not told"
                    if step.repeat_interval:
                        assert self.model.now - time < step.repeat_interval, f"{where}: was not reminded"

    def finish(self) -> None:
        """When all is over, each alarm knows that, and the ledger balances."""
        self.process.is_down = False
        self.process.outbox.limit(OutboxOptions())
        self.advance(2, 0)
        for incident in list(self.process.incidents.tracker):
            self.process.write(self.process.incidents.resolve_by_hand(incident.id, "kim") or [])
        for known in self.model.known.values():
            self.model.end(known)
        self.model.of("job", "").last = self.model.now - self.model.blind
        self.advance(12, 0)
        if self.variant.flap is not None:
            self.advance(30, 0)
        late = {name: status for name, (status, _) in self.told.items() if status != "resolved" and name[0] != "job"}
        assert late == {}, "who was told that it began was not told that it is over"
        books = self.process.outbox.ledger.books()
        firing = self.process.keeper.count_firing()
        for rule, row in books["rules"].items():
            row["open"] = firing.get(rule, 0)
        assert imbalances(books, self.process.outbox.count_waiting()) == []


@pytest.fixture(scope="module", autouse=True)
def _every_second() -> Iterator[None]:
    """Write the time down whenever it is looked at: between two steps a minute passes, and no time of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incident_keeper, "LOOK_EVERY", 0.0)
        yield


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.count} {variant.resolve_after}")
@settings(max_examples=EXAMPLES, deadline=None)
@given(script=st.binary(min_size=2 * STEPS, max_size=2 * STEPS))
def test_incidents_do_what_a_naive_model_says(variant: Variant, script: bytes) -> None:
    """Nobody is told that it is over who was not told that it began, and the reverse, whatever happens when."""
    play = Play(variant)
    for kind, value in zip(script[::2], script[1::2], strict=True):
        play.step(kind, value)
    play.finish()
