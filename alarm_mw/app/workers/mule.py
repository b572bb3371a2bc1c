"""A mule's process: ``python -m alarm_mw.app.workers.mule NUMBER MASTER PROGRAM``, started only by the master."""

from __future__ import annotations

import importlib
import logging
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from alarm_mw.app.current_master import buffer_lines
from alarm_mw.app.workers import mules, uwsgi_module
from alarm_mw.system.linux import PR_SET_PDEATHSIG, prctl
from alarm_mw.system.log_lines import start_logging
from alarm_mw.system.permissions import other_writers

log = logging.getLogger(__name__)

#: A terminal and a service manager send these to everybody, and mean the server: the master ends its mules.
_IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

#: The exit status of a mule whose program raised.
FAILED = 1


def main() -> NoReturn:
    """Run the program; then, as in uWSGI, wait for signals."""
    number, master, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    _die_with(master)
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    start_logging("WARNING", f"mule {number}: ")
    buffer_lines()
    mules.become_mule(number)
    sys.modules["uwsgi"] = uwsgi_module
    _run_to_its_end(program)
    while True:
        signal.pause()


def _die_with(master: int) -> None:
    """Leave no mule behind when the master is killed: its successor starts its own."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != master:
        sys.exit(FAILED)


def _run_to_its_end(program: str) -> None:
    try:
        _run(program)
    except SystemExit as wish:
        mules.end(has_failed=wish.code not in (None, 0))
        raise
    except BaseException:  # noqa: BLE001  # whatever the program raised, it has failed
        traceback.print_exc()
        mules.end(has_failed=True)
        sys.exit(FAILED)
    mules.end(has_failed=False)


def _run(program: str) -> None:
    """Run a file, a module, or a function written as ``package.module:function``; nothing for an empty name."""
    module, colon, function = program.partition(":")
    sys.argv = [program]
    sys.path[:0] = _working_directory()
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).absolute().parent))
        runpy.run_path(program, run_name="__main__")
    elif colon:
        getattr(importlib.import_module(module), function)()
    elif program:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _working_directory() -> list[str]:
    """Return the working directory, where uWSGI's mules find modules, unless others could put theirs there."""
    path = Path.cwd()
    facts = path.stat()
    writers = other_writers(facts.st_uid, facts.st_gid, facts.st_mode)
    if writers:
        log.warning("modules in the working directory are not imported, since %s may write %s", writers, path)
    return [] if writers else [str(path)]


if __name__ == "__main__":
    main()
