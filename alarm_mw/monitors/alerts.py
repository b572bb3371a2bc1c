"""``monitor = "alerts"``: takes the alerts of other programs, such as Prometheus."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import MonitorContext, PluginOptions
from alarm_mw.model.measures import ALL_LABELS, ExternalAlerts


class AlertsOptions(PluginOptions, frozen=True, kw_only=True):
    """The options of the monitor `alerts`."""

    incident_key: ClassVar[str] = ALL_LABELS
    is_always_incident: ClassVar[bool] = True

    names: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="names of the alerts that it takes (their label `alertname`), also with `*`, `?` or `[…]`. It "
            "always takes the alert of its own `name`, and then no other monitor does"
        ),
    ] = ()

    def knows_end(self) -> bool:
        """Return True: an alert is over when it is said to be, or is not posted any more."""
        return True

    def measure(self) -> ExternalAlerts:
        """Return what the engine measures."""
        return ExternalAlerts(self.names)


class AlertsMonitor:
    """Takes alerts that other programs post to `/api/v2/alerts`, as to Alertmanager: each becomes an incident.

    The page must be served (`[web] listen`), and the program needs a token with the role `act`.
    """

    Options: ClassVar[type[PluginOptions]] = AlertsOptions

    def __init__(self, options: AlertsOptions, context: MonitorContext) -> None:
        pass

    @classmethod
    def from_uwsgi(cls, args: str) -> AlertsOptions:
        """Raise `OptionError`: uWSGI has no such monitor."""
        raise OptionError(f"uWSGI has no monitor 'alerts' (got {args!r}); write it as [[monitors]] in a TOML file")

    async def run(self) -> None:
        """Return: the API takes the alerts, and the engine knows when they are over."""
