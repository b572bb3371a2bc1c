"""The workers' connections that the supervisor holds for the next master."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from alarm_mw.supervisor.carriers.connections import Connections


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


def test_drop(pipe: tuple[int, int]) -> None:
    """A dropped connection is closed."""
    connections = Connections()
    connections.keep("a", pipe[1])
    assert connections.held == {"a": pipe[1]}
    connections.drop("a")
    connections.drop("a")
    assert connections.held == {}
    assert os.read(pipe[0], 1) == b""


def test_same_token(pipe: tuple[int, int]) -> None:
    """A token that comes again stands for the new connection; the old one is closed."""
    connections = Connections()
    connections.keep("a", pipe[1])
    again, other = os.pipe()
    connections.keep("a", other)
    assert os.read(pipe[0], 1) == b""
    assert connections.held == {"a": other}
    connections.drop("a")
    os.close(again)


def test_limit(pipe: tuple[int, int]) -> None:
    """Workers cannot use up the supervisor's descriptors."""
    connections = Connections()
    connections.limit = 0
    connections.keep("a", pipe[1])
    assert connections.held == {}
    assert os.read(pipe[0], 1) == b""
