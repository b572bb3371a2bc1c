"""The monitor `process`, with real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from alarm_mw.model.errors import OptionError
from alarm_mw.monitors.process import Absence, ProcessMonitor, ProcessOptions

#: Stands in the command lines of the processes of these tests.
MARK = "counted-by-test-process"

OFTEN = 0.01


@contextmanager
def child() -> Iterator[None]:
    """Run a process that waits until the end of the block."""
    program = [sys.executable, "-c", "import sys; sys.stdin.read()", MARK]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        yield
        process.stdin.close()


def watching(**options: Any) -> tuple[type[ProcessMonitor], ProcessOptions]:
    return ProcessMonitor, ProcessOptions(command=MARK, missing_for=0.02, interval=OFTEN, **options)


def test_a_child_that_is_missing(make_stage: Callable[[], Any]) -> None:
    """It is told when the process ends, and over when it is started again."""

    async def scenario() -> None:
        stage = make_stage()
        stage.has_incidents = True
        with ExitStack() as first:
            first.enter_context(child())
            async with stage.running(watching()):
                assert (await stage.reported())[0] == {}
                first.close()
                wrong, _ = await stage.reported()
                assert wrong == {"": f"0 processes with {MARK!r} in their command are running, 1 expected".encode()}
                with child():
                    wrong, over = await stage.reported()
                    assert wrong == {}
                    assert over == {"": f"1 processes with {MARK!r} in their command are running".encode()}

    asyncio.run(scenario())


def test_fewer_children_than_expected(make_stage: Callable[[], Any]) -> None:
    """`at_least` says how many there must be, of the server's; processes of others do not count."""

    async def scenario() -> None:
        stage = make_stage()
        stage.has_incidents = True
        with child():
            async with stage.running(watching(at_least=2)):
                wrong, _ = await stage.reported()
                assert wrong[""].endswith(b"are running, 2 expected")

    asyncio.run(scenario())


def test_a_server_that_has_ended_has_no_children(make_stage: Callable[[], Any]) -> None:
    """Under `run`, the children of the master are never taken for the server's."""

    async def scenario() -> None:
        stage = make_stage()
        stage.has_incidents = True
        stage.server = 2**22 + 1
        with child():
            async with stage.running(watching()):
                stage.server = None
                wrong, _ = await stage.reported()
                assert wrong[""].startswith(b"0 processes")

    asyncio.run(scenario())


def test_a_short_absence_is_none() -> None:
    """Only processes that are missing for the whole time are told of; it begins anew with each that is running."""
    absence = Absence(ProcessOptions(command="x", missing_for="30s"))
    looks = [(0, 0.0), (0, 29.0), (1, 29.5), (0, 40.0), (0, 69.0), (0, 70.0), (0, 90.0), (1, 91.0)]
    assert [absence.look(found, now) for found, now in looks] == [None, None, False, None, None, True, True, False]


@pytest.mark.parametrize("missing_for", ["soon", "0s", 0])
def test_a_time_that_is_none(missing_for: str | float) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match="missing_for: expected a time"):
        ProcessOptions(command="x", missing_for=missing_for)


def test_it_is_none_of_uwsgis() -> None:
    """The error says where it can be configured."""
    with pytest.raises(OptionError, match="uWSGI has no monitor 'process'"):
        ProcessMonitor.from_uwsgi("x")
