"""What goes over a transport: records, alarms past the rules, and changes of metrics."""

from __future__ import annotations

import re

import msgspec

from alarm_mw.model.types import Reason, Record

#: Ledger columns of each source, such as ``{"logging": {"lines": 3, "screened_out": 3}}``.
Counts = dict[str, dict[str, int]]

#: The largest packet that a socket takes with the kernel's usual limits, in bytes.
MAX_PACKET = 128 * 1024

#: How many changes of metrics fit into one, whatever their names.
MAX_CHANGES = 500

#: How much of a record's message is sent at most, in bytes; the rest is cut off.
MAX_MESSAGE = 64 * 1024

#: How much of a logger's name is sent at most, in characters.
MAX_NAME = 1024

#: The longest name of a source, in characters.
MAX_SOURCE = 32

#: How many lines a record announces at most, and how many parts of one whose form is not known: each of these is looked
#: for in every line that fires.
MAX_ECHOES = 1000
MAX_PARTS = 64

#: How many fields a record has at most, and how many conditions of a request are named.
MAX_FACTS = 1000

#: What only the master itself sees.
_ITS_OWN = frozenset({"stdout", "stderr"})

#: The largest number of lines in one of the counts.
MAX_COUNT = 2**48

#: The largest process id, and level, either way.
_MAX_SMALL = 2**31

#: Beyond the year 9999 no clock shows a time.
_MAX_TIME = 253_402_300_000.0

#: What the application counts of its lines.
_OUTCOMES = frozenset({"screened_out", *(f"skipped:{reason}" for reason in Reason)})

#: The name of a source, of a metric, a record's key: they end up in files, headers and tables.
_SOURCE = re.compile(rf"[!-~]{{1,{MAX_SOURCE}}}")
_METRIC = re.compile(r"[!-~]{1,200}")
_KEY = re.compile(r"[!-~]{1,200}")


class MetricChange(msgspec.Struct, array_like=True, frozen=True):
    """What becomes of one of the application's metrics."""

    name: str
    value: int
    #: Add `value` to what is there, rather than put it in its place.
    adds: bool = True


class Packet(msgspec.Struct, array_like=True, frozen=True):
    """One message from an application process to its master."""

    record: Record | None = None
    #: Fire this alarm with the record's message, past the rules; None: apply the rules to the record.
    alarm: str | None = None
    metrics: tuple[MetricChange, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """Return the packet as bytes."""
    return _encoder.encode(packet)


def decode(data: bytes) -> Packet | None:
    """Return the packet, or None for what none of ours would send: the process at the other end may be anybody's."""
    try:
        packet = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return packet if _is_ours(packet) else None


def _is_ours(packet: Packet) -> bool:
    """Return whether nothing in it breaks the master's books, names or clocks."""
    return (packet.record is None or _is_record(packet.record)) and all(map(_is_change, packet.metrics))


def _is_record(record: Record) -> bool:
    return (
        _SOURCE.fullmatch(record.source) is not None
        and record.source not in _ITS_OWN
        and _KEY.fullmatch(record.key) is not None
        and 0.0 <= record.time < _MAX_TIME
        and 0 <= record.pid < _MAX_SMALL
        and (record.level is None or -_MAX_SMALL < record.level < _MAX_SMALL)
        and len(record.logger) <= MAX_NAME
        and len(record.call) <= MAX_NAME
        and len(record.echoes) <= MAX_ECHOES
        and len(record.loose_echo) <= MAX_PARTS
        and len(record.fields) <= MAX_FACTS
        and len(record.held) <= MAX_FACTS
    )


def is_countable(source: str, outcome: str, n: int) -> bool:
    """Return whether the ledger bears this count of an outcome of a source's lines."""
    return _SOURCE.fullmatch(source) is not None and outcome in _OUTCOMES and 0 <= n <= MAX_COUNT


def _is_change(change: MetricChange) -> bool:
    return _METRIC.fullmatch(change.name) is not None and -(2**63) <= change.value < 2**63
