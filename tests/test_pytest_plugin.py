"""The pytest plugin, in projects as users have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alarm_mw.testing import Alarms

TOML = """
[alarms.jabber]
action = "cmd"
command = "touch delivered"
[alarms.mail]
action = "cmd"
command = "touch delivered"
limits = { for_humans = true }
[[rules]]
pattern = "upload"
alarms = ["jabber"]
[[rules]]
pattern = "disk full"
alarms = ["mail"]
"""

LIMITS = """
alarm_rate = "1/1h"
[alarms.jabber]
action = "cmd"
command = "touch delivered"
limits = { for_humans = true }
[alarms.reload]
action = "signal"
signal = 17
[alarms.archive]
action = "cmd"
command = "touch delivered"
limits = { for_humans = false, rate = "1/1h" }
[[rules]]
pattern = "upload"
alarms = ["jabber", "reload", "archive"]
"""

APP = """
import logging, sys, threading
import alarm_mw
log = logging.getLogger("shop")
log.addHandler(alarm_mw.AlarmHandler())
def create():
    alarm_mw.init(alarms={"pager": "cmd:touch delivered"}, log_alarms=["pager explosion"])
def upload(): log.error("the upload broke")
def later(): threading.Timer(0.05, upload).start()
"""

TESTS = """
import sys, threading
import pytest, alarm_mw, app

def test_rules_of_the_file_fire(alarms):
    app.create()
    app.upload()
    assert alarms.fired("jabber", match="upload")
    assert not alarms.fired("mail")
    assert [firing.text for firing in alarms.fired()] == ["the upload broke"]
    alarms.clear()
    assert not alarms.fired()

def test_each_test_begins_with_none(alarms):
    assert not alarms.fired()
    app.upload()
    assert len(alarms.fired()) == 1

def test_what_a_thread_logs_later_is_waited_for(alarms):
    app.later()
    assert alarms.wait_for("jabber")

def test_prints_are_seen_where_asked(alarms, capsys):
    print("upload 1")
    with alarms.seeing_prints():
        print("upload 2")
        print("upload 3", file=sys.stderr)
    assert [(firing.text, firing.record.source) for firing in alarms.fired()] == [
        ("upload 2", "stdout"), ("upload 3", "stderr")]
    assert capsys.readouterr() == ("upload 1\\nupload 2\\n", "upload 3\\n")

def test_the_output_is_what_it_was_where_prints_are_seen(alarms, capfd):
    with alarms.seeing_prints():
        sys.stdout.writelines(["upload 4\\n"])
        sys.stdout.buffer.write("caf\\u00e9\\n".encode(sys.stdout.encoding))
        assert not sys.stdout.isatty()
    assert len(alarms.fired()) == 1
    assert sorted(capfd.readouterr().out.split()) == ["4", "caf\\u00e9", "upload"]

def test_prints_are_left_to_capfd(alarms, capfd):
    print("upload")
    assert not alarms.fired()
    assert capfd.readouterr().out == "upload\\n"

@pytest.mark.alarms(log_alarms=["pager,mail TERRIBLE"])
def test_a_marker_has_rules_of_its_own(alarms):
    app.log.error("TERRIBLE")
    assert {firing.alarm for firing in alarms.fired()} == {"pager", "mail"}

@pytest.mark.alarms(log_alarms=["night explosion"], alarm_rate="1/1h")
def test_a_marker_has_limits_of_its_own(alarms):
    app.log.error("explosion")
    app.log.error("a second explosion")
    assert [firing.text for firing in alarms.fired()] == ["explosion"]

@pytest.mark.alarms("alarms.toml", log_alarms=["jabber,night explosion"])
def test_a_marker_adds_rules_to_those_of_a_file(alarms):
    app.log.error("explosion")
    app.upload()
    assert [firing.alarm for firing in alarms.fired()] == ["jabber", "night", "jabber"]

@pytest.mark.alarms("limits.toml")
def test_the_limits_of_the_file_hold(alarms):
    app.log.error("upload 1")
    app.log.error("upload 2")
    assert [firing.text for firing in alarms.fired("jabber")] == ["upload 1"]
    assert [firing.text for firing in alarms.fired("reload")] == ["upload 1", "upload 2"]
    assert [firing.text for firing in alarms.fired("archive")] == ["upload 1"]

