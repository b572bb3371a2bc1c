"""gunicorn: ``-c python:alarm_mw.gunicorn``, or two lines in your own configuration file.

While gunicorn loads its configuration it restarts under the supervisor: see `alarm_mw.app.launch.supervise`.
If anything else imports this module, it does nothing. gunicorn reads a module's names as settings; none here is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import Final

from alarm_mw.app.launch.supervise import REFUSED, Files, complain, may_restart, restart

_LOADER: Final = "gunicorn.app.base"
_RUNNING: Final = "gunicorn.arbiter"
_OURSELVES: Final = f"python:{__name__}"
_UNREAD: Final = (
    "gunicorn.conf.py is not read, since gunicorn reads one file only. To use both, omit the option -c, and "
    "begin the file with `from alarm_mw.gunicorn import supervise` and `supervise()`"
)


def supervise(
    config: Files | None = None, *, state_dir: str | os.PathLike[str] | None = None, required: bool = True
) -> None:
    """Do what `alarm_mw.supervise` does, from gunicorn's configuration file; nothing while gunicorn only checks it."""
    callers = _callers()
    if _LOADER not in callers or not may_restart():
        return
    if _RUNNING in callers or "GUNICORN_PID" in os.environ:
        complain("a running gunicorn cannot be supervised; stop and start it to enable alarms")
        return
    options = _options()
    if options.check_config or options.print_config:
        return
    if options.daemon:
        complain("gunicorn --daemon leaves the supervised process; start it without --daemon")
        sys.exit(REFUSED)
    if options.config == _OURSELVES and os.path.exists("gunicorn.conf.py"):
        complain(_UNREAD)
    restart(config, state_dir=state_dir, required=required)


def _callers() -> set[str]:
    """Return the names of the modules whose code is being executed."""
    return {frame.f_globals.get("__name__", "") for frame, _line in traceback.walk_stack(None)}


def _options() -> argparse.Namespace:
    """Return gunicorn's options; the command line takes precedence over ``GUNICORN_CMD_ARGS``."""
    from gunicorn.config import Config  # noqa: PLC0415  # only installed where gunicorn is

    known = Config()
    given = known.parser().parse_args()
    further = known.parser().parse_args(known.get_cmd_args_from_env())
    chosen = {name: value for name, value in vars(given).items() if value is not None}
    return argparse.Namespace(**{**vars(further), **chosen})


def _is_the_configuration() -> bool:
    return _LOADER in _callers() and _options().config == _OURSELVES


if _is_the_configuration():
    supervise()
