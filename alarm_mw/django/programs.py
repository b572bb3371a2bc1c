"""Which of the programs that start Django have alarms: servers, not every management command."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

#: Management commands that serve.
SERVERS: Final = frozenset({"runserver", "runserver_plus"})


def has_alarms(
    argv: Sequence[str],
    environ: Mapping[str, str],
    modules: Collection[str],
    *,
    is_command: bool,
    options: object,
) -> bool:
    """Return whether this process may start a worker thread.

    A server, a worker or a script may. A management command may where it is among the `options`' ``commands``, or
    serves; but not the one that only waits for files to change (``RUN_MAIN`` is Django's). Tests may not: their
    mistakes are nobody's alarm.
    """
    if "pytest" in modules:
        return False
    if not is_command:
        return True
    command = argv[1] if len(argv) > 1 else ""
    if command in SERVERS:
        return environ.get("RUN_MAIN") == "true" or "--noreload" in argv
    return isinstance(options, Mapping) and command in options.get("commands", ())
