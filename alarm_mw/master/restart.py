"""What a configuration asks for that only the next start of the server can give."""

from __future__ import annotations

from collections.abc import Iterator

from alarm_mw.config.settings import Settings, asks_for_deaths
from alarm_mw.supervisor.plan import Plan

#: Lets Python processes write their stacks when they crash; it counts from their start on.
STACKS = "PYTHONFAULTHANDLER"


def needs_restart(settings: Settings, plan: Plan) -> Iterator[str]:
    """Yield a sentence for each thing that is not to be had before the server is started again."""
    if asks_for_deaths(settings.monitors) and STACKS not in plan.server_env:
        yield "needs a restart: crashes are not watched, since no monitor asked for that when the server was started"
    for number in sorted(settings.descriptors.difference(plan.master_fds)):
        yield f"needs a restart: descriptor {number} was not open at the start and is not watched"
