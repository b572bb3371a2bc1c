"""What goes over the socket comes out the same, and what is no packet does no harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.model.types import Record
from alarm_mw.transports.wire import Packet, decode, encode

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
records = st.builds(
    Record,
    message=st.binary(max_size=100),
    source=names,
    time=st.floats(0, 1e10),
    key=names,
    pid=st.integers(0, 2**31 - 1),
    level=st.none() | st.integers(0, 100),
    logger=texts,
    fields=st.dictionaries(texts, texts, max_size=3),
    echoes=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    loose_echo=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
)
columns = st.sampled_from(["lines", "screened_out", "skipped:queue_full"])


@given(st.builds(Packet, record=st.none() | records, alarm=st.none() | texts))
def test_a_packet_comes_out_as_it_went_in(packet: Packet) -> None:
    """Every fact of a record reaches the master."""
    assert decode(encode(packet)) == packet


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_packet(data: bytes) -> None:
    """Whatever arrives on the socket, decoding raises nothing."""
    packet = decode(data)
    assert packet is None or isinstance(packet, Packet)
