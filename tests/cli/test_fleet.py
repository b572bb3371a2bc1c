"""``alarm-mw fleet``: how it shows a fleet; tests/servers has real ones."""

from __future__ import annotations

import http.server
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.model.fleet import FleetBudget, FleetIncident, FleetMember, FleetNotification, FleetOverview
from alarm_mw.transports.places import control_path

WHOLE = FleetOverview(
    "shop",
    "web-1",
    "connected",
    lag=0.0123,
    members=(
        FleetMember("web-1", "alive", 1.0, {"zone": "eu"}, "1.0", "aaaa", 0.01),
        FleetMember("web-2", "silent", 75.0, {}, "0.9", "bbbb"),
        FleetMember("web-3", "left", 5.0),
    ),
    incidents=(
        FleetIncident(
            "0123456789",
            "db",
            0.0,
            6,
            tuple(f"m{n}" for n in range(6)),
            key={"db": "eu"},
            text="lost eu",
            count=1234,
            alarms={
                "mail": FleetNotification(told_at=1.0, told_by="web-2"),
                "sms": FleetNotification("web-1"),
                "boss": FleetNotification(),
            },
            acknowledged_by="kim",
        ),
        FleetIncident(
            "abcdef0123",
            "fleet",
            1.0,
            1,
            ("web-1",),
            key={"machine": "web-2"},
            labels={"severity": "critical"},
            text="web-2 is silent",
            count=1,
        ),
    ),
    budgets=(FleetBudget("mail", 21, 20, 3600.0), FleetBudget("", 1, 100, 60.0)),
)


class Control(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The control socket of a master in a fleet."""

    answer: bytes = b"null"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each question with the same."""

    server: Control

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def control() -> Iterator[Control]:
    with (
        tempfile.TemporaryDirectory(prefix="amw-") as directory,
        Control(control_path(str(Path(directory) / "alarm.sock")), Handler) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fleet(control: Control, answer: FleetOverview | None, *arguments: str) -> Result:
    control.answer = msgspec.json.encode(answer)
    socket = str(control.server_address).removesuffix(".control")
    return CliRunner().invoke(main, ["fleet", "--socket", socket, *arguments], env={"COLUMNS": "200"})


def test_a_fleet_is_shown(control: Control) -> None:
    """Machines with their states and rules, incidents with their machines and notifications, and what is left."""
    result = fleet(control, WHOLE)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "fleet shop: web-1 is connected, 12 ms"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert ["web-1", "alive", "1 s ago", "10 ms", "1.0", "same", "zone=eu"] in rows
    assert ["web-2", "silent", "1 min 15 s ago", "0 ms", "0.9", "differ", ""] in rows
    assert any(row[:6] == ["web-3", "left", "5 s ago", "0 ms", "", ""] for row in rows)
    place = lines.index("0123456789  ALARM  db  db=eu  lost eu")
    assert lines[place + 1].startswith("            on 6 machines: m0, m1, m2, m3, m4, …  1,234 matches  for ")
    told = "mail by web-2; sms: web-1 is about to; boss: not yet"
    assert lines[place + 2] == f"            acknowledged by kim  notified: {told}"
    place = lines.index("abcdef0123  CRITICAL  fleet  machine=web-2  web-2 is silent")
    assert place < lines.index("0123456789  ALARM  db  db=eu  lost eu")
    assert lines[place + 1].startswith("            reported by 1 machine: web-1  for ")
    assert lines[place + 2] == "            not acknowledged"
    assert "alarm mail: 0 of 20 messages left in 1 h" in result.output
    assert "all alarms for humans: 99 of 100 messages left in 1 min" in result.output


def test_a_fleet_that_is_away_is_named(control: Control) -> None:
    """The exit status and a line say that the fleet cannot be reached, and why."""
    result = fleet(control, FleetOverview("shop", "web-1", "away", "wrong password"))
    assert result.exit_code == 3
    assert result.output.splitlines() == ["fleet shop: web-1 is away", "wrong password"]


def test_a_program_gets_json(control: Control) -> None:
    """With `--json`, all of it is there for a program."""
    result = fleet(control, WHOLE, "--json")
    assert msgspec.json.decode(result.output, type=FleetOverview) == WHOLE


def test_a_server_without_a_fleet_says_so(control: Control) -> None:
    """The exit status is 2, and the missing table is named."""
    result = fleet(control, None)
    assert result.exit_code == 2
    assert "no table [fleet]" in result.stderr
