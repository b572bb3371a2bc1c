"""A real Redis for all tests, and others that a test may harm."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis_server import RedisServer

_fleets = itertools.count(1)


@pytest.fixture(scope="session")
def redis_directory() -> Iterator[Path]:
    """Return a short path: a unix socket's has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="alarm-mw-redis-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def redis(redis_directory: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Give a Redis, or the server that a test names, which tests share; each has a fleet of its own."""
    server = RedisServer(redis_directory, program=getattr(request, "param", "redis-server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def new_fleet() -> str:
    """Return the name of a fleet that nobody has used: its first generation waits for what members know."""
    return f"fleet-{next(_fleets)}"


@pytest.fixture
def fleet(redis: RedisServer, new_fleet: str) -> str:
    """Return the name of a fleet without machines, which has existed for a while."""
    redis.cli("HSET", f"{{alarm_mw:{new_fleet}}}:gen", "id", "1", "grace", "0", "run", "")
    return new_fleet


@pytest.fixture
def new_redis(redis_directory: Path) -> Iterator[Callable[..., RedisServer]]:
    """Return a function that starts a Redis that a test may stop."""
    with ExitStack() as stack:

        def make(*options: str, program: str = "redis-server") -> RedisServer:
            server = RedisServer(redis_directory, options, program)
            stack.callback(server.stop)
            server.start()
            return server

        yield make
