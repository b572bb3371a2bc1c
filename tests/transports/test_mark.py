"""The mark of our own requests."""

from __future__ import annotations

import pytest

from alarm_mw.transports.mark import HEADER, firing_headers, is_signed


def test_our_own_mark_is_known() -> None:
    """A request that delivers a firing names it twice: for its receiver, and signed for our middleware."""
    headers = firing_headers("12-ab-3.jabber")
    assert headers["Idempotency-Key"] == "12-ab-3.jabber"
    assert is_signed(headers[HEADER])


@pytest.mark.parametrize(
    "value", ["", " ", "x", "12-ab-3.jabber", "12-ab-3.jabber " + "0" * 32, "\xff \xff", "\ud800 x"]
)
def test_no_other_mark_counts(value: str) -> None:
    """What a client makes up does not hide its request."""
    assert not is_signed(value)


def test_a_signature_is_for_one_firing() -> None:
    """The signature of another firing does not do."""
    signature = firing_headers("1.a")[HEADER].rpartition(" ")[2]
    assert not is_signed(f"2.a {signature}")
