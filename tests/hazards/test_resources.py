"""No descriptors, no space, no place, no streams, and a master that does not answer."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

#: Takes every descriptor there is, logs, gives them back, and logs until that arrives.
TAKE_ALL = """
import logging, resource, socket
import alarm_mw, alarm_mw.handler
from alarm_mw.transports import unix
unix.RECONNECT_PAUSE = 0.0
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True: taken.append(socket.socket())
except OSError: pass
"""

NO_DESCRIPTORS = """
for n in range(3): logger.error("TERRIBLE %d", n)
for each in taken: each.close()
logger.error("TERRIBLE last")
"""

#: Stops the master, logs more than the socket takes, and lets the master go on.
STOPPED_MASTER = """
import json, pathlib, signal, time
from alarm_mw.app import current_master
from alarm_mw.transports.control import ask_patiently
ask_patiently(os.environ["ALARM_MW_SOCKET"], "/status")
family = pathlib.Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
masters = [int(pid) for pid in family if b"alarm_mw.master" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
for master in masters: os.kill(master, signal.SIGSTOP)
slowest = dropped = logged = 0
padding = "x" * 4000
while dropped < 50:
    began = time.perf_counter()
    took = alarm_mw.alarm("a", f"TERRIBLE {logged} {padding}")
    slowest = max(slowest, time.perf_counter() - began)
    dropped += not took
    logged += 1
for master in masters: os.kill(master, signal.SIGCONT)
while not alarm_mw.alarm("a", "TERRIBLE last"): dropped, logged = dropped + 1, logged + 1
print(json.dumps({"masters": len(masters), "slowest": slowest, "dropped": dropped, "logged": logged + 1}))
"""


def read_only(directory: str) -> list[str]:
    """Return what stands before a command for which a directory is an empty file system that cannot be written."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system forbids namespaces")
    return [*namespace, "sh", "-c", f'mount -t tmpfs -o ro,mode=755 none {directory} && exec "$@"', "sh"]


def test_no_descriptor_is_left_when_the_master_is_to_be_reached(hazard: Any) -> None:
    """The records are dropped and counted, no log call fails, and the next one arrives."""
    hazard.supervised(NO_DESCRIPTORS, first=TAKE_ALL)
    assert hazard.fired() == ["TERRIBLE last"]
    assert hazard.books()["sources"]["logging"] == {
        "lines": 4,
        "screened_out": 0,
        "matched": 1,
        "skipped": {"no_master": 3},
        "oversized": 0,
        "lost_bytes": 0,
    }


def test_few_descriptors_are_enough(hazard: Any) -> None:
    """With 64 descriptors for each process, everything works."""
    hazard.supervised('logger.error("TERRIBLE")', prefix=["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"])
    assert hazard.fired() == ["TERRIBLE"]


def test_a_stopped_master_stops_nobody(hazard: Any) -> None:
    """What the socket does not take is dropped at once, and the count arrives when the master goes on."""
    told = json.loads(hazard.supervised(STOPPED_MASTER, options=["--alarm-msg-size", "100"]))
    assert told["masters"] == 1
    assert told["slowest"] < 1.0
    books = hazard.books()
    row, alarm = books["sources"]["api"], books["alarms"]["a"]
    assert row["lines"] == told["logged"]
    assert row["skipped"] == {"queue_full": told["dropped"]}
    assert row["matched"] == alarm["fired"] == told["logged"] - told["dropped"]
    # What a busy machine does not deliver before the end waits for the next start.
    assert (len(hazard.fired()), alarm["dead"], alarm["dropped"]) == (alarm["fired"] - alarm["waiting"], {}, {})


@pytest.mark.parametrize("how", ["supervised", "alone"])
def test_no_temporary_folder(hazard: Any, how: str) -> None:
    """Where nothing can be written outside of the state directory, alarms are fired all the same."""
    nowhere = ["env", "TMPDIR=/proc/nowhere", "HOME=/proc/nowhere", "XDG_CACHE_HOME=/proc/nowhere"]
    getattr(hazard, how)('logger.error("TERRIBLE")', prefix=[*read_only("/var/tmp"), *nowhere])
    assert hazard.fired() == ["TERRIBLE"]


def test_a_state_directory_that_cannot_be_written(hazard: Any, tmp_path: Path) -> None:
    """The server is not started, and the message says what to do: nothing could outlive a restart there."""
    (tmp_path / "state").mkdir()
    with pytest.raises(AssertionError, match=r"the state directory cannot be used: .*Read-only file system"):
        hazard.supervised('print("started")', prefix=read_only(f"{tmp_path}/state"))
    assert "started" not in hazard.errors


@pytest.mark.parametrize("streams", ["<&-", ">&-", "<&- >&-"])
@pytest.mark.parametrize("how", ["supervised", "alone"])
def test_closed_streams(hazard: Any, how: str, streams: str) -> None:
    """Without standard input and output, no file takes their place, and alarms are fired."""
    getattr(hazard, how)('logger.error("TERRIBLE")', prefix=["sh", "-c", f'exec "$@" {streams}', "sh"])
    assert Counter(hazard.fired()) == Counter(["TERRIBLE"])


def test_a_program_that_closes_every_descriptor(hazard: Any) -> None:
    """What is its own master can deliver nothing more then, and says so; log calls and the end work all the same."""
    hazard.alone('os.closerange(3, 256)\nlogger.error("TERRIBLE")\nprint("the end")')
    assert "the event loop of the alarms" in hazard.errors
    assert "Exception ignored in atexit" not in hazard.errors
