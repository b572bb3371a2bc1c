"""The engine that settings describe."""

from __future__ import annotations

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.settings import Records, Settings
from alarm_mw.patterns.prefilter import BEGINNING

HEADER = b"Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("tracebacks", "assembles", "is_found"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_where_tracebacks_begin_is_found(tracebacks: bool, assembles: bool, is_found: bool) -> None:
    """The prefilter finds the beginnings of tracebacks if these are one record and somebody assembles them."""
    engine = engine_of(Settings(records=Records(tracebacks=tracebacks)), assembles=assembles)
    assert [hit.rules for hit in engine.prefilter.scan(b"a line\n" + HEADER)] == [(BEGINNING,)] * is_found
