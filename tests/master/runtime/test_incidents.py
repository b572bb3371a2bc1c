"""Incidents in a runtime: from lines to messages, over restarts, reloads and kills of the process."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs
from waiting import wait_until

from alarm_mw.config.settings import Alarm, Notify, Settings, Watch
from alarm_mw.config.tables.web import WebOptions
from alarm_mw.delivery.outbox import incident_rows, outbox
from alarm_mw.delivery.outbox.clock import LastingClock, Reading
from alarm_mw.delivery.outbox.limits import OutboxOptions
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.incidents import incidents
from alarm_mw.engine.incidents.measures.heartbeat import Beat
from alarm_mw.engine.ledger import imbalances
from alarm_mw.master.control.incidents import IncidentOrder, carry_out, shown_as_json
from alarm_mw.master.control.silences import SilenceOrder, expire, put
from alarm_mw.master.control.status import Status
from alarm_mw.master.control.web_master import web_master
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.model.errors import ActionError
from alarm_mw.model.measures import Spike
from alarm_mw.model.types import Absence, Firing, Flap, IncidentOptions, InhibitRule, Record, Rule
from alarm_mw.monitors.heartbeat import HeartbeatOptions
from alarm_mw.testing import Recorder
from alarm_mw.testing.recorder import NoOptions
from alarm_mw.web.api.operation import Call, Nothing
from alarm_mw.web.api.v1.handlers import get_history, list_incidents
from alarm_mw.web.api.v1.schema import EventsWanted, IncidentsWanted
from alarm_mw.web.security.identity import Identity, Role
from alarm_mw.web.site import Site
from alarm_mw.web.store import Store

_numbers = itertools.count()

DB = Rule(r"lost (?P<db>\S+)", ("a",), name="db", labels=(("severity", "critical"),), incident=IncidentOptions(("db",)))
BACK = Rule(r"back (?P<db>\S+)", (), resolves="db")


def alarm(name: str, notify: Notify = Notify()) -> Alarm:  # noqa: B008  # frozen
    return Alarm(name, "recording", NoOptions(), DeliveryPolicy(backoff_first=0.001), notify=notify)


def settings(options: IncidentOptions | None = None, *, names: str = "a", notify: Notify = Notify()) -> Settings:  # noqa: B008  # frozen
    rule = DB if options is None else structs.replace(DB, incident=options, alarms=tuple(names))
    return Settings(tuple(alarm(name, notify) for name in names), (rule, BACK))


class House:
    """A runtime, and what its alarms were told."""

    def __init__(self, configuration: Settings, path: Path | None = None) -> None:
        self.recorder = Recorder()
        self.runtime = Runtime(
            configuration, outbox=path or ":memory:", write_log=lambda _: None, find_action=self.recorder.find
        )
        self.runtime.start()

    def see(self, *lines: str, key: str = "") -> None:
        """Put lines to the rules, and wait until they were judged."""
        done = threading.Event()
        records = [Record(f"{line}\n".encode(), "logging", 1.0, key or f"k{next(_numbers)}") for line in lines]
        self.runtime.worker.submit(Batch([Item(record) for record in records], done=done.set))
        assert done.wait(10)

    def told(self) -> list[tuple[str, str, str]]:
        """Return alarm, status and key of each message so far."""
        return [
            (firing.alarm, notice.status, ",".join(notice.key.values()))
            for firing in self.recorder.wait_for(0)
            if firing.trigger is not None and (notice := firing.trigger.incident) is not None
        ]

    def wait_for(self, *told: tuple[str, str, str]) -> None:
        wait_until(lambda: self.told() == list(told), 10)
        assert self.told() == list(told)

    def stop(self) -> None:
        with self.runtime.outbox.still():
            assert imbalances(*self.runtime.books()) == []
        self.runtime.stop(5)


def test_each_key_is_an_incident() -> None:
    """Of each, the beginning is told once and the end once; other matches are counted."""
    house = House(settings())
    house.see("lost eu", "lost us", "lost eu", "back eu", "back eu", "back asia")
    house.wait_for(("a", "firing", "eu"), ("a", "firing", "us"), ("a", "resolved", "eu"))
    books, _ = house.runtime.books()
    assert books["rules"]["db"] == {"opened": 2, "resolved": {"line": 1}, "open": 1}
    assert books["alarms"]["a"]["held_back"] == {"ongoing": 1}
    assert books["sources"]["logging"]["matched"] == 6
    house.stop()


def test_the_end_says_what_it_ends() -> None:
    """It has the line and the labels of the beginning, and the line that ended it."""
    house = House(settings())
    house.see("lost eu", "back eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    end = house.recorder.wait_for(0)[1]
    assert end.trigger is not None
    assert end.trigger.incident is not None
    assert (end.message, dict(end.trigger.labels)) == (b"lost eu\n", {"severity": "critical", "db": "eu"})
    assert (end.trigger.incident.end, end.trigger.incident.ended_by) == ("back eu", "line")
    house.stop()


def test_the_next_match_opens_the_next_episode() -> None:
    """Equal messages of two episodes are both sent: `alarm_freq` is about stateless rules."""
    house = House(settings())
    house.see("lost eu", "back eu", "lost eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"), ("a", "firing", "eu"))
    assert len({firing.id for firing in house.recorder.wait_for(0)}) == 3
    house.stop()


def test_a_threshold_counts_each_key() -> None:
    """`count` matches of one key fire; a resolve line before begins the count anew."""
    rules = (structs.replace(DB, count=2, within=60.0), BACK)
    house = House(structs.replace(settings(), rules=rules))
    house.see("lost eu", "lost us", "back eu", "lost eu")
    assert house.told() == []
    house.see("lost us", "lost eu")
    house.wait_for(("a", "firing", "us"), ("a", "firing", "eu"))
    house.stop()


def test_quiet_resolves() -> None:
    """Without a match for `resolve_after`, an incident is over."""
    house = House(settings(IncidentOptions(("db",), resolve_after=0.2)))
    house.see("lost eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    assert house.runtime.books()[0]["rules"]["db"]["resolved"] == {"timeout": 1}
    house.stop()


def test_an_escalation_reaches_further_alarms_in_time() -> None:
    """A later step is told while the incident goes on, and of the end; not of one that was over before."""
    house = House(settings(IncidentOptions(("db",), after={"b": 0.3}), names="ab"))
    house.see("lost us", "back us", "lost eu")
    begin = [("a", "firing", "us"), ("a", "resolved", "us"), ("a", "firing", "eu"), ("b", "escalated", "eu")]
    house.wait_for(*begin)
    house.see("back eu")
    wait_until(lambda: len(house.told()) == 6, 10)
    assert sorted(house.told()[4:]) == [("a", "resolved", "eu"), ("b", "resolved", "eu")]
    house.stop()


def test_reminders_come_until_the_end() -> None:
    """An incident that goes on is told again after each `repeat_interval`."""
    house = House(settings(notify=Notify(repeat_interval=0.2)))
    house.see("lost eu")
    wait_until(lambda: len(house.told()) >= 3, 10)
    assert house.told()[:3] == [("a", "firing", "eu"), ("a", "reminder", "eu"), ("a", "reminder", "eu")]
    house.stop()


def test_a_silence_holds_beginnings_back_and_no_ends() -> None:
    """Who was told before learns of the end in a silence; what fires is told behind it (alertmanager#226, #2570)."""
    house = House(settings())
    house.see("lost eu")
    silence = put(house.runtime, SilenceOrder(("a",), time.time() + 3600.0))
    house.see("lost us", "lost asia", "back eu", "back asia", "lost eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    assert expire(house.runtime, [silence["id"]])
    before = [("a", "firing", "eu"), ("a", "resolved", "eu")]
    wait_until(lambda: len(house.told()) == 4, 10)
    assert house.told()[:2] == before
    assert sorted(house.told()[2:]) == [("a", "firing", "eu"), ("a", "firing", "us")]
    row = house.runtime.books()[0]["alarms"]["a"]
    assert (row["delayed"], row["resolved"], row["held_back"]["silenced"]) == (2, 1, 3)
    house.stop()


def test_what_fires_in_a_silence_is_told_when_it_is_over() -> None:
    """Once, and at once: nobody has to do anything for that."""
    house = House(settings())
    end = time.time() + 1.0
    put(house.runtime, SilenceOrder(('db="eu"',), end))
    house.see("lost eu")
    house.wait_for(("a", "firing", "eu"))
    (firing,) = house.recorder.wait_for(1)
    assert firing.record.time >= end - 0.1
    house.stop()


def test_flapping_is_told_once() -> None:
    """An incident that begins and ends too often is told as flapping, and no more until it is quiet."""
    house = House(settings(IncidentOptions(("db",), flap=Flap(3, 3600.0))))
    house.see(*["lost eu", "back eu"] * 5)
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"), ("a", "flapping", "eu"))
    assert house.runtime.books()[0]["alarms"]["a"]["held_back"] == {"flapping": 3}
    house.stop()


def test_too_many_keys_share_one_incident() -> None:
    """Beyond `max_keys` that all fire, a key counts for the incident "other", with its reason."""
    house = House(settings(IncidentOptions(("db",), max_keys=2)))
    house.see("lost a", "lost b", "lost c", "lost d")
    house.wait_for(("a", "firing", "a"), ("a", "firing", "b"), ("a", "firing", "other"))
    assert house.runtime.books()[0]["alarms"]["a"]["held_back"] == {"key_overflow": 1}
    house.stop()


def test_a_restart_tells_nothing_again(tmp_path: Path) -> None:
    """The next process goes on where the former was: no second beginning, and the end of what was told."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu", "lost us")
    house.wait_for(("a", "firing", "eu"), ("a", "firing", "us"))
    house.stop()
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu", "back eu")
    house.wait_for(("a", "resolved", "eu"))
    assert house.runtime.books()[0]["rules"]["db"]["open"] == 1
    house.stop()


def test_downtime_is_no_quiet_time(tmp_path: Path) -> None:
    """While no process runs nobody can see a match: `resolve_after` goes on where it was (alertmanager#4064)."""
    options = IncidentOptions(("db",), resolve_after=600.0)
    house = House(settings(options), tmp_path / "outbox.db")
    house.see("lost eu")
    house.stop()
    with closing(sqlite3.connect(tmp_path / "outbox.db")) as database, database:
        ((data,),) = database.execute("SELECT data FROM observed WHERE name = 'clock'")
        before = msgspec.msgpack.decode(data, type=Reading)
        earlier = structs.replace(before, since_boot=before.since_boot - 3600.0, wall=before.wall - 3600.0)
        database.execute("UPDATE observed SET data = ? WHERE name = 'clock'", (msgspec.msgpack.encode(earlier),))
    house = House(settings(options), tmp_path / "outbox.db")
    house.see("lost eu", "back eu")
    house.wait_for(("a", "resolved", "eu"))
    assert house.runtime.books()[0]["rules"]["db"]["resolved"] == {"line": 1}
    house.stop()


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_no_step_of_the_clock_moves_a_deadline(step: float) -> None:
    """Within one start of the machine only the time that has passed counts; beyond, the time of day, never back."""
    before = Reading(1000.0, 50.0, "this", 5000.0)
    same = LastingClock(before, wall=lambda: 5010.0 + step, boot_clock=lambda: 60.0, boot="this")
    assert (same(), same.gap) == (1010.0, 10.0)
    other = LastingClock(before, wall=lambda: 5010.0 + step, boot_clock=lambda: 2.0, boot="next")
    assert other() == 1000.0 + max(10.0 + step, 0.0)
    assert other.read() == Reading(other(), 2.0, "next", 5010.0 + step, max(10.0 + step, 0.0))


def test_several_downtimes_are_no_quiet_time(tmp_path: Path) -> None:
    """However often a process was away, nothing of that counts for `resolve_after` or `absent_for`."""
    options = IncidentOptions(("db",), resolve_after=5.0)
    wanted = structs.replace(DB, pattern="done", name="job", incident=IncidentOptions(absence=Absence(after=5.0)))
    configuration = structs.replace(settings(options), rules=(*settings(options).rules, wanted))
    house = House(configuration, tmp_path / "outbox.db")
    house.see("lost eu")
    house.stop()
    for _ in range(2):
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as database:
            ((data,),) = database.execute("SELECT data FROM observed WHERE name = 'clock'")
            before = msgspec.msgpack.decode(data, type=Reading)
            earlier = structs.replace(before, since_boot=before.since_boot - 3600.0, wall=before.wall - 3600.0)
            database.execute("UPDATE observed SET data = ? WHERE name = 'clock'", (msgspec.msgpack.encode(earlier),))
        house = House(configuration, tmp_path / "outbox.db")
        house.see("nothing")
        assert house.told() == []
        house.stop()
    house = House(configuration, tmp_path / "outbox.db")
    wait_until(lambda: sorted(house.told()) == [("a", "firing", ""), ("a", "resolved", "eu")], 15)
    firing = next(firing for firing in house.recorder.wait_for(0) if firing.text.startswith("job"))
    assert re.fullmatch("job: no match for 5 s, since [-0-9]+ [:0-9]+ UTC", firing.text)
    assert house.runtime.books()[0]["alarms"]["a"]["delayed"] == 1
    house.see("done")
    wait_until(lambda: house.told()[-1] == ("a", "resolved", ""), 10)
    house.stop()


def test_a_record_that_comes_again_counts_once(tmp_path: Path) -> None:
    """What a killed process had judged, the next one sees again: that is no next episode."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu", key="p:1")
    house.see("back eu", key="p:2")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    house.stop()
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu", key="p:1")
    house.see("lost us")
    house.wait_for(("a", "firing", "us"))
    assert house.runtime.books()[0]["alarms"]["a"]["held_back"] == {"duplicate": 1}
    house.stop()


def test_a_rule_that_goes_resolves_its_incidents(tmp_path: Path) -> None:
    """On a reload, and at a start without it; one with another key as well."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu", "lost us")
    fresh = structs.replace(settings(), rules=(structs.replace(DB, incident=IncidentOptions(("host",))), BACK))
    house.runtime.exchange(house.runtime.prepare(fresh))
    wait_until(lambda: len(house.told()) == 4, 10)
    house.see("lost eu")
    house.wait_for(*house.told()[:4], ("a", "firing", ""))
    house.stop()
    house = House(structs.replace(settings(), rules=()), tmp_path / "outbox.db")
    house.wait_for(("a", "resolved", ""))
    assert house.runtime.books()[0]["rules"]["db"]["resolved"] == {"removed": 3}
    house.stop()


def test_incidents_come_with_a_reload() -> None:
    """A configuration without any may be followed by one with them, and the reverse."""
    plain = structs.replace(settings(), rules=(Rule("lost", ("a",)),))
    house = House(plain)
    house.see("lost x")
    house.runtime.exchange(house.runtime.prepare(settings()))
    house.see("lost eu")
    house.wait_for(("a", "firing", "eu"))
    house.runtime.exchange(house.runtime.prepare(plain))
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    house.stop()


def test_an_outbox_that_was_taken_away_gets_them_again(tmp_path: Path) -> None:
    """Another file has all incidents, not only those that change."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu")
    for file in tmp_path.glob("outbox.db*"):
        file.unlink()
    house.see("lost us")
    house.see("lost us")
    house.runtime.outbox.flush()
    wait_until(lambda: incident_rows.count_firing(house.runtime.outbox) == {"db": 2}, 10)
    house.stop()


def test_incidents_that_cannot_be_read_are_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are named in the log, and alarms go on."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu")
    with house.runtime.outbox.transaction():
        house.runtime.outbox.change("UPDATE incidents SET data = x'00'")
    house.runtime.stop(5)
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost us")
    house.wait_for(("a", "firing", "us"))
    assert "the incidents of the former process are forgotten" in caplog.text
    house.runtime.stop(5)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_incidents import House, settings
house = House(settings(), Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    key, _, text = line.strip().partition(" ")
    house.see(text, key=key)
    print("done", flush=True)
"""


def _killed_in(path: Path, lines: Sequence[str], at: int) -> None:
    """Put lines to a process, and kill it when it was given number `at` of them."""
    here = Path(__file__)
    environ = {**os.environ, "PYTHONPATH": str(here.parents[2] / "services") + os.pathsep + str(here.parent)}
    command = [sys.executable, "-c", PROGRAM, str(path), str(here.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        for line in lines[:at]:
            print(line, file=child.stdin, flush=True)
            assert child.stdout.readline() == "done\n"
        print(*lines[at : at + 1], file=child.stdin, flush=True)
        child.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("at", range(5))
def test_a_kill_at_any_line_tells_each_thing_once(tmp_path: Path, at: int) -> None:
    """Killed while it judges any of the lines, all of which come again: one id for each beginning and each end."""
    lines = ["r:1 lost eu", "r:2 lost us", "r:3 back eu", "r:4 lost eu", "r:5 back us"]
    path = tmp_path / "outbox.db"
    _killed_in(path, lines, at)
    house = House(settings(), path)
    for line in lines:
        key, _, text = line.partition(" ")
        house.see(text, key=key)
    house.runtime.call(house.runtime.dispatcher.drain(10.0, wait_for_retries=True), 20)
    ids = [row for (row,) in house.runtime.outbox.query("SELECT id FROM firings")]
    assert len(ids) == len({*ids}) == 5
    house.stop()


def asked(runtime: Runtime, query: msgspec.Struct) -> Call[Any, Nothing]:
    """Return what an operation of the API is asked."""
    master = web_master(runtime, Path(), lambda: cast("Status", {}), Settings, bytes)
    site = Site.of(master, WebOptions(), Store(None))
    return Call(site, Identity("kim", Role.READ, "socket"), {}, query, Nothing())


def shown(runtime: Runtime, is_all: bool) -> list[dict[str, Any]]:
    """Return incidents as programs see them."""
    found: list[dict[str, Any]] = msgspec.json.decode(
        msgspec.json.encode(list_incidents(asked(runtime, IncidentsWanted(all=is_all))))
    )
    return found


def history(runtime: Runtime, since: float) -> list[dict[str, Any]]:
    """Return what has happened, as programs see it."""
    found: list[dict[str, Any]] = msgspec.json.decode(
        msgspec.json.encode(get_history(asked(runtime, EventsWanted(since=since))))
    )
    return found


def _acked(house: House, verb: str = "ack", seconds: float | None = None) -> list[str]:
    (incident,) = shown(house.runtime, False)
    return carry_out(house.runtime, IncidentOrder(verb, (incident["id"], "unknown"), "kim", seconds, "on it"))


def test_an_acknowledgement_stops_reminders_and_later_steps(tmp_path: Path) -> None:
    """Not the end; the next episode begins unacknowledged (oncall#4760, uptime-kuma#1989)."""
    options = IncidentOptions(("db",), after={"b": 0.4})
    house = House(settings(options, names="ab", notify=Notify(repeat_interval=0.5)), tmp_path / "outbox.db")
    house.see("lost eu")
    assert len(_acked(house)) == 1
    (incident,) = shown(house.runtime, False)
    assert (incident["marks"], incident["acknowledged_by"], incident["comment"]) == (["acknowledged"], "kim", "on it")
    wait_until(lambda: time.time() > incident["started"] + 1.0, 10)
    house.see("back eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    end = house.recorder.wait_for(0)[1]
    assert end.trigger is not None
    assert end.trigger.incident is not None
    assert end.trigger.incident.acknowledged_by == "kim"
    house.see("lost eu")
    wait_until(lambda: ("b", "escalated", "eu") in house.told(), 10)
    house.stop()


def test_an_acknowledgement_expires_and_is_taken_back(tmp_path: Path) -> None:
    """Then reminders go on."""
    house = House(settings(notify=Notify(repeat_interval=0.2)), tmp_path / "outbox.db")
    house.see("lost eu")
    _acked(house, seconds=0.5)
    wait_until(lambda: ("a", "reminder", "eu") in house.told(), 10)
    _acked(house)
    assert _acked(house, "unack")
    count = len(house.told())
    wait_until(lambda: len(house.told()) > count, 10)
    house.stop()


def test_an_acknowledged_incident_that_ends_and_begins_again_is_a_new_one(tmp_path: Path) -> None:
    """Both come within one batch: the end is told, and the next episode, which nobody has acknowledged."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu")
    _acked(house)
    house.see("back eu", "lost eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"), ("a", "firing", "eu"))
    (incident,) = shown(house.runtime, False)
    assert (incident["episode"], incident["marks"], incident["acknowledged_by"]) == (2, [], "")
    house.stop()


def test_a_dead_receiver_gets_no_later_step_that_was_acknowledged(tmp_path: Path) -> None:
    """Neither when it is tried again nor by its fallback; the end reaches who was told the beginning."""
    options = IncidentOptions(("db",), after={"b": 0.1})
    house = House(settings(options, names="ab"), tmp_path / "outbox.db")
    take = house.recorder.take

    def dead(firing: Firing) -> None:
        if firing.alarm == "b":
            raise ActionError("down", retry=True)
        take(firing)

    house.recorder.take = dead  # type: ignore[method-assign]
    house.see("lost eu")
    wait_until(lambda: house.runtime.outbox.query("SELECT 1 FROM firings WHERE alarm = 'b' AND attempts > 0"), 10)
    _acked(house)
    wait_until(lambda: house.runtime.books()[0]["alarms"]["b"]["dropped"] == {"acknowledged": 1}, 10)
    house.see("back eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    assert house.runtime.books()[0]["alarms"]["b"]["resolved"] == 0
    house.stop()


def test_a_reload_with_a_thousand_open_incidents(tmp_path: Path) -> None:
    """A rule gets another name, an escalation goes, an inhibition comes: each incident that was told ends once."""
    options = IncidentOptions(("db",), after={"b": 3600.0})
    configuration = settings(options, names="ab")
    house = House(configuration, tmp_path / "outbox.db")
    house.see(*(f"lost {number}" for number in range(1000)))
    wait_until(lambda: len(house.told()) == 1000, 30)
    wait_until(lambda: all(each["delivery"] == {"a": "delivered"} for each in shown(house.runtime, False)), 30)
    assert len(json.loads(shown_as_json(house.runtime, False))) == 1000
    rules = (structs.replace(DB, name="replica", alarms=("a",)), structs.replace(BACK, resolves="replica"))
    inhibit = (InhibitRule(('rule="replica"', 'db="host"'), ('rule="replica"', 'db!="host"')),)
    house.runtime.exchange(house.runtime.prepare(structs.replace(configuration, rules=rules, inhibit_rules=inhibit)))
    wait_until(lambda: len(house.told()) == 2000, 30)
    told = Counter((status, key) for _, status, key in house.told())
    assert told == {(status, str(number)): 1 for status in ("firing", "resolved") for number in range(1000)}
    house.see("lost host", "lost 1", "back 2", "back host")
    wait_until(
        lambda: house.told()[2000:] == [("a", "firing", "host"), ("a", "resolved", "host"), ("a", "firing", "1")], 30
    )
    assert house.runtime.books()[0]["rules"]["db"] == {"opened": 1000, "resolved": {"removed": 1000}, "open": 0}
    house.stop()


def test_a_full_outbox_makes_no_end_without_a_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it refuses is made again; of what is over by then, nothing is told."""
    monkeypatch.setattr(incidents, "AGAIN_AFTER", 0.5)
    configuration = structs.replace(settings(), outbox=OutboxOptions(waiting=1))
    house = House(configuration, tmp_path / "outbox.db")
    blocked = Blocked(house)
    house.see("lost eu")
    assert blocked.began.wait(10)
    house.see("lost us", "lost asia", "back asia")
    blocked.go.set()
    house.wait_for(("a", "firing", "eu"), ("a", "firing", "us"))
    row = house.runtime.books()[0]["alarms"]["a"]
    assert row["dropped"]["outbox_full"] >= 2
    house.stop()


def test_people_resolve_incidents(tmp_path: Path) -> None:
    """It is told, and its history says who did what, in order (alertmanager#2223)."""
    house = House(settings(), tmp_path / "outbox.db")
    house.see("lost eu")
    _acked(house)
    _acked(house, "resolve")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    assert shown(house.runtime, False) == []
    (incident,) = shown(house.runtime, True)
    assert (incident["state"], incident["notified"]) == ("resolved", {"a": "resolved"})
    happened = [(event["kind"], event["text"]) for event in history(house.runtime, 0.0)]
    assert happened == [
        ("opened", "lost eu"),
        ("firing", "a"),
        ("acknowledged", "kim: on it"),
        ("resolved", "operator kim"),
        ("resolved", "a"),
    ]
    assert history(house.runtime, time.time() + 60) == []
    house.stop()


def test_it_is_shown_what_happened_and_whom_it_reached(tmp_path: Path) -> None:
    """The line of the first match, its severity, and how the last message of each alarm fares."""
    house = House(settings(IncidentOptions(("db",), after={"b": 3600.0}), names="ab"), tmp_path / "outbox.db")
    house.recorder.fail_with(ActionError("refused", retry=False))
    house.see("lost eu")
    wait_until(lambda: shown(house.runtime, False)[0]["delivery"] == {"a": "dead"}, 10)
    (incident,) = shown(house.runtime, False)
    assert (incident["message"], incident["severity"]) == ("lost eu", "critical")
    assert incident["acknowledged_until"] is None
    _acked(house, seconds=3600.0)
    (incident,) = shown(house.runtime, False)
    assert incident["acknowledged_until"] == pytest.approx(time.time() + 3600.0, abs=60)
    house.stop()


def test_without_incidents_there_is_nothing_to_show() -> None:
    """All questions are answered."""
    house = House(structs.replace(settings(), rules=()))
    assert shown(house.runtime, True) == []
    assert history(house.runtime, 0.0) == []
    assert carry_out(house.runtime, IncidentOrder("ack", ("x",), "kim")) == []
    house.stop()


def test_an_end_never_overtakes_its_beginning() -> None:
    """A beginning that is retried for long stays before the end, while other messages pass (alertmanager#2675)."""
    house = House(settings())
    house.recorder.fail_with(*[ActionError("down", retry=True)] * 8)
    house.see("lost eu")
    wait_until(lambda: house.runtime.outbox.query("SELECT 1 FROM firings WHERE attempts > 0"), 10)
    house.see("back eu")
    house.wait_for(("a", "firing", "eu"), ("a", "resolved", "eu"))
    house.stop()


class Blocked:
    """Holds the first delivery of a recorder up."""

    def __init__(self, house: House) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        take = house.recorder.take

        def held(firing: Firing) -> None:
            self.began.set()
            self.go.wait(10)
            take(firing)

        house.recorder.take = held  # type: ignore[method-assign]


def test_an_end_replaces_a_beginning_that_was_never_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the receiver is busy with something else, an incident comes and goes: one message says both."""
    monkeypatch.setattr(outbox, "MERGE_AFTER", 0.0)
    house = House(settings(), tmp_path / "outbox.db")
    blocked = Blocked(house)
    house.see("lost x")
    assert blocked.began.wait(10)
    house.see("lost eu", "back eu")
    blocked.go.set()
    house.wait_for(("a", "firing", "x"), ("a", "resolved", "eu"))
    assert house.runtime.books()[0]["alarms"]["a"]["dropped"] == {"merged": 1}
    house.stop()


def test_an_acknowledgement_drops_what_waits(tmp_path: Path) -> None:
    """A later step that waits for its receiver never arrives, the end does."""
    options = IncidentOptions(("db",), after={"b": 0.1})
    house = House(settings(options, names="ab"), tmp_path / "outbox.db")
    house.see("lost eu")
    house.wait_for(("a", "firing", "eu"), ("b", "escalated", "eu"))
    blocked = Blocked(house)
    house.see("lost us")
    assert blocked.began.wait(10)
    wait_until(lambda: house.runtime.books()[0]["alarms"]["b"]["escalated"] == 2, 10)
    (us,) = (each["id"] for each in shown(house.runtime, False) if each["key"] == {"db": "us"})
    carry_out(house.runtime, IncidentOrder("ack", (us,), "kim"))
    assert house.runtime.books()[0]["alarms"]["b"]["dropped"] == {"acknowledged": 1}
    blocked.go.set()
    house.see("back us")
    wait_until(lambda: house.told()[-2:] == [("a", "firing", "us"), ("a", "resolved", "us")], 10)
    house.stop()


def test_without_incidents_nothing_of_them_is_loaded(tmp_path: Path) -> None:
    """A master whose rules are stateless imports neither their engine nor what writes them down."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path;"
        "from alarm_mw.master import process; from alarm_mw.master.runtime.runtime import Runtime;"
        "from alarm_mw.config.settings import Settings; from alarm_mw.model.types import Rule;"
        "runtime = Runtime(Settings((), (Rule('x', ()),)), outbox=Path(sys.argv[1]), write_log=print);"
        "runtime.start(); runtime.stop(5);"
        "print([name for name in sys.modules if 'engine.incidents' in name or 'incident_' in name])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "outbox.db"), str(Path(__file__).parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_heartbeats_of_a_runtime(tmp_path: Path) -> None:
    """They are written down: after a restart, and after a change of the configuration, they are expected as before."""

    def watching(every: float, name: str = "beats") -> Settings:
        watch = Watch(
            "heartbeat",
            ("a",),
            HeartbeatOptions(every=every, grace=0.1),
            name=name,
            incident=IncidentOptions(("heartbeat",)),
        )
        return Settings((alarm("a"),), monitors=(watch,))

    house = House(watching(3600.0), tmp_path / "outbox.db")
    assert house.runtime.heartbeat(Beat("w", failed="disk"))
    house.wait_for(("a", "firing", "w"))
    assert house.runtime.heartbeat(Beat("w", every=0.3))
    house.wait_for(("a", "firing", "w"), ("a", "resolved", "w"))
    house.stop()
    again = House(watching(3600.0), tmp_path / "outbox.db")
    again.wait_for(("a", "firing", "w"))
    with pytest.raises(ValueError, match="a heartbeat's name"):
        again.runtime.heartbeat(Beat("two words"))
    again.runtime.exchange(again.runtime.prepare(watching(0.1, "others")))
    again.wait_for(("a", "firing", "w"), ("a", "resolved", "w"))
    assert not again.runtime.outbox.query("SELECT * FROM measured")
    again.stop()


def test_bytes_that_are_no_text_harm_nothing(tmp_path: Path) -> None:
    """In a key, in the line that opens an incident and in the one that ends it, they are shown as escapes."""
    rule = structs.replace(DB, pattern="lost (?P<db>.+)")
    back = structs.replace(BACK, pattern="back (?P<db>.+)")
    house = House(structs.replace(settings(), rules=(rule, back)), tmp_path / "outbox.db")
    done = threading.Event()
    lines = [b"lost \xff\n", b"back \xff\n"]
    records = [Record(line, "logging", 1.0, f"k{next(_numbers)}") for line in lines]
    house.runtime.worker.submit(Batch([Item(record) for record in records], done=done.set))
    assert done.wait(10)
    house.wait_for(("a", "firing", r"\udcff"), ("a", "resolved", r"\udcff"))
    texts = {each["text"] for each in history(house.runtime, 0.0)}
    (found,) = incident_rows.incidents(house.runtime.outbox, is_all=True)
    assert incident_rows.find(house.runtime.outbox, found.id) == found
    assert incident_rows.find(house.runtime.outbox, "nothing") is None
    assert incident_rows.firing(house.runtime.outbox, {}) == []
    house.runtime.stop(5.0)
    assert texts == {r"lost \xff", r"line back \xff", "a"}


def test_what_is_measured_is_written_down_without_further_records(tmp_path: Path) -> None:
    """Also what came just behind a write: a later process goes on from all of it."""
    rule = structs.replace(DB, measure=Spike(3.0, 100, 3600.0))
    house = House(Settings((alarm("a"),), (rule,)), tmp_path / "outbox.db")
    for name in ("eu", "us", "asia"):
        house.see(f"lost {name}")
    wait_until(lambda: len(house.runtime.outbox.query("SELECT id FROM measured WHERE id != ''")) == 3, 10)
    assert len(house.runtime.outbox.query("SELECT id FROM measured WHERE id != ''")) == 3
    house.stop()


def test_incidents_that_have_not_changed_are_not_decoded_again(tmp_path: Path) -> None:
    """What is known stays the same object; what has changed, and what is new, is read."""
    house = House(settings(), tmp_path / "outbox.db")
    known: incident_rows.Known = {}
    house.see("lost eu-1", "lost eu-2")
    house.wait_for(("a", "firing", "eu-1"), ("a", "firing", "eu-2"))
    before = {each.key[0][1]: each for each in incident_rows.firing(house.runtime.outbox, known)}
    house.see("lost eu-2", "lost eu-3")
    wait_until(lambda: len(incident_rows.firing(house.runtime.outbox, known)) == 3, 10)
    after = {each.key[0][1]: each for each in incident_rows.firing(house.runtime.outbox, known)}
    house.runtime.stop(5.0)
    assert after["eu-1"] is before["eu-1"]
    assert (before["eu-2"].count, after["eu-2"].count) == (1, 2)
    assert len(known) == 3
