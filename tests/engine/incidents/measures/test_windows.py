"""Counts over a sliding time: ratios, quantiles and spikes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.engine.incidents.measures.judgement import Judgement, Sample
from alarm_mw.engine.incidents.measures.windows import (
    PARTS,
    QuantileState,
    RatioState,
    SpikeState,
    Window,
    parts_of,
)
from alarm_mw.model.measures import Quantile, Ratio, Spike

MATCH, OTHER = Sample(), Sample(is_match=False)

FIVE_PERCENT = Ratio(above=0.05, below=0.03, at_least=100, within=300.0)
P95 = Quantile(quantile=0.95, field="duration", above=2.0, below=1.5, at_least=20, within=300.0, is_time=True)
TRIPLE = Spike(times=3.0, at_least=10, within=60.0)


def took(seconds: object) -> Sample:
    return Sample(fields={"duration": str(seconds)})


# The window


@given(st.lists(st.floats(0.0, 50.0), max_size=60), st.floats(1.0, 600.0))
def test_a_window_counts_what_is_young(gaps: Sequence[float], within: float) -> None:
    """Its sums have all that is younger than 59/60 of its time, and nothing that is older than that time."""
    window, times, now = Window(within), list[float](), 1000.0
    for gap in gaps:
        now += gap
        times.append(now)
        window.add(now, 1, 2)
        window.expire(now)
        count, double, none = window.sums
        assert (double, none) == (2 * count, 0)
        young = sum(now - time < within * (PARTS - 1) / PARTS - 1e-6 for time in times)
        assert young <= count <= sum(now - time <= within + 1e-6 for time in times)


def test_a_window_goes_on_from_its_parts() -> None:
    """What was written down has the same sums, and leaves at the same time."""
    window = Window(60.0)
    for now in (1.0, 1.5, 30.0):
        window.add(now, 1, 1)
    again = Window(60.0, parts_of(window.dump()))
    assert again.sums == [3, 3, 0]
    again.expire(61.0)
    assert again.sums == [1, 1, 0]


# Ratios


def test_a_ratio_needs_enough_records() -> None:
    """Above the bound, and with as many records as are needed, an incident begins."""
    state = RatioState(FIVE_PERCENT)
    for _ in range(6):
        state.add(MATCH, 0.0)
    for _ in range(93):
        state.add(OTHER, 0.0)
    assert not state.judge(0.0, is_open=False).begins
    state.add(OTHER, 0.0)
    text = "6 % of 100 within 5 min, more than 5 %"
    assert state.judge(0.0, is_open=False) == Judgement(begins=True, text=text)


def test_a_ratio_ends_at_a_second_bound() -> None:
    """Between the two bounds nothing changes; at the lower one, or without any record, the incident ends."""
    state = RatioState(FIVE_PERCENT)
    for _ in range(4):
        state.add(MATCH, 0.0)
    for _ in range(96):
        state.add(OTHER, 0.0)
    assert state.judge(0.0, is_open=True) == Judgement()
    for _ in range(34):
        state.add(OTHER, 1.0)
    assert state.judge(1.0, is_open=True).ends
    assert state.judge(1000.0, is_open=True) == Judgement(ends=True, text="0 % of 0 within 5 min")


def test_an_open_incident_is_looked_at_again() -> None:
    """What leaves the window can end it; one that is not open needs a record to begin."""
    state = RatioState(FIVE_PERCENT)
    assert state.due(100.0, is_open=False) is None
    assert state.due(100.0, is_open=True) == 105.0
    state.configure(Ratio(above=0.5, below=0.5, at_least=1, within=300.0))
    state.postpone(1000.0, 1000.0)
    state.add(MATCH, 1000.0)
    assert state.judge(1000.0, is_open=False).begins
    assert len(state.dump()) == 1  # type: ignore[arg-type]  # of parts


# Quantiles


@given(st.lists(st.floats(0.0, 4.0), min_size=20, max_size=100))
def test_a_quantile_is_exact(values: Sequence[float]) -> None:
    """An incident begins where the value at that rank is above the bound, and ends where it is not above the other."""
    state = QuantileState(P95)
    for value in values:
        state.add(took(value), 0.0)
    judgement = state.judge(0.0, is_open=False)
    rest = (1.0 - P95.quantile) * len(values)
    assert judgement.begins == (sum(value > 2.0 for value in values) > rest)
    assert judgement.ends == (sum(value > 1.5 for value in values) <= rest)


def test_what_is_said_of_a_quantile() -> None:
    """How many values are above the bound, in its unit; values that are no numbers do not count."""
    state = QuantileState(P95)
    for number in range(40):
        assert state.add(took(3 if number < 4 else 1), 0.0)
    assert not state.add(took("soon"), 0.0)
    assert not state.add(MATCH, 0.0)
    text = "p95 of duration is above 2 s: 10 % of 40 within 5 min above 2 s"
    assert state.judge(0.0, is_open=False).text == text
    assert state.judge(1000.0, is_open=True).text == "p95 of duration: 0 % of 0 within 5 min above 2 s"
    state.configure(Quantile(0.5, "size", 1000.0, 1000.0, 1, 300.0))
    assert state.judge(1000.0, is_open=True).text == "p50 of size: 0 % of 0 within 5 min above 1000"


# Spikes


def counted(state: SpikeState, n: int, now: float) -> Judgement:
    for _ in range(n):
        state.add(MATCH, now)
    return state.judge(now, is_open=False)


def test_a_spike_is_compared_with_the_time_before() -> None:
    """Three times as many as in the window before begin an incident, once both windows are known."""
    state = SpikeState(TRIPLE, 0.0)
    assert not counted(state, 30, 0.0).begins
    assert not counted(state, 29, 65.0).begins, "the window before is not whole yet"
    state = SpikeState(TRIPLE, -1000.0)
    counted(state, 10, 0.0)
    assert not counted(state, 29, 65.0).begins
    assert counted(state, 1, 66.0) == Judgement(begins=True, text="30 within 1 min, 10 before")
    assert counted(SpikeState(TRIPLE, -1000.0), 9, 0.0).begins is False


def test_a_spike_ends_as_it_began() -> None:
    """It ends when there are fewer than would have begun it, whatever the window before has by then."""
    state = SpikeState(TRIPLE, -1000.0)
    counted(state, 10, 0.0)
    assert counted(state, 40, 65.0).begins
    assert not state.judge(120.0, is_open=True).ends
    assert state.judge(126.0, is_open=True) == Judgement(ends=True, text="0 within 1 min, 10 before")
    assert state.due(126.0, is_open=False) is None
    assert state.due(126.0, is_open=True) == 127.0


def test_after_downtime_a_spike_begins_anew() -> None:
    """What nobody counted is no quiet time; a moment, as for a new master, does not matter."""
    state = SpikeState(TRIPLE, -1000.0)
    counted(state, 10, 0.0)
    state.postpone(0.5, 0.0)
    assert counted(state, 30, 65.0).begins
    state.postpone(100.0, 165.0)
    assert not counted(state, 1000, 165.0).begins
    assert not counted(state, 1000, 284.0).begins
    assert counted(state, 3000, 286.0).begins


def test_a_spike_goes_on_in_another_process() -> None:
    """Both windows are written down, and what the present one is compared with."""
    state = SpikeState(TRIPLE, -1000.0)
    counted(state, 10, 0.0)
    counted(state, 29, 65.0)
    again = SpikeState.load(TRIPLE, state.dump())
    assert again.dump() == state.dump()
    assert counted(again, 1, 66.0).begins
    again.configure(Spike(times=5.0, at_least=1, within=60.0))
    assert not again.judge(66.0, is_open=False).begins


@pytest.mark.parametrize("width", [0.1, 1.0, 7.3])
def test_what_leaves_one_window_enters_the_one_before(width: float) -> None:
    """For a window's time it counts as before, then not at all."""
    texts = []
    for times in (0.9, 1.1, 1.9, 2.1):
        state = SpikeState(Spike(2.0, 1, width * PARTS), -1e9)
        counted(state, 5, 1000.0)
        texts.append(counted(state, 11, 1000.0 + width * PARTS * times).text)
    assert [text.split(", ")[1] for text in texts] == ["0 before", "5 before", "5 before", "0 before"]
