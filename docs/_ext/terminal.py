"""Draws what ``alarm-mw top`` shows, from an invented night.

``python docs/_ext/terminal.py`` writes ``docs/top.svg``; a test checks that it is up to date.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alarm_mw.cli.top.app import Top
from alarm_mw.cli.top.masters import Masters
from alarm_mw.cli.top.now import Server
from alarm_mw.web.api.v1.schema import Incident

if TYPE_CHECKING:
    from alarm_mw.master.control.status import Status

PICTURE = Path(__file__).parents[1] / "top.svg"


def _incident(rule: str, severity: str, message: str, seconds: float, count: int, **values: object) -> Incident:
    now = time.time()
    made: dict[str, Any] = {
        "id": rule,
        "rule": rule,
        "severity": severity,
        "message": message,
        "started": now - seconds,
        "last": now - 4.0,
        "count": count,
        "key": {},
        "labels": {},
        "state": "firing",
        "marks": (),
        "episode": 1,
        "ended": None,
        "ended_by": "",
        "end": "",
        "notified": {},
        "acknowledged_by": "",
        "acknowledged_until": None,
        "comment": "",
        "fields": {},
        "delivery": {"jabber": "delivered"},
    }
    return Incident(**{**made, **values})


class Night(Masters):
    """A master that somebody should look after."""

    def __init__(self) -> None:
        super().__init__(list)

    def look(self) -> list[Server]:
        """Return what it says."""
        incidents = (
            _incident(
                "payments",
                "critical",
                "payment failed: card processor unreachable",
                700.0,
                212,
                key={"customer": "kim"},
                trend=(*[0] * 47, *[1, 3, 6], *[14] * 5, *[25] * 5),
                delivery={"jabber": "delivered", "sms": "waiting"},
            ),
            _incident(
                "disk",
                "error",
                "disk /srv almost full: 97 %",
                1500.0,
                25,
                trend=(*[0] * 35, *[1] * 25),
                delivery={"jabber": "delivered", "mail": "dead"},
            ),
            _incident(
                "db",
                "warning",
                "lost replica eu-2",
                7300.0,
                3,
                key={"db": "eu-2"},
                acknowledged_by="kim",
                acknowledged_until=time.time() + 4205.0,
                comment="on it",
            ),
        )
        status = {"letters": 2, "failing": {"mail": {}}, "imbalances": [], "findings": []}
        rules = {"all": {"opened": 3, "resolved": {}, "open": 3}}
        return [Server("/shop", "shop", cast("Status", {**status, "rules": rules}), incidents)]


async def _drawn() -> str:
    app = Top(Night())
    async with app.run_test(size=(80, 14)) as pilot:
        while app.row is None:
            await pilot.pause()
        drawn = app.export_screenshot(title="alarm-mw top")
    fontless = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # which would be loaded from elsewhere
    return re.sub(r"terminal-\d+", "terminal", fontless)


def picture() -> str:
    """Return the picture."""
    return asyncio.run(_drawn())


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
