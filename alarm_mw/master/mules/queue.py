"""Messages for mules: who waits for one gets the oldest that is for it, and it is delivered when it is done with it.

Lives on the event loop. The messages are durable in the outbox; what is here is only on its way. A mule is done with a
message when it asks for the next one, so that what a killed mule was working at is given to its successor.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from alarm_mw import signals
from alarm_mw.model.errors import ActionError
from alarm_mw.model.types import Firing
from alarm_mw.texts import said
from alarm_mw.transports.subscription import Message

#: A message that was in the hands of so many mules that died may be what kills them: it is refused.
MAX_DEATHS = 5


@dataclass(slots=True, eq=False)
class Asker:
    """A thread of a mule that waits for a message, or works at one."""

    mule: int
    give: Callable[[Message], None]
    has: Offer | None = None


@dataclass(slots=True, eq=False)
class Offer:
    """A message on its way."""

    order: int
    #: The mule that it is for, 0 for any.
    mule: int
    message: Message
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    deaths: int = 0


class MuleQueue:
    """Brings offers and askers together, both in their order."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self._waiting: list[Offer] = []
        self._askers: list[Asker] = []
        self._order = itertools.count()
        signals.failed.connect(self._forget_dead)

    async def deliver(self, mule: int, firing: Firing) -> None:
        """Return when a mule is done with the message; raise `ActionError` when it kills one mule after the other.

        When the attempt is cut off the message keeps its place, and the next attempt joins it there.
        """
        offer = self._offers.get(firing.id) or self._offer(mule, firing)
        try:
            await asyncio.shield(offer.done)
        finally:
            if offer.done.done():
                self._offers.pop(firing.id, None)

    def ask(self, asker: Asker) -> None:
        """Give the asker the oldest message for it, now or when there is one."""
        offer = next((offer for offer in self._waiting if offer.mule in (0, asker.mule)), None)
        if offer is None:
            self._askers.append(asker)
        else:
            self._waiting.remove(offer)
            _give(offer, asker)

    def stop_asking(self, asker: Asker) -> bool:
        """Let the asker wait no longer; return False where it has got a message already."""
        if asker not in self._askers:
            return False
        self._askers.remove(asker)
        return True

    def done(self, asker: Asker, message_id: str) -> None:
        """Count the asker's message as delivered."""
        offer, asker.has = asker.has, None
        if offer is not None and offer.message.id == message_id and not offer.done.done():
            offer.done.set_result(None)

    def gone(self, asker: Asker) -> None:
        """Keep what the asker, which has hung up, was working at for the next one."""
        self.stop_asking(asker)
        offer, asker.has = asker.has, None
        if offer is None or self._offers.get(offer.message.id) is not offer:
            return
        offer.deaths += 1
        if offer.deaths < MAX_DEATHS:
            self._put(offer)
        elif not offer.done.done():
            text = f"{MAX_DEATHS} mules died while they were working at this message"
            offer.done.set_exception(ActionError(text, retry=False))

    def _offer(self, mule: int, firing: Firing) -> Offer:
        offer = Offer(next(self._order), mule, Message(firing.id, said(firing)))
        self._offers[firing.id] = offer
        self._put(offer)
        return offer

    def _put(self, offer: Offer) -> None:
        asker = next((asker for asker in self._askers if offer.mule in (0, asker.mule)), None)
        if asker is None:
            bisect.insort(self._waiting, offer, key=lambda each: each.order)
        else:
            self._askers.remove(asker)
            _give(offer, asker)

    def _forget_dead(self, _: str, *, firing: Firing, error: ActionError, dead: bool) -> None:  # noqa: ARG002  # blinker
        """Withdraw a message that its lane has given up."""
        offer = self._offers.pop(firing.id, None) if dead else None
        if offer is not None and offer in self._waiting:
            self._waiting.remove(offer)


def _give(offer: Offer, asker: Asker) -> None:
    asker.has = offer
    asker.give(offer.message)
