"""The pages Ledger, which accounts for every line and firing, and Configuration, which shows what is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.config.settings import Settings
from alarm_mw.config.toml.from_rule import write_duration
from alarm_mw.web.pages.delivery import as_toml, is_secret, shown_options
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
        escalations=list(_escalations(settings)),
        rule_count=sum(not rule.is_auxiliary for rule in settings.rules),
    )


def _others(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the other values that differ from their defaults, masked, by their names."""
    default = Settings()
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        if field.name in _APART or value == getattr(default, field.name):
            continue
        if isinstance(value, msgspec.Struct):
            for text in shown_options(value):
                name, _, inner = text.partition(" = ")
                yield f"{field.name}.{name}", inner
        elif field.name == "inhibit_rules":
            for rule in settings.inhibit_rules:
                yield "inhibit_rules", as_toml(rule)
        elif not is_secret(field.type):
            yield field.name, as_toml(value)


def _escalations(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the rules that notify some alarms later, and when."""
    for rule in settings.incident_rules:
        after = rule.incident.after if rule.incident is not None else {}
        own = ", ".join(name for name in rule.alarms if name not in after)
        later = "; ".join(f"{name} after {write_duration(seconds) or '0s'}" for name, seconds in after.items())
        if later:
            yield rule.name or rule.pattern, "; ".join(filter(None, (f"{own} at once" if own else "", later)))


ROUTES = [page("/ledger", ledger), page("/configuration", configuration)]
