"""The master process: ``python -m alarm_mw.master``, started by the supervisor and by it alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys

from alarm_mw.errors import ConfigError
from alarm_mw.master.link import Inheritance
from alarm_mw.master.process import MasterProcess
from alarm_mw.supervisor.plan import Plan

#: Signals to a whole process group or unit, meant for the server: the master ends when its work is done.
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTOU)


def main() -> int:
    """Run until the supervisor says stop, or is gone and the server's output has ended."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="alarm-mw: %(levelname)s: %(message)s")
    plan = Plan.read(int(os.environ["ALARM_MW_PLAN_FD"]))
    inheritance = Inheritance.read(os.environ)
    try:
        process = MasterProcess(plan, inheritance)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    with contextlib.closing(process):
        process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
