"""The plan goes from the command line to the supervisor and to every master."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alarm_mw.supervisor.plan import Plan


@pytest.fixture
def plan() -> Plan:
    return Plan(
        command=["server", "--name", "\udcff", "ä"],
        master_argv=["python", "-m", "somewhere"],
        socket="/run/x",
        run_id="1",
        server_env={"A": "b"},
        shutdown_timeout=2.5,
        master_fds=[7],
        settings={"rules": [1, {"deep": None}]},
    )


def test_read(plan: Plan) -> None:
    """A plan can be read as often as there are masters."""
    fd = plan.write()
    assert [Plan.read(fd), Plan.read(fd)] == [plan, plan]
    os.close(fd)


def test_stays_open_over_exec(plan: Plan) -> None:
    """The plan's descriptor is there in the program that is executed next."""
    fd = plan.write()
    command = [sys.executable, "-c", f"import os; print(len(os.pread({fd}, 10000, 0)) > 100)"]
    assert subprocess.run(command, close_fds=False, check=True, stdout=subprocess.PIPE).stdout == b"True\n"
    os.close(fd)


def test_spares_standard_descriptors() -> None:
    """Where standard output is closed, the plan does not take its place."""
    program = "import os, sys\nfrom alarm_mw.supervisor.plan import Plan\nos._exit(Plan([], [], '', '').write())"
    command = ["sh", "-c", 'exec "$0" -c "$1" >&- <&-', sys.executable, program]
    assert subprocess.run(command, check=False).returncode >= 3