@pytest.mark.alarms()
def test_without_a_configuration_that_of_init_counts(alarms):
    app.create()
    app.log.error("explosion")
    alarm_mw.shutdown()
    assert alarms.fired("pager")

def test_no_thread_is_left():
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("alarm-mw")]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "alarms.toml").write_text(TOML)
    (tmp_path / "limits.toml").write_text(LIMITS)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nalarm_mw_config = alarms.toml\npythonpath = .\naddopts = -p no:cacheprovider\n"
    )
    return tmp_path


def run(project: Path, tests: str, *options: str) -> str:
    """Run the tests of a project and return what pytest prints."""
    (project / "test_app.py").write_text(tests)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:asyncio", "--strict-markers", *options]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=100, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "options", [["-p", "no:randomly"], ["-n", "2"], ["-s", "--strict-config"]], ids=["plain", "xdist", "-s"]
)
def test_a_project_tests_its_alarms(project: Path, options: list[str]) -> None:
    """Every promise of the fixture holds, with capturing and without, in one process and in several."""
    assert f"{len(re.findall('^def test', TESTS, re.MULTILINE))} passed" in run(project, TESTS, *options)
    assert not (project / "delivered").exists()


def test_a_failure_tells_what_was_fired_instead(project: Path) -> None:
    """The message of a failed assertion names what there was, and so does a section of the report."""
    tests = """
import app
def test_it(alarms):
    app.log.error("disk full")
    app.log.error("disk full")
    assert alarms.fired("jabber", match="upload")
"""
    printed = run(project, tests)
    assert "assert <no jabber matching 'upload'; fired: mail 'disk full'; held back: mail (repeat, 1 times)>" in printed
    assert re.search(r"-+ Captured alarms call -+\nfired: mail 'disk full'; held back", printed)


def test_a_wrong_configuration_is_an_error_of_the_test(project: Path) -> None:
    """The fixture says what is wrong with the file, as `alarm-mw check` does, and shows no code of ours."""
    (project / "alarms.toml").write_text("[alarms.a]\naction = 'cdm'\n")
    printed = run(project, "def test_it(alarms): pass")
    assert "alarms.toml:2: alarm 'a': unknown alarm plugin 'cdm'" in printed
    assert "1 error" in printed
    assert "load.py" not in printed
    assert "another exception" not in printed


def test_a_wrong_keyword_of_the_marker_is_an_error_of_the_test(project: Path) -> None:
    """It is named with those that there are, and no code of ours is shown."""
    tests = "import pytest\n@pytest.mark.alarms(log_alarm=['mail disk'])\ndef test_it(alarms): pass"
    printed = run(project, tests)
    assert (
        "the marker 'alarms': got an unexpected keyword argument 'log_alarm'; expected alarms(config=None, " in printed
    )
    assert "1 error" in printed
    assert "pytest_plugin.py" not in printed


def test_the_plugin_costs_next_to_nothing() -> None:
    """Where no test asks for alarms, pytest loads nothing of ours but the plugin's own lines."""
    ours = "sorted(name for name in sys.modules if name.startswith('alarm_mw'))"
    program = f"import sys, pytest; import alarm_mw.pytest_plugin; print({ours})"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    printed = subprocess.check_output([sys.executable, "-c", program], text=True, env=environ)
    assert printed == "['alarm_mw', 'alarm_mw.pytest_plugin']\n"


INCIDENTS = """
[alarms.mail]
action = "cmd"
command = "touch delivered"
notify = { repeat_interval = "4h" }
[alarms.sms]
action = "cmd"
command = "touch delivered"
[escalations.ops]
steps = [ { after = "0s", alarms = ["mail"] }, { after = "15m", alarms = ["sms"] } ]
[[rules]]
name = "db"
pattern = 'lost (?P<db>[a-z]+)'
key = ["db"]
resolve = 'back (?P<db>[a-z]+)'
resolve_after = "1d"
escalation = "ops"
labels = { severity = "critical" }
[[rules]]
name = "twice"
pattern = "twice"
count = 2
within = "1m"
resolve_after = "1h"
alarms = ["sms"]
[[rules]]
pattern = "seldom"
count = 2
within = "1m"
alarms = ["sms"]
[[monitors]]
monitor = "heartbeat"
name = "beats"
every = "5m"
alarms = ["mail"]
"""

