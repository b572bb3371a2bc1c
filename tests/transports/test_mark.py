"""The mark of our own requests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alarm_mw.transports.mark import HEADER, firing_headers, is_signed


def test_our_own_mark_is_known() -> None:
    """A request that delivers a firing names it twice: for its receiver, and signed for our middleware."""
    headers = firing_headers("12-ab-3.jabber")
    assert headers["Idempotency-Key"] == "12-ab-3.jabber"
    assert is_signed(headers[HEADER])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_mark_of_a_master_is_known_to_workers_with_fewer_rights() -> None:
    """Root's master makes the request, and a worker that runs as somebody else answers it."""
    program = (
        "import os\nfrom alarm_mw.transports.mark import is_signed\n"
        f"os.setuid(65534)\nassert is_signed({firing_headers('1.a')[HEADER]!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


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
