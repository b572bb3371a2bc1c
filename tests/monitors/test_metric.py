"""``metric-alarm``: when a metric is told of."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.model.errors import OptionError
from alarm_mw.monitors.metric import MetricMonitor, MetricOptions, Threshold

OFTEN = 0.01


def said(options: MetricOptions, *values: int, every: float = 1.0) -> list[str | None]:
    """Return what is said of these values, seen one after the other, `every` seconds."""
    threshold = Threshold(options)
    return [threshold.look(value, index * every) for index, value in enumerate(values)]


def test_reaching_is_told_once() -> None:
    """A metric that stays as high is not told of again; one that comes down and rises again is."""
    options = MetricOptions(key="k", value=5)
    assert said(options, 4, 5, 6, 4, 5) == [None, "k", None, None, "k"]


def test_the_message() -> None:
    """With a value and the growth in a second, where the message asks for them."""
    options = MetricOptions(key="k", value=5, msg="{value} now, {rate}/s")
    assert said(options, 1, 6, every=2.0) == [None, "6 now, 2.5/s"]


def test_the_rate_repeats() -> None:
    """With a rate, what stays as high is told of again after so many seconds."""
    options = MetricOptions(key="k", value=5, rate=2)
    assert said(options, 5, 5, 5, 5, 5) == ["k", None, "k", None, "k"]


def test_the_rate_also_holds_back() -> None:
    """With a rate, no two alarms are closer than so many seconds, however often the metric comes and goes."""
    options = MetricOptions(key="k", value=5, rate=3)
    assert said(options, 5, 0, 5, 0, 5, 5) == ["k", None, None, None, "k", None]


def test_coming_down() -> None:
    """Where there is a message for it, coming down is told, once."""
    options = MetricOptions(key="k", value=5, over="{value} again")
    assert said(options, 4, 5, 4, 3) == [None, "k", "4 again", None]


@given(st.lists(st.integers(0, 10)))
def test_beginnings_and_ends_alternate(values: list[int]) -> None:
    """Whatever the metric does, each end follows a beginning and each beginning an end."""
    words = [word for word in said(MetricOptions(key="k", value=5, over="over"), *values) if word]
    assert words == ["k" if index % 2 == 0 else "over" for index in range(len(words))]


def test_it_is_set_back(running: Any) -> None:
    """`reset` sets the metric back, and it is told of again when it has come so far again."""

    async def scenario() -> None:
        options = MetricOptions(key="k", value=5, reset=1, msg="{value}", over="never", interval=OFTEN)
        async with running((MetricMonitor, options)) as stage:
            stage.values["k"] = 7
            assert await stage.next() == "7"
            await stage.looked(2)
            assert stage.values["k"] == 1
            stage.values["k"] += 4
            assert await stage.next() == "5"
            assert stage.fired.empty()

    asyncio.run(scenario())


@pytest.mark.parametrize(("over", "end"), [("", b"k is 4"), ("{value} again", b"4 again")])
def test_the_incident_of_a_metric(make_stage: Any, over: str, end: bytes) -> None:
    """With incidents, the monitor says when the metric has reached the value, and when it has come down."""

    async def scenario() -> None:
        stage = make_stage()
        stage.has_incidents = True
        options = MetricOptions(key="k", value=5, msg="{value}", over=over, interval=OFTEN)
        async with stage.running((MetricMonitor, options)):
            assert (await stage.reported())[0] == {}
            stage.values["k"] = 7
            assert (await stage.reported())[0] == {"": b"7"}
            stage.values["k"] = 4
            assert await stage.reported() == ({}, {"": end})
            assert stage.fired.empty()

    asyncio.run(scenario())


def test_a_metric_that_is_set_back_has_no_end(make_stage: Any) -> None:
    """With `reset`, each time counts for itself, whoever set it back."""

    async def scenario() -> None:
        stage = make_stage()
        stage.has_incidents = True
        async with stage.running((MetricMonitor, MetricOptions(key="k", value=5, reset=0, interval=OFTEN))):
            for _ in range(2):
                stage.values["k"] = stage.values.get("k", 0) + 5
                assert await stage.next() == "k"
            assert stage.reports.empty()

    asyncio.run(scenario())


def test_a_metric_that_nobody_has_counted(running: Any) -> None:
    """A metric without a value stands at 0."""

    async def scenario() -> None:
        async with running((MetricMonitor, MetricOptions(key="k", value=0, interval=OFTEN))) as stage:
            assert await stage.next() == "k"

    asyncio.run(scenario())


def test_uwsgis_syntax() -> None:
    """``key=value`` between commas; a comma in a value is written with a backslash."""
    options = MetricMonitor.from_uwsgi(r"key=logins,value=100,msg=too many\, too fast = bad,reset=0,rate=30")
    assert msgspec.structs.asdict(options) == {
        "key": "logins",
        "value": 100,
        "msg": "too many, too fast = bad",
        "reset": 0,
        "rate": 30.0,
        "over": "",
        "interval": 1.0,
    }


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("key=x", "'value' is missing"),
        ("value=1", "'key' is missing"),
        ("key=x,value=much", "value: "),
        ("key=x,value=1,reste=0", "did you mean 'reset'"),
        ("key=x,value=1,0", "expected key=value"),
        ("key=x,value=1,reset=1", "expected a number below the value"),
        ("key=alarm.a.fired,value=1,reset=0", "a column of the ledger"),
    ],
)
def test_mistakes(args: str, text: str) -> None:
    """What is wrong is told with what was expected."""
    with pytest.raises(OptionError, match=text):
        MetricMonitor.from_uwsgi(args)
