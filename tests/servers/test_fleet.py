"""Three masters of one fleet, on a real Redis: one message, one silence, one acknowledgement for all of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer
from waiting import END_LIMIT, wait_until
from webhook import TakingHandler, Webhook, serving

from alarm_mw.model.errors import NotRunningError
from alarm_mw.transports.control import ask_patiently
from alarm_mw.transports.places import SOCKET_NAME

NAMES = ("web-1", "web-2", "web-3")

CONFIG = """
[alarms.hook]
action = "curl"
url = "http://127.0.0.1:{port}/hook"
format = "json"

[alarms.boss]
action = "curl"
url = "http://127.0.0.1:{port}/boss"
format = "json"

[escalations.ops]
steps = [{{ after = "0s", alarms = ["hook"] }}, {{ after = "8s", alarms = ["boss"] }}]

[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
key = ["db"]
resolve = 'back (?P<db>\\S+)'
escalation = "ops"

[[rules]]
pattern = "disk full"
alarms = "hook"

[fleet]
url = "unix://{socket}"
machine = "{name}"
group_wait = "1s"
labels = {{ zone = "eu" }}
last_lines = {last_lines}
"""

#: Prints what is appended to a file, so that a test decides what each server says.
SERVER = ("tail", "-s", "0.05", "-n", "+1", "-f", "says.txt")


class Once(TakingHandler):
    """Closes each connection behind its answer: the receiver outlives tests, which leave none behind."""

    protocol_version = "HTTP/1.0"


class Receiver(Webhook):
    """Keeps what webhooks send."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        super().__init__(lambda path, body: self.messages.append((path, json.loads(body))), Once)

    def told(self) -> list[tuple[str, str, str]]:
        """Return path, status and machines of each message."""
        return [
            (path, message["status"], message["alerts"][0]["annotations"].get("machines", ""))
            for path, message in self.messages
        ]


class Machine:
    """A server under ``alarm-mw run``, with a state of its own."""

    def __init__(self, directory: Path, name: str, redis: RedisServer, port: int) -> None:
        self.directory, self.name = directory / name, name
        self.directory.mkdir()
        self.says = self.directory / "says.txt"
        self.says.touch()
        (self.directory / "alarm-mw.toml").write_text(
            CONFIG.format(port=port, socket=redis.socket, name=name, last_lines=2 if name == "web-1" else 0)
        )
        self.environ = {**os.environ, "XDG_STATE_HOME": str(self.directory / "xdg")}
        self.command = str(Path(sys.executable).with_name("alarm-mw"))
        run = [self.command, "run", "--state-dir", "state", "--", *SERVER]
        self._process = subprocess.Popen(run, cwd=self.directory, env=self.environ, stdout=subprocess.DEVNULL)

    def say(self, line: str) -> None:
        with self.says.open("a") as file:
            file.write(f"{line}\n")

    def ask(self, url: str) -> Any:
        """Return the answer of the control socket; nothing where no master answers yet."""
        try:
            return ask_patiently(str(self.directory / "state" / SOCKET_NAME), url)
        except NotRunningError:
            return {}

    def verb(self, *arguments: str, status: int = 0) -> str:
        command = [self.command, *arguments, "--state-dir", "state"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=self.directory, env=self.environ
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_LIMIT)
        finally:
            self._process.kill()
            self._process.wait()


class Fleet:
    """All of them."""

    def __init__(self, directory: Path, redis: RedisServer, receiver: Receiver) -> None:
        self.redis, self.receiver = redis, receiver
        self.machines = [Machine(directory, name, redis, receiver.server_port) for name in NAMES]

    def say(self, line: str) -> None:
        for machine in self.machines:
            machine.say(line)

    def is_complete(self) -> bool:
        """Return whether all know each other."""
        return all(
            {each["machine"] for each in (machine.ask("/fleet") or {}).get("members", ())} == {*NAMES}
            for machine in self.machines
        )


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    directory = Path(tempfile.mkdtemp(prefix="amw-"))
    redis, receiver = RedisServer(directory), Receiver()
    with serving(receiver):
        redis.start()
        found = Fleet(directory, redis, receiver)
        try:
            wait_until(found.is_complete)
            yield found
        finally:
            for machine in found.machines:
                machine.end()
            redis.stop()
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def told(fleet: Fleet) -> Callable[[], list[tuple[str, str, str]]]:
    """Give a function that returns what has been told in this test."""
    fleet.receiver.messages.clear()
    return fleet.receiver.told


def test_an_incident_on_all_machines_is_one_message(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """The beginning is told once, with the machines that have it, and the end once, when the last machine says so."""
    fleet.say("lost eu")
    wait_until(told)
    (incident,) = json.loads(fleet.machines[2].verb("fleet", "--json"))["incidents"]
    assert (incident["rule"], incident["key"], incident["machine_count"]) == ("db", {"db": "eu"}, 3)
    for machine in fleet.machines[:2]:
        machine.say("back eu")
    wait_until(lambda: fleet.machines[0].ask("/fleet")["incidents"][0]["machine_count"] == 1)
    fleet.machines[2].say("back eu")
    wait_until(lambda: len(told()) == 2)
    assert [(path, status) for path, status, _ in told()] == [("/hook", "firing"), ("/hook", "resolved")]
    assert {*told()[0][2].split(", ")} == {*NAMES}
    (first, second) = (message["alerts"][0]["labels"] for _, message in fleet.receiver.messages)
    assert first == second
    wait_until(lambda: not any(_waiting(machine) for machine in fleet.machines))
    rows = [machine.ask("/status")["alarms"]["hook"] for machine in fleet.machines]
    assert sum(row["delivered"] for row in rows) == 2
    assert sum(row["dropped"].get("fleet", 0) for row in rows) == 4
    assert [machine.ask("/status")["imbalances"] for machine in fleet.machines] == [[], [], []]


def _waiting(machine: Machine) -> int:
    return sum(row["waiting"] for row in machine.ask("/status")["alarms"].values())


def test_a_silence_set_on_one_holds_on_all(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """A silence reaches the other machines, holds back their messages, and ends everywhere when it is ended on one."""
    fleet.machines[0].verb("silence", "hook", "--for", "1h", "--comment", "deploy")
    others = fleet.machines[1:]
    wait_until(lambda: all("hook" in machine.ask("/status")["silences"] for machine in others))
    others[0].say("disk full on /var")
    wait_until(lambda: others[0].ask("/status")["alarms"]["hook"]["held_back"].get("silenced"))
    others[1].verb("unsilence", "hook")
    wait_until(lambda: not any(machine.ask("/status")["silences"] for machine in fleet.machines))
    assert told() == []


def test_an_acknowledgement_stops_the_escalation_of_all(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """Who acknowledges on one machine is not followed by the next step from another one."""
    fleet.say("lost us")
    wait_until(told)
    (incident,) = json.loads(fleet.machines[1].verb("incidents", "--json"))
    fleet.machines[1].verb("ack", incident["id"], "--for", "1h")
    others = (fleet.machines[0], fleet.machines[2])
    wait_until(lambda: all(machine.ask("/incidents")[0]["acknowledged_by"] for machine in others))
    # Those that are not acknowledged are escalated: what comes behind them is not waited for any longer.
    fleet.say("lost asia")
    wait_until(lambda: any(path == "/boss" for path, _, _ in told()))
    (boss,) = (message["alerts"][0] for path, message in fleet.receiver.messages if path == "/boss")
    assert "lost asia" in boss["annotations"]["summary"]
    fleet.say("back us")
    fleet.say("back asia")
    wait_until(lambda: [status for _, status, _ in told()].count("resolved") == 3)


def test_the_fleet_is_shown(fleet: Fleet) -> None:
    """`alarm-mw fleet` lists the machines with what they say of themselves, from any of them."""
    shown = fleet.machines[0].verb("fleet")
    assert shown.startswith("fleet default: web-1 is connected")
    for name in NAMES:
        assert name in shown
    assert shown.count("alive") == 3
    assert shown.count("same") == 3
    assert shown.count("zone=eu") == 3
    assert "no incidents" in shown


def test_the_state_of_the_fleet_is_seen(fleet: Fleet) -> None:
    """`alarm-mw status` says whether the fleet can be reached, and so do the metrics."""
    assert "fleet default: web-2 is connected; see `alarm-mw fleet`" in fleet.machines[1].verb("status")
    metrics = fleet.machines[1].verb("status", "--prometheus")
    assert "alarm_mw_fleet_connected 1.0" in metrics
    assert "alarm_mw_fleet_lag_seconds" in metrics


def test_only_a_machine_that_says_so_shows_its_last_lines(fleet: Fleet) -> None:
    """With `last_lines`, the end of the output is in the heartbeat; without, no line leaves the machine."""

    def heartbeat(name: str) -> str:
        return fleet.redis.cli("HGET", "{alarm_mw:default}:mach", name)

    fleet.say("all is well")
    wait_until(lambda: "all is well" in heartbeat("web-1"))
    assert "all is well" not in heartbeat("web-2")


HUB = """
[alarms.secret]
action = "curl"
url = "http://127.0.0.1:{port}/by-hub"
format = "json"
[fleet]
url = "unix://{socket}"
name = "branch"
machine = "hub"
hub = true
"""

BRANCH = """
name = "shop"
[alarms.secret]
action = "hub"
[[rules]]
name = "disk"
pattern = "disk full"
resolve = "disk is free"
alarms = ["secret"]
[fleet]
url = "unix://{socket}"
name = "branch"
machine = "web-9"
group_wait = 0
"""


def test_a_hub_delivers_for_a_machine_without_secrets(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """A message of a machine that knows no receiver reaches it by the hub's alarm of that name, with its origin."""
    directory, command = fleet.machines[0].directory, fleet.machines[0].command
    (directory / "hub.toml").write_text(HUB.format(port=fleet.receiver.server_port, socket=fleet.redis.socket))
    (directory / "branch.toml").write_text(BRANCH.format(socket=fleet.redis.socket))
    server = ("--", "sh", "-c", "echo disk full; read line; echo disk is free; exec cat")
    verbs = (
        ["hub", "--config", "hub.toml", "--state-dir", "hub"],
        ["run", "--config", "branch.toml", "--state-dir", "branch", *server],
    )
    environ = fleet.machines[0].environ
    processes = [
        subprocess.Popen(
            [command, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=directory, env=environ
        )
        for words in verbs
    ]
    try:
        wait_until(told)
        ((path, status, machines),) = told()
        assert (path, status, machines) == ("/by-hub", "firing", "web-9")
        assert processes[1].stdin is not None
        processes[1].stdin.write(b"\n")
        processes[1].stdin.flush()
        wait_until(lambda: len(told()) == 2)
        assert told()[1][:2] == ("/by-hub", "resolved")
        alerts = [message["alerts"][0] for _, message in fleet.receiver.messages]
        assert [alert["labels"]["app"] for alert in alerts] == ["shop"] * 2
        assert [alert["annotations"]["summary"] for alert in alerts] == [
            "shop@web-9: disk full",
            "RESOLVED shop@web-9: disk full",
        ]
        socket = str(directory / "branch" / SOCKET_NAME)
        wait_until(lambda: ask_patiently(socket, "/status")["alarms"]["secret"]["delivered"] == 2)
        books = ask_patiently(str(directory / "hub" / SOCKET_NAME), "/status")
        assert books["imbalances"] == []
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=60)


def test_a_hub_needs_to_be_told_so(fleet: Fleet) -> None:
    """A configuration without `hub = true` runs no hub."""
    command = [fleet.machines[0].command, "hub", "--config", "alarm-mw.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=fleet.machines[0].directory, check=False)
    assert done.returncode == 2
    assert "needs a table [fleet] with hub = true" in done.stderr


def test_what_a_stopped_machine_had_can_be_ended(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """An incident of a machine that was stopped is ended from another one, which is told once; the next one is new."""
    first, *_, last = fleet.machines
    last.say("lost asia")
    wait_until(told)
    last.end()
    wait_until(lambda: {each["machine"]: each["state"] for each in first.ask("/fleet")["members"]}["web-3"] == "left")
    ((incident,),) = (first.ask("/fleet")["incidents"],)
    first.verb("resolve", incident["id"])
    wait_until(lambda: len(told()) == 2)
    assert first.ask("/fleet")["incidents"] == []
    first.say("lost asia")
    wait_until(lambda: len(told()) == 3)
    assert [status for _, status, _ in told()] == ["firing", "resolved", "firing"]


def test_what_was_on_one_machine_is_in_the_history_of_others(fleet: Fleet, told: Callable[[], list[Any]]) -> None:
    """An incident that only one machine had is in the history of another one after its end, with who was told."""
    first, second, _ = fleet.machines

    def events() -> list[dict[str, Any]]:
        found = json.loads(second.verb("history", "--fleet", "--json"))
        return [each for each in found if each["key"] == {"db": "mars"}]

    first.say("lost mars")
    wait_until(told)
    wait_until(lambda: len(events()) > 1)
    assert [each["kind"] for each in events()] == ["opened", "firing"]
    first.say("back mars")
    wait_until(lambda: len(told()) == 2)
    wait_until(lambda: sum(each["kind"] == "resolved" for each in events()) == 2)
    assert {(each["kind"], each["text"], each["machine"]) for each in events()} == {
        ("opened", "lost mars", ""),
        ("firing", "hook", "web-1"),
        ("resolved", "hook", "web-1"),
        ("resolved", "line", ""),
    }
    assert not any(each["key"] == {"db": "mars"} for each in json.loads(second.verb("history", "--json")))
    one = second.ask(f"/api/1/incidents/{events()[0]['incident']}")
    assert (one["incident"]["state"], one["incident"]["machines"]) == ("resolved", ["web-1"])
