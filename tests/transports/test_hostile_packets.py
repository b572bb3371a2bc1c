"""A process of the server's that was taken over sends what none of ours would: the master goes on."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.delivery.outbox.outbox import Outbox
from alarm_mw.engine.ledger import MAX_COUNT, MAX_SOURCES, Ledger, imbalances
from alarm_mw.master.worker.metrics import MAX_VALUE, Metrics, MetricsFile
from alarm_mw.model.types import Record
from alarm_mw.transports.subscription import MAX_HANDLED, Ask, FromProcess, Register, frame, from_process
from alarm_mw.transports.wire import MAX_ECHOES, MAX_FACTS, MAX_PARTS, MetricChange, Packet, decode, is_countable

pack = msgspec.msgpack.encode

RECORD = Record(b"line\n", "logging", 1.0, "1-a-1", 7)


def facts(**changes: object) -> Packet:
    return Packet(msgspec.structs.replace(RECORD, **changes))


@pytest.mark.parametrize(
    "packet",
    [
        Packet(metrics=(MetricChange("a", 2**63),)),
        Packet(metrics=(MetricChange("a b", 1),)),
        Packet(metrics=(MetricChange("a" * 201, 1),)),
        facts(time=math.nan),
        facts(time=math.inf),
        facts(time=-1.0),
        facts(time=1e12),
        facts(pid=-1),
        facts(pid=2**40),
        facts(level=2**63),
        facts(key="1\r\nBcc: everybody@example.org"),
        facts(key=""),
        facts(key="k" * 201),
        facts(source="<b>logging</b>" * 3),
        facts(logger="l" * 1025),
        facts(call="c" * 1025),
        facts(source="stdout"),
        facts(source="stderr"),
        facts(echoes=[b""] * (MAX_ECHOES + 1)),
        facts(loose_echo=[b""] * (MAX_PARTS + 1)),
        facts(fields=dict.fromkeys(map(str, range(MAX_FACTS + 1)), "")),
        facts(held=["r"] * (MAX_FACTS + 1)),
    ],
    ids=lambda packet: repr(packet)[:200],
)
def test_what_would_break_the_books_is_not_taken(packet: Packet) -> None:
    """Columns, numbers, times and names that no master could count, write down or show are none of ours."""
    assert decode(pack(packet)) is None
    assert decode(pack(Packet(RECORD))) is not None


@pytest.mark.parametrize(
    ("source", "outcome", "n"),
    [
        ("logging", "column", 1),
        ("logging", "skipped:reason", 1),
        ("logging", "lines", 1),
        ("logging", "screened_out", -1),
        ("logging", "screened_out", 2**63),
        ("log\ning", "screened_out", 1),
        ("x" * 33, "screened_out", 1),
    ],
)
def test_what_no_process_counts_is_not_counted(source: str, outcome: str, n: int) -> None:
    """Names and numbers in the memory that a process shares are looked at before they come into the ledger."""
    assert not is_countable(source, outcome, n)
    assert is_countable("logging", "skipped:queue_full", 1)


#: As MessagePack, of any kind, nested.
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=20,
)

#: Right in their form, and wild in their values.
wild = st.builds(
    Packet,
    record=st.none()
    | st.builds(
        Record,
        message=st.binary(max_size=99),
        source=st.text(max_size=40),
        time=st.floats(),
        key=st.text(max_size=9),
        pid=st.integers(-(2**63), 2**63),
        level=st.none() | st.integers(-(2**63), 2**63),
        fields=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
        echoes=st.lists(st.binary(max_size=9), max_size=3).map(tuple),
    ),
    metrics=st.lists(st.builds(MetricChange, st.text(max_size=9), st.integers(-(2**63), 2**63), st.booleans())).map(
        tuple
    ),
)


@given((anything | wild).map(pack) | st.binary(max_size=200))
def test_whatever_is_taken_can_be_counted_and_kept(data: bytes) -> None:
    """Of any bytes, decoding raises nothing; what it lets through the metrics bear."""
    packet = decode(data)
    if packet is None:
        return
    metrics = Metrics()
    metrics.change(packet.metrics)
    pack(metrics.values())


@given((anything.map(pack) | st.binary(max_size=99)) | st.builds(Ask, st.integers(0, 9), timeout=st.floats()).map(pack))
def test_no_packet_of_a_subscriber_does_harm(data: bytes) -> None:
    """Whatever comes over the subscribers' socket, it is a sound packet or a `ValueError`."""
    try:
        packet = from_process(data)
    except (msgspec.MsgspecError, ValueError):
        return
    assert not isinstance(packet, Ask) or packet.timeout is None or packet.timeout >= 0
    frame(packet)


@pytest.mark.parametrize(
    "packet",
    [
        Register(0, frozenset({(17, "workerx")})),
        Register(0, frozenset({(17, "everybody")})),
        Register(0, frozenset({(256, "worker")})),
        Register(0, frozenset((17, f"worker{n}") for n in range(1, MAX_HANDLED + 2))),
        Ask(1, timeout=math.nan),
        Ask(1, timeout=-1.0),
    ],
    ids=["no worker", "no target", "no signal", "too many", "no time", "time before now"],
)
def test_no_process_can_ask_for_what_is_not_there(packet: FromProcess) -> None:
    """A target that cannot be read would keep the signal from everybody, and a timer without a time stop the others."""
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        from_process(pack(packet))


def test_metrics_stop_at_the_largest_number(tmp_path: Path) -> None:
    """A metric that would grow beyond what can be written down stays there, and is written down."""
    metrics = Metrics(MetricsFile(tmp_path / "metrics", "run"))
    metrics.change([MetricChange("a", MAX_VALUE), MetricChange("a", MAX_VALUE), MetricChange("b", -MAX_VALUE)])
    metrics.change([MetricChange("b", -MAX_VALUE)])
    assert metrics.values() == MetricsFile(tmp_path / "metrics", "run").load() == {"a": MAX_VALUE, "b": -MAX_VALUE}


def test_counts_stop_at_the_largest_number(tmp_path: Path) -> None:
    """A count that would grow beyond what SQLite keeps stays there: the outbox can be written all the same."""
    outbox = Outbox(tmp_path / "outbox")
    outbox.ledger.source("logging", "lines", MAX_COUNT)
    outbox.ledger.source("logging", "lines", 5)
    outbox.flush()
    outbox.close()
    again = Outbox(tmp_path / "outbox")
    assert again.ledger.books()["sources"]["logging"]["lines"] == MAX_COUNT
    again.close()


def test_names_of_sources_have_an_end() -> None:
    """Whoever sends records under ever new names fills one row, and neither memory nor the disk."""
    ledger = Ledger()
    for number in range(3 * MAX_SOURCES):
        ledger.source(f"s{number}", "lines")
        ledger.source(f"s{number}", "screened_out")
    books = ledger.books()
    assert len(books["sources"]) == MAX_SOURCES + 1
    assert books["sources"]["others"]["lines"] == 2 * MAX_SOURCES
    assert imbalances(books, {}) == []
