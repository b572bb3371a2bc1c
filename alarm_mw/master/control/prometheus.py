"""The ledger, the master's state and the application's metrics, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alarm_mw.engine.ledger import Books

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: The ledger's columns for each source: the metric's name and what it counts.
OF_SOURCES: Mapping[str, tuple[str, str]] = {
    "lines": ("alarm_mw_lines_total", "Lines received."),
    "screened_out": ("alarm_mw_screened_out_total", "Lines that no rule matched."),
    "matched": ("alarm_mw_matched_lines_total", "Lines that some rule matched, and alarms fired without a rule."),
    "skipped": ("alarm_mw_skipped_total", "Lines that were not checked by the rules, or excluded by one."),
    "oversized": ("alarm_mw_oversized_total", "Lines of which only the first part was checked."),
    "lost_bytes": ("alarm_mw_lost_bytes_total", "Output bytes that could not be written."),
}

#: The same for each alarm.
OF_ALARMS: Mapping[str, tuple[str, str]] = {
    "matched": ("alarm_mw_matches_total", "Matches and calls that asked for this alarm."),
    "digests": ("alarm_mw_digests_total", "Messages that report what was held back."),
    "fired": ("alarm_mw_fired_total", "Firings accepted for delivery."),
    "held_back": ("alarm_mw_held_back_total", "Firings held back on purpose."),
    "delivered": ("alarm_mw_delivered_total", "Firings delivered."),
    "waiting": ("alarm_mw_waiting", "Firings waiting in the outbox."),
    "dead": ("alarm_mw_dead_letters_total", "Firings that could not be delivered."),
    "dropped": ("alarm_mw_dropped_total", "Firings lost."),
    "handed_over": ("alarm_mw_handed_over_total", "Firings that another alarm delivers instead of this one."),
    "delivered_again": (
        "alarm_mw_delivered_again_total",
        "Delivered firings that may have come twice because a master was killed.",
    ),
    "deferred": (
        "alarm_mw_deferred_total",
        "Firings that waited for another machine of the fleet, which had the same to send.",
    ),
    "taken_over": ("alarm_mw_taken_over_total", "Firings that this alarm delivers instead of another one."),
    "retried": ("alarm_mw_retried_total", "Dead letters that were retried."),
    "delayed": (
        "alarm_mw_delayed_total",
        "Messages that an incident has begun, which was held back at first, or was acknowledged.",
    ),
    "reminders": ("alarm_mw_reminders_total", "Messages that an incident goes on."),
    "escalated": ("alarm_mw_escalated_total", "Messages of incidents by a later step of an escalation."),
    "resolved": ("alarm_mw_resolved_total", "Messages that an incident is over."),
}

#: Of each rule with incidents.
OF_RULES: Mapping[str, tuple[str, str]] = {
    "opened": ("alarm_mw_incidents_opened_total", "Incidents that have begun, each episode of one."),
    "resolved": ("alarm_mw_incidents_ended_total", "Incidents that have ended."),
    "open": ("alarm_mw_incidents", "Incidents that are firing."),
}

#: Of the master.
OF_MASTER: Mapping[str, str] = {
    "alarm_mw_imbalances": "Equations of the ledger that do not hold.",
    "alarm_mw_findings": "Problems that the master finds in its self-check.",
    "alarm_mw_backlog": "Batches that wait for the rules.",
    "alarm_mw_reloads": "Successful reloads of the configuration since the start.",
    "alarm_mw_configuration_timestamp_seconds": "Time at which the current configuration was loaded.",
}

#: Of the master, where it is in a fleet.
OF_FLEET: Mapping[str, str] = {
    "alarm_mw_fleet_connected": "Whether the fleet can be reached: 1 or 0.",
    "alarm_mw_fleet_lag_seconds": "Seconds that the last heartbeat to the fleet took.",
}

#: Of the master, where it follows logs.
OF_FOLLOWED: Mapping[str, str] = {
    "alarm_mw_followed_files": "Files that are followed.",
    "alarm_mw_followed_behind_bytes": "Bytes in followed files that were not read yet.",
    "alarm_mw_followed_journals_failing": "Followed journals for which journalctl does not run.",
}

#: The application's own metrics are named so, with what Prometheus does not allow in a name replaced by ``_``.
APP_PREFIX = "alarm_mw_app_"

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that is shown."""

    books: Books
    #: By the names of `OF_MASTER`, and where there are any, of `OF_FLEET` and `OF_FOLLOWED`.
    master: Mapping[str, float]
    #: The application's metrics.
    app: Mapping[str, int]
    version: str


def exposition(figures: Figures) -> bytes:
    """Return the figures as text; loads prometheus-client at the first call."""
    from prometheus_client import exposition as prometheus  # noqa: PLC0415  # 30 ms, for the first who asks

    return prometheus.generate_latest(_Families(figures))


@dataclass(frozen=True, slots=True)
class _Families:
    """In the place of a registry."""

    figures: Figures

    def collect(self) -> Iterator[Metric]:
        yield from _ledger(OF_SOURCES, "source", self.figures.books["sources"])
        yield from _ledger(OF_ALARMS, "alarm", self.figures.books["alarms"])
        if self.figures.books["rules"]:
            yield from _ledger(OF_RULES, "rule", self.figures.books["rules"])
        yield from _master(self.figures)
        yield from _app(self.figures.app)


def _ledger(
    columns: Mapping[str, tuple[str, str]], label: str, rows: Mapping[str, Mapping[str, object]]
) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  # see exposition

    for column, (name, text) in columns.items():
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        by_reason = any(isinstance(row[column], dict) for row in rows.values())
        family = kind(name, text, labels=[label, "reason"] if by_reason else [label])
        for row_name, row in rows.items():
            cell = row[column]
            if isinstance(cell, dict):
                for reason, n in cell.items():
                    family.add_metric([_label(row_name), reason], n)
            else:
                assert isinstance(cell, int)
                family.add_metric([_label(row_name)], cell)
        yield family


def _master(figures: Figures) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415  # see exposition

    yield InfoMetricFamily("alarm_mw_build", "The version that runs.", value={"version": figures.version})
    for name, text in {**OF_MASTER, **OF_FLEET, **OF_FOLLOWED}.items():
        if name in figures.master:
            yield GaugeMetricFamily(name, text, value=figures.master[name])


def _app(values: Mapping[str, int]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see exposition

    families: dict[str, GaugeMetricFamily] = {}
    for name, value in values.items():
        shown = APP_PREFIX + _NOT_IN_NAMES.sub("_", name)
        if shown not in families:
            families[shown] = GaugeMetricFamily(shown, "A metric of the application.", labels=["name"])
        families[shown].add_metric([_label(name)], value)
    yield from families.values()


def _label(name: str) -> str:
    """Return a name as UTF-8 can have it: one that came from other bytes has surrogates in it."""
    return name.encode("utf-8", "backslashreplace").decode()
