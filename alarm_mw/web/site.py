"""What every page and every route of the API has at hand: who is let in, and the master and store that are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from alarm_mw.config.tables.web import WebOptions
from alarm_mw.model.pace import Pace
from alarm_mw.web.live import Live, MasterSource
from alarm_mw.web.master import Master
from alarm_mw.web.navigation import Nav, nav_of
from alarm_mw.web.security.identity import Authenticator, Identity
from alarm_mw.web.security.passwords import AttemptLimiter
from alarm_mw.web.store import Store

#: How many requests of strangers are answered at once, and per second after that: each takes a millisecond.
STRANGERS = 100
STRANGERS_PER_SECOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSite:
    """What all pages need, whatever they show."""

    #: What is shown: a server's name; may be empty.
    name: str
    options: WebOptions
    store: Store
    authenticator: Authenticator
    live: Live
    #: Returns the navigation; may block.
    navigation: Callable[[], Nav]
    #: Requests of those who were not let in.
    strangers: Pace = field(default_factory=lambda: Pace(STRANGERS, STRANGERS_PER_SECOND))
    attempts: AttemptLimiter = field(default_factory=AttemptLimiter)
    #: How many passwords are checked at once: each takes a processor and 32 MiB.
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Site(BaseSite):
    """What the pages of one master need. Each configuration makes a new one."""

    master: Master

    @classmethod
    def of(cls, master: Master, options: WebOptions, store: Store) -> Site:
        """Return a site with these options."""
        return cls(
            name=master.name,
            master=master,
            options=options,
            store=store,
            authenticator=Authenticator(options, store),
            live=Live(MasterSource(master)),
            navigation=lambda: nav_of(master),
        )

    @property
    def samples(self) -> Store:
        """What has the samples of the master: what its page keeps, also where this is another site."""
        return self.master.samples() or self.store


def base_site_of(request: Request) -> BaseSite:
    """Return the site that answers a request, whatever it shows."""
    site = request.app.state.site
    assert isinstance(site, BaseSite)
    return site


def site_of(request: Request) -> Site:
    """Return the site that answers a request about one master."""
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