TESTS_OF_INCIDENTS = """
import pytest, alarm_mw
pytestmark = pytest.mark.alarms("alarms.toml")

@pytest.fixture
def see(alarms):
    def show(*lines):
        with alarms.seeing_prints():
            for line in lines:
                print(line)
    return show

def test_escalation(alarms, see):
    incident = alarms.incident("db", db="eu")
    assert not (incident.is_firing or incident.is_resolved or incident.is_pending or incident.is_acknowledged)
    assert (incident.count, incident.episode, incident.ended_by, incident.labels) == (0, 0, "", {})
    see("lost eu", "lost eu", "lost us")
    assert incident.is_firing and incident.notified == {"mail": "firing"}
    assert (incident.count, incident.episode) == (2, 1)
    assert incident.labels == {"severity": "critical", "db": "eu"}
    alarms.advance("14m")
    assert not alarms.fired("sms")
    alarms.advance(61)
    assert len(alarms.fired("sms", status="escalated")) == 2
    alarms.advance("4h")
    assert len(alarms.fired("mail", status="reminder")) == 2
    see("back eu")
    assert incident.is_resolved and incident.ended_by == "line"
    assert incident.notified == {"mail": "resolved", "sms": "resolved"}
    alarms.advance("1d")
    assert alarms.incident("db", db="us").ended_by == "timeout"

def test_acknowledgement(alarms, see):
    see("lost eu")
    incident = alarms.incident("db", db="eu")
    incident.acknowledge(by="kim")
    assert incident.is_acknowledged
    alarms.advance("5h")
    assert len(alarms.fired()) == 1
    incident.unacknowledge()
    assert incident.notified == {"mail": "reminder", "sms": "escalated"}
    incident.resolve()
    assert incident.ended_by == "operator"
    for order in incident.acknowledge, incident.unacknowledge, incident.resolve:
        with pytest.raises(LookupError, match="it is not firing: <incident db db=eu: resolved by operator"):
            order()

def test_thresholds(alarms, see):
    see("twice")
    incident = alarms.incident("twice")
    assert incident.is_pending
    alarms.advance("2m")
    see("twice")
    assert incident.is_pending
    see("twice")
    assert incident.is_firing
    see("seldom")
    alarms.advance("2m")
    see("seldom")
    assert not alarms.fired(match="seldom")

def test_heartbeats(alarms):
    alarm_mw.heartbeat("worker-1")
    alarms.advance("5m")
    incident = alarms.incident("beats", heartbeat="worker-1")
    assert not incident.is_firing
    alarms.advance("1m")
    assert incident.is_firing
    alarm_mw.heartbeat("worker-1")
    assert incident.is_resolved

def test_what_a_failure_shows(alarms, see):
    see("lost eu")
    assert alarms.incident("db", db="us").is_firing

def test_a_wrong_rule(alarms):
    alarms.incident("dbs", db="us")

def test_a_wrong_key(alarms):
    alarms.incident("db", name="us")
"""


def test_incidents_and_time(tmp_path: Path) -> None:
    """A test sees incidents, acknowledges them, and lets time pass; what it asks for wrongly is told."""
    (tmp_path / "alarms.toml").write_text(INCIDENTS)
    (tmp_path / "test_incidents.py").write_text(TESTS_OF_INCIDENTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_incidents.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "3 failed, 4 passed" in done.stdout, done.stdout
    assert "where False = <no incident db db=us; incident db db=eu: firing>.is_firing" in done.stdout
    assert "LookupError: no rule with incidents is called 'dbs' (did you mean 'db'?)" in done.stdout
    assert "LookupError: the key of the rule 'db' has db, got name" in done.stdout
    assert not (tmp_path / "delivered").exists()


def test_time_passes_without_incidents() -> None:
    """Limits end where no rule has incidents as well."""
    with Alarms(log_alarms=["mail disk full"], alarm_freq=60.0) as alarms:
        for _ in range(2):
            with alarms.seeing_prints():
                print("disk full")  # noqa: T201  # what the rules see
        assert len(alarms.fired()) == 1
        alarms.advance("1m")
        with alarms.seeing_prints():
            print("disk full")  # noqa: T201  # as above
        assert len(alarms.fired()) == 2
        with pytest.raises(LookupError, match="no rule with incidents is called 'mail'"):
            alarms.incident("mail")
