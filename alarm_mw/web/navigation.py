"""The navigation above each page, with what needs a look."""

from __future__ import annotations

from typing import NamedTuple

from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.web.live import delivery_badge
from alarm_mw.web.master import Master


class Tab(NamedTuple):
    """A page in the navigation."""

    name: str
    path: str
    title: str
    badge: str = ""
    tone: str = ""


class Nav(NamedTuple):
    """The navigation."""

    #: How many incidents are open.
    open: int
    tabs: list[Tab]
    #: Whether nothing beside incidents needs a look: no alarm fails, and nothing is dead.
    is_well: bool = True

    @property
    def icon(self) -> str:
        """The URL of the icon."""
        return f"/favicon.svg?n={self.open}{'' if self.open or self.is_well else '&well=0'}"


def nav_of(master: Master) -> Nav:
    """Return the navigation of a master's pages. May block."""
    status = master.status()
    with master.reading() as reader:
        firing = sum(incident_rows.count_firing(reader).values())
    badge, tone = delivery_badge(status["letters"], len(status["failing"]))
    silences, faults = len(master.silences(False)), status["imbalances"]
    return Nav(
        firing,
        [
            Tab("now", "/", "Now", str(firing or ""), "bad"),
            Tab("history", "/history", "History"),
            Tab("rules", "/rules", "Rules"),
            Tab("delivery", "/delivery", "Delivery", badge, tone),
            Tab("silences", "/silences", "Silences", str(silences or "")),
            Tab("ledger", "/ledger", "Ledger", "!" if faults else "✓", "bad" if faults else "good"),
            Tab("configuration", "/configuration", "Configuration"),
        ],
        is_well=not badge and not faults and not status["findings"],
    )
