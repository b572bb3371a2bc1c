"""What every page and every route of the API has at hand: the master, the store, and who is let in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from alarm_mw.config.tables.web import WebOptions
from alarm_mw.web.live import Live
from alarm_mw.web.master import Master
from alarm_mw.web.security.identity import Authenticator, Identity
from alarm_mw.web.security.passwords import AttemptLimiter
from alarm_mw.web.store import Store


@dataclass(frozen=True, slots=True)
class Site:
    """One page's surroundings. Made anew with each configuration."""

    master: Master
    options: WebOptions
    store: Store
    authenticator: Authenticator
    live: Live
    attempts: AttemptLimiter = field(default_factory=AttemptLimiter)
    #: How many passwords are checked at once: each takes a processor and 32 MiB.
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @classmethod
    def of(cls, master: Master, options: WebOptions, store: Store) -> Site:
        """Return a site with these options."""
        return cls(master, options, store, Authenticator(options, store), Live(master))


def site_of(request: Request) -> Site:
    """Return the site that answers a request."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


def identity_of(request: Request) -> Identity | None:
    """Return who makes a request; None for somebody who was not let in."""
    identity = request.scope.get("identity")
    assert identity is None or isinstance(identity, Identity)
    return identity


def caller(request: Request) -> Identity:
    """Return who makes a request for something that is guarded."""
    identity = identity_of(request)
    assert identity is not None
    return identity
