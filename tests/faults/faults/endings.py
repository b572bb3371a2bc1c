"""Processes of the application that log and end at once, or lose their descriptors: each record is in the books."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from waiting import LIMIT

from faults.ground import ALARM, RULE, START, wait_until
from faults.receiver import Receiver
from faults.row import Outbox, Row, judge

#: How many children log at the same time, and how many records each of them.
CHILDREN = 2
RECORDS = 1000

NOBODY = 65534

AS_ANOTHER = "sys.exit as another user"

#: How a child ends.
WAYS = {
    "sys.exit": "sys.exit()",
    "os._exit": "os._exit(0)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    AS_ANOTHER: "sys.exit()",
}

PROGRAM = """
import logging, os, signal, sys
import alarm_mw

logger = logging.getLogger("shop")
logger.propagate = False
logger.addHandler(alarm_mw.AlarmHandler())
logger.error("nothing")  # loads what somebody else may not be able to read
children = []
for number in range({children}):
    children.append(os.fork())
    if not children[-1]:
        if {other}:
            os.setgid({nobody})
            os.setuid({nobody})
        for n in range(number * {records}, (number + 1) * {records}):
            logger.error("TERRIBLE ALARM %d", n)
            logger.error("nothing")
        {end}
for child in children:
    os.waitpid(child, 0)
sys.stdin.read()
"""

CLOSING = """
import logging, os, resource, socket, sys
import alarm_mw

logger = logging.getLogger("shop")
logger.propagate = False
logger.addHandler(alarm_mw.AlarmHandler())
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
numbers = iter(range(1000))

def log():
    logger.error("TERRIBLE ALARM %d", next(numbers))

log()
for turn in range(20):
    os.closerange(3, 32)
    taken = []
    try:
        while turn % 2:
            taken.append(os.open(os.devnull, os.O_RDWR))
    except OSError:
        log()
    pairs = [] if turn % 2 else [socket.socketpair() for _ in range(8)]
    log()
    for descriptor in taken:
        os.close(descriptor)
    log()
    for ours, theirs in pairs:
        theirs.setblocking(False)
        try:
            print("taken for the master:", theirs.recv(100))
            os._exit(1)
        except BlockingIOError:
            pass
        ours.close()
        theirs.close()
sys.stdin.read()
"""

#: How many records that program logs.
SAID = 1 + 20 * 2 + 10


def endings(folder: Path, times: int) -> list[Row]:
    """Let children end in every way, right behind a burst that no socket holds."""
    folder.mkdir()
    return [_ended(way, end, times) for way, end in WAYS.items()]


def _ended(way: str, end: str, times: int) -> Row:
    is_other = way == AS_ANOTHER and os.geteuid() == 0
    program = PROGRAM.format(children=CHILDREN, records=RECORDS, other=is_other, nobody=NOBODY, end=end)
    rows: list[Row] = []
    for _ in range(times):
        outbox, received = _run(program, set(range(CHILDREN * RECORDS)))
        row = judge(f"children that end by {way}", 1, outbox, range(CHILDREN * RECORDS), received)
        lines, said = outbox.books["sources"]["logging"]["lines"], 2 * CHILDREN * RECORDS + 1
        wrong = (f"{said} records were logged, the ledger has {lines}",) if lines != said else ()
        rows.append(replace(row, complaints=(*row.complaints, *wrong)))
    return _sum(rows)


def closing(folder: Path, times: int) -> list[Row]:
    """Let a program close descriptors that it has not opened, and use up those that it may have."""
    folder.mkdir()
    rows: list[Row] = []
    for _ in range(times):
        outbox, received = _run(CLOSING, set(range(SAID)))
        rows.append(judge("descriptors closed by the application", 1, outbox, range(SAID), received))
    return [_sum(rows)]


def _run(program: str, raised: set[int]) -> tuple[Outbox, Mapping[int, Counter[str]]]:
    """Run a program until all that it raises has arrived; return what is in the outbox and what arrived."""
    with tempfile.TemporaryDirectory() as name, Receiver().serving() as hook:
        folder = Path(name)
        folder.chmod(0o711)  # one of the programs goes on as somebody else
        tables = ALARM.format(name="a", url=hook.url, give_up_after=600) + RULE.format(alarms=["a"])
        (folder / "a.toml").write_text(tables)
        alarm_mw = str(Path(sys.executable).with_name("alarm-mw"))
        command = [alarm_mw, "run", "--config", "a.toml", "--state-dir", "state", "--", sys.executable, "-c", program]
        with (folder / "errors").open("wb") as errors:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=errors, stderr=errors)
            try:
                wait_until(lambda: hook.has(raised) or process.poll() is not None, START, what="all that was raised")
            finally:
                process.communicate(timeout=LIMIT)
        assert process.returncode == 0, (folder / "errors").read_text()
        return Outbox.read(folder / "state" / "outbox.db"), hook.received


def _sum(rows: Sequence[Row]) -> Row:
    """Return one row for several of the same fault."""
    total = rows[0]
    for row in rows[1:]:
        total = Row(
            row.fault,
            total.times + row.times,
            total.accepted + row.accepted,
            total.delivered + row.delivered,
            total.again + row.again,
            total.dead + row.dead,
            dict(Counter(total.counted) + Counter(row.counted)),
            total.lost + row.lost,
            (*total.complaints, *row.complaints),
        )
    return total
