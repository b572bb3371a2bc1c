"""gevent, which puts greenlets in the place of threads and locks, before we are imported or behind it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

PATCH = "from gevent import monkey; monkey.patch_all()\n"

GREENLETS = """
import gevent
def work(name):
    for n in range(20):
        logger.error("TERRIBLE %s.%d", name, n)
        gevent.sleep(0)
gevent.joinall([gevent.spawn(work, name) for name in range(10)], raise_error=True)
"""


@pytest.mark.parametrize("how", ["supervised", "alone"])
@pytest.mark.parametrize("when", ["before", "behind", "at work"])
def test_greenlets_log_as_threads_do(hazard: Any, how: str, when: str) -> None:
    """Each record of each greenlet is fired once, and the program ends."""
    first, program = {
        "before": (PATCH, GREENLETS),
        "behind": ("", PATCH + GREENLETS),
        "at work": ("", "logger.error('TERRIBLE first')\n" + PATCH + GREENLETS),
    }[when]
    getattr(hazard, how)(program, first=first)
    expected = [f"TERRIBLE {name}.{n}" for name in range(10) for n in range(20)]
    assert Counter(hazard.fired()) == Counter(expected + (["TERRIBLE first"] if when == "at work" else []))
