"""Monitors in every kind of configuration, and what is said of mistakes in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Watch
from alarm_mw.model.types import Where
from alarm_mw.monitors.backlog.monitor import BacklogOptions
from alarm_mw.monitors.fd.monitor import FdOptions
from alarm_mw.monitors.metric import MetricOptions

Examine = Callable[..., Examined]

GOOD = """\
[alarms]
a = "note:"
b = "note:"

[[monitors]]
monitor = "fd"
alarms = ["a", "b"]
fd = "${FD}"
message = "damn it"

[[monitors]]
monitor = "backlog"
alarms = "a"
percent = 80
sockets = ["127.0.0.1:8000", "/run/app.sock"]
"""


def test_monitors_in_toml(examined: Examine) -> None:
    """A monitor is a table with its alarms and its options; numbers may come from the environment."""
    found = examined(toml=GOOD, environ={"FD": "7"})
    assert found.problems == found.warnings == ()
    sockets = ("127.0.0.1:8000", "/run/app.sock")
    assert found.settings.monitors == (
        Watch("fd", ("a", "b"), FdOptions(fd=7, message="damn it"), Where("a.toml", 5)),
        Watch("backlog", ("a",), BacklogOptions(percent=80, sockets=sockets), Where("a.toml", 11)),
    )
    assert found.settings.descriptors == {7}


BAD = """\
alarms.a = "note:"
[[monitors]]
monitor = "backlock"
alarms = "a"
[[monitors]]
alarms = "a"
[[monitors]]
monitor = 3
alarms = "a"
[[monitors]]
monitor = "backlog"
alarms = ["b", 1]
percents = 80
percent = 101
interval = "often"
sockets = ["localhost:80"]
[[monitors]]
monitor = "fd"
message = "x"
[[monitors]]
monitor = "metric"
alarms = "a"
key = "x"
[[monitors]]
monitor = "backlog"
alarms = "a"
sockets = ["localhost:80"]
"""

PROBLEMS = """\
a.toml:3: monitor 1: unknown monitor 'backlock' (did you mean 'backlog'?); there are: …
a.toml:5: monitor 2: expected a monitor's name as 'monitor'
a.toml:8: monitor 3: expected a monitor's name as 'monitor', got an integer
a.toml:12: monitor 4: alarms: expected a name, got an integer
a.toml:12: unknown alarm 'b'
a.toml:13: monitor 4: unknown key 'percents' (did you mean 'percent'?)
a.toml:14: monitor 4: percent: expected int <= 100
a.toml:15: monitor 4: interval: expected float, got str
a.toml:17: monitor 5: the monitor names no alarm, expected alarms = ["…"]
a.toml:17: monitor 5: expected either 'fd' or 'path'
a.toml:20: monitor 6: 'value' is missing
a.toml:24: monitor 7: 'localhost:80' has no address before its port, expected one such as 127.0.0.1 or [::1]
"""


def test_all_mistakes_are_told(examined: Examine) -> None:
    """Every mistake in a monitor is reported at once, with its line."""
    told = [str(problem) for problem in examined(toml=BAD).problems]
    told = [text.partition("there are: ")[0] + "there are: …" if "there are: " in text else text for text in told]
    assert told == PROBLEMS.splitlines()


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("monitors = 3", "a.toml:1: monitors: expected [[monitors]], an array of tables, got an integer"),
        ("monitors = [3]", "a.toml:1: monitor 1: expected a table, got an integer"),
        ("monitor = []", "a.toml:1: unknown key 'monitor' (did you mean 'monitors'?)"),
        (
            "alarms.a = 'note:'\n[[monitors]]\nmonitor = '${NO}'\nalarms = 'a'",
            "a.toml:3: monitor 1: monitor: the environment variable NO is not set",
        ),
    ],
)
def test_what_is_no_monitor(examined: Examine, toml: str, text: str) -> None:
    """What is no array of tables, or names no monitor, is one problem."""
    assert [str(problem) for problem in examined(toml=toml).problems] == [text]


@pytest.mark.parametrize(
    ("option", "monitor", "options"),
    [
        ("alarm-fd = a 3:1 damn it !!!", "fd", FdOptions(fd=3, bytes=1, message="damn it !!!")),
        ("alarm_fd = a /run/fifo x", "fd", FdOptions(path="/run/fifo", message="x")),
        ("alarm-backlog = a", "backlog", BacklogOptions()),
        ("backlog-alarm = a", "backlog", BacklogOptions()),
        ("lq-alarm = a", "backlog", BacklogOptions()),
        ("alarm-lq = a", "backlog", BacklogOptions()),
        ("listen-queue-alarm = a", "backlog", BacklogOptions()),
        ("alarm-listen-queue = a", "backlog", BacklogOptions()),
        ("alarm_backlog = a percent=80", "backlog", BacklogOptions(percent=80)),
        ("metric-alarm = key=x,value=1,alarm=a,msg=b\\, c", "metric", MetricOptions(key="x", value=1, msg="b, c")),
        ("alarm-metric = alarm=a,key=x,value=1", "metric", MetricOptions(key="x", value=1)),
    ],
)
def test_uwsgis_options(examined: Examine, option: str, monitor: str, options: object) -> None:
    """The options of uWSGI and their aliases mean what they mean there."""
    found = examined(ini=f"[uwsgi]\nalarm = a note:\n{option}\n")
    assert found.problems == found.warnings == ()
    (watch,) = found.settings.monitors
    assert (watch.monitor, watch.alarms, watch.options, watch.where) == (monitor, ("a",), options, Where("a.ini", 3))


@pytest.mark.parametrize("option", ["alarm-segfault", "segfault-alarm"])
def test_segfault(examined: Examine, option: str) -> None:
    """Crashes have a monitor with an alarm."""
    found = examined(ini=f"[uwsgi]\nalarm = a note:\n{option} = a\n")
    assert [(watch.monitor, watch.alarms) for watch in found.settings.monitors] == [("segfault", ("a",))]


def test_a_monitor_may_have_several_alarms(examined: Examine) -> None:
    """Where uWSGI takes one name, a list between commas is taken."""
    found = examined(ini="[uwsgi]\nalarm = a note:\nalarm = b note:\nalarm-backlog = a,,b\n")
    assert [watch.alarms for watch in found.settings.monitors] == [("a", "b")]


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        ("alarm-backlog = b", ["unknown alarm 'b'"]),
        ("alarm-backlog = ", ["alarm-backlog: the monitor names no alarm"]),
        ("alarm-fd = a", ["alarm-fd: expected FD[:BYTES] MESSAGE, with a blank before the message"]),
        ("metric-alarm = key=x,value=1", ["metric-alarm: the monitor names no alarm"]),
        ("alarm-segfault = a x", ["alarm-segfault: a part without '=', expected key=value"]),
        ("metric-alarm = alarm=a", ["metric-alarm: 'key' is missing", "metric-alarm: 'value' is missing"]),
    ],
)
def test_mistakes_in_uwsgis_options(examined: Examine, option: str, texts: list[str]) -> None:
    """Each mistake in an option is told with its line."""
    problems = examined(ini=f"[uwsgi]\nalarm = a note:\n{option}\n").problems
    assert [str(problem) for problem in problems] == [f"a.ini:3: {text}" for text in texts]


def test_flags(examined: Examine) -> None:
    """The same options are flags."""
    flags = (("alarm", "a note:"), ("alarm-fd", "a 9 x"), ("metric-alarm", "key=x,value=1,alarm=c"))
    found = examined(flags=flags)
    assert [str(problem) for problem in found.problems] == ["--metric-alarm (1st): unknown alarm 'c'"]
    assert found.settings.descriptors == {9}
