"""``alarm-mw ack``, ``unack`` and ``resolve`` with the first digits of ids, at a real server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until
from web_configuration import ALARMS, DISKS, PAYMENTS
from web_server import Server

#: One more than ids have first digits.
MANY = 17


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, ALARMS + DISKS)
    yield server
    server.stop()


def test_the_first_digits_of_an_id(server: Server) -> None:
    """As many as no other open incident has are enough; else the incidents that could be meant are named."""
    server.line(*(f"disk {n} full" for n in range(MANY)))
    wait_until(lambda: len(server.incidents()) == MANY)
    lines = {str(each["id"]): str(each["message"]) for each in server.incidents()}
    groups = defaultdict[str, list[str]](list)
    for name in lines:
        groups[name[0]].append(name)
    digit, several = next((digit, names) for digit, names in groups.items() if len(names) > 1)

    refused = server.ask("ack", several[0], digit)
    assert refused.returncode == 2
    assert f"{digit!r} begins the ids of {len(several)} open incidents:\n" in refused.stderr
    assert all(f"  {name}  disk  {lines[name]}\n" in refused.stderr for name in several)
    assert not any(each["acknowledged_by"] for each in server.incidents())

    assert server.ask("ack", several[0][:9].upper(), several[0]).stdout == f"{several[0]}: acknowledged\n"
    assert server.ask("unack", several[0][:9]).stdout == f"{several[0]}: not acknowledged any more\n"
    assert server.ask("resolve", several[0][:9]).stdout == f"{several[0]}: resolved\n"
    for unknown in (several[0][:9], "x", ""):
        done = server.ask("resolve", unknown)
        assert (done.returncode, done.stderr) == (2, f"alarm-mw: {unknown}: no such incident is open\n")


#: An alarm whose receiver is never there.
HOOK = """
[alarms.hook]
action = "curl"
url = "http://127.0.0.1:9/"
[[rules]]
name = "db"
pattern = "lost the database"
resolve = "found the database"
alarms = ["hook"]
"""


@pytest.fixture
def unreachable(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, ALARMS + PAYMENTS + HOOK)
    yield server
    server.stop()


def test_an_incident_that_has_reached_nobody(unreachable: Server) -> None:
    """While no message is delivered, list and history say so, and how each one stands; the worst come first."""
    unreachable.line("lost the database", "payment 7 failed")

    def delivery() -> dict[str, object]:
        return {str(each["rule"]): each["delivery"] for each in unreachable.incidents()}

    expected = {"db": {"hook": "waiting"}, "payments": {"mail": "delivered", "sms": "dead"}}
    wait_until(lambda: delivery() == expected)
    lines = unreachable.ask("incidents").stdout.splitlines()
    assert lines[0].split(maxsplit=1)[1] == "CRITICAL  payments  order=7  payment 7 failed"
    assert lines[2].split(maxsplit=1)[1] == "ALARM  db  lost the database"
    assert lines[3].endswith("  nobody reached yet  hook=firing (waiting)")
    assert lines[1].endswith("  1 match  mail=firing sms=firing (dead)")
    history = unreachable.ask("history").stdout
    assert "  firing  hook (waiting, nobody reached yet)\n" in history
    assert "  firing  sms (dead)\n" in history
    assert "  firing  mail\n" in history
