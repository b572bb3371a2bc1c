"""The master process: ``python -m alarm_mw.master``, started by the supervisor and by it alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading

from alarm_mw.master.link import Inheritance
from alarm_mw.master.process import MasterProcess
from alarm_mw.supervisor.plan import Plan
from alarm_mw.system.linux import PR_SET_DUMPABLE, prctl
from alarm_mw.system.log_lines import start_logging

#: Signals to a whole process group or unit, meant for the server: the master ends when its work is done.
OUTLIVED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP)

log = logging.getLogger("alarm_mw.master")


def main() -> int:
    """Run until the supervisor says stop, or is gone and the server's output has ended."""
    # The configuration's secrets are in its memory: no core is written, and no process of this user's reads them there.
    prctl(PR_SET_DUMPABLE, 0)
    outlive_signals()
    threading.excepthook = end_process
    start_logging("WARNING")
    logging.getLogger("alarm_mw").setLevel(logging.INFO)  # what is over is said as well, but not what libraries do
    plan_fd = int(os.environ["ALARM_MW_PLAN_FD"])
    plan = Plan.read(plan_fd)
    for descriptor in (plan_fd, plan.lock):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    with contextlib.closing(MasterProcess(plan, Inheritance.read(os.environ))) as process:
        process.run()
    return 0


def outlive_signals() -> None:
    """Let signals that are meant for the server do nothing to this process, and what they do to its children.

    An ignored signal would stay ignored in the commands of `cmd:`, which a shell cannot change. A handler is reset
    when they are executed; system calls go on behind it.
    """
    for number in OUTLIVED:
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)
    # Only ignored does it let a background job write to the terminal; to a session of its own, as a command's, it is
    # never sent.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)


def end_process(args: threading.ExceptHookArgs) -> None:
    """End this process when one of its threads has failed: the supervisor starts another, which has them all.

    Without the thread, output, records or firings would wait here for ever.
    """
    if args.thread is None or not args.thread.name.startswith("alarm-mw-"):
        threading.__excepthook__(args)
        return
    try:
        log.critical("the thread %s has failed; a new master is needed", args.thread.name, exc_info=args.exc_value)
    finally:
        os._exit(os.EX_SOFTWARE)


if __name__ == "__main__":
    sys.exit(main())
