"""Starting a child."""

from __future__ import annotations

import subprocess
import sys

# Root may have any number of processes, so the limit is somebody else's.
NO_ROOM = """
import errno, os, resource
from alarm_mw.supervisor.process import spawn

def lowest_free():
    os.close(number := os.dup(0))
    return number

if os.geteuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
before = lowest_free()
try:
    spawn(dict, ["true"])
except OSError as error:
    assert error.errno == errno.EAGAIN, error
    print(lowest_free() - before)
"""


def test_no_room_for_a_child_costs_no_descriptors() -> None:
    """Who tries again and again, as the supervisor does, does not run out of them."""
    told = subprocess.run([sys.executable, "-c", NO_ROOM], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert told.stdout == b"0\n"
