"""The pages Ledger, which accounts for every line and firing, and Configuration, which shows what is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.config.settings import Settings
from alarm_mw.web.pages.delivery import is_secret, shown_options
from alarm_mw.web.rendering import show
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import site_of

#: The parts of a configuration that have sections of their own, or say nothing to people.
_APART = frozenset({"alarms", "rules", "monitors", "warnings"})


async def ledger(request: Request) -> Response:
    """Show the ledger."""
    status = await asyncio.to_thread(site_of(request).master.status)
    return await show(request, "ledger.html", active="ledger", state=status, reasons=_reasons(status))


def _reasons(status: Mapping[str, Mapping[str, Mapping[str, object]]]) -> dict[str, dict[str, int]]:
    """Return how much of each alarm was not delivered, by its reason."""
    found: dict[str, dict[str, int]] = {}
    for alarm, row in status["alarms"].items():
        for column in ("held_back", "dead", "dropped"):
            cell = row[column]
            if isinstance(cell, dict):
                for reason, n in cell.items():
                    counts = found.setdefault(str(reason), {})
                    counts[alarm] = counts.get(alarm, 0) + n
    return found


async def configuration(request: Request) -> Response:
    """Show the configuration, with its secrets masked."""
    master = site_of(request).master
    status, settings = await asyncio.to_thread(master.status), master.settings()
    return await show(
        request,
        "configuration.html",
        active="configuration",
        state=status,
        settings=settings,
        alarms=[(alarm, list(shown_options(alarm.options))) for alarm in settings.alarms],
        watches=[(watch, list(shown_options(watch.options))) for watch in settings.monitors],
        others=list(_others(settings)),
    )


def _others(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the other values that differ from their defaults, masked, by their names."""
    default = Settings()
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if field.name in _APART or value == getattr(default, field.name):
            continue
        if isinstance(value, msgspec.Struct):
            yield from ((f"{field.name}.{text.partition('=')[0]}", text.partition("=")[2]) for text in shown(value))
        elif not is_secret(field.type):
            yield field.name, str(value)


def shown(value: msgspec.Struct) -> Iterator[str]:
    """Yield the values of a struct that differ from their defaults, with secrets masked."""
    yield from shown_options(value)


ROUTES = [page("/ledger", ledger), page("/configuration", configuration)]
