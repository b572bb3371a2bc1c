"""Runs the supervisor in an interpreter of its own: ``python -I -S …/__main__.py --started-fd N -- COMMAND``.

What follows ``--`` is there for ``ps`` to show; the plan holds the command.
"""

import sys
import types

_FOLDERS_UP = 2


def stand_in_for_package() -> None:
    """Make ``alarm_mw.supervisor`` importable without ``alarm_mw/__init__.py``, which loads what applications need."""
    package = types.ModuleType("alarm_mw")
    package.__path__ = [__file__.rsplit("/", _FOLDERS_UP)[0]]
    sys.modules["alarm_mw"] = package


def main() -> None:
    """Supervise what the descriptor that the command line names describes."""
    stand_in_for_package()
    from alarm_mw.supervisor.supervisor import supervise  # noqa: PLC0415  # not to be found any earlier

    supervise(int(sys.argv[sys.argv.index("--started-fd") + 1]))


if __name__ == "__main__":
    main()
