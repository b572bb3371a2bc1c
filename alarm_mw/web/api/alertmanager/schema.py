"""The values of Alertmanager's API v2, as its OpenAPI document names them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from alarm_mw.engine.matchers import Matcher, Operator

_OPERATORS = {
    (False, True): Operator.EQUAL,
    (False, False): Operator.NOT_EQUAL,
    (True, True): Operator.REGEXP,
    (True, False): Operator.NOT_REGEXP,
}
_FLAGS = {operator: flags for flags, operator in _OPERATORS.items()}


class Receiver(msgspec.Struct, frozen=True):
    """An alarm."""

    name: str


class AlertStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What holds an alert's messages back."""

    state: str
    silenced_by: tuple[str, ...] = ()
    inhibited_by: tuple[str, ...] = ()
    muted_by: tuple[str, ...] = ()


class GettableAlert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An open incident."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    receivers: tuple[Receiver, ...]
    fingerprint: str
    starts_at: str
    updated_at: str
    ends_at: str
    status: AlertStatus
    generator_url: Annotated[str, msgspec.Meta(description="the page of the incident")] = msgspec.field(
        default="", name="generatorURL"
    )


class AlertGroup(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The alerts of one name and one receiver."""

    labels: Mapping[str, str]
    route_labels: Mapping[str, str]
    receiver: Receiver
    alerts: tuple[GettableAlert, ...]


class PostableAlert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An alert that another program posts."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


class SilenceMatcher(msgspec.Struct, frozen=True, rename="camel"):
    """A condition on a label."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool = True

    @classmethod
    def of(cls, matcher: Matcher) -> SilenceMatcher:
        """Return a matcher as Alertmanager has it."""
        return cls(matcher.name, matcher.value, *_FLAGS[matcher.operator])

    def text(self) -> str:
        """Return it in our notation; raise `ValueError` for a regexp that is wrong."""
        return str(Matcher(self.name, _OPERATORS[self.is_regex, self.is_equal], self.value))


class PostableSilence(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A silence that a client wants."""

    matchers: tuple[SilenceMatcher, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    id: str = ""


class SilenceStatus(msgspec.Struct, frozen=True):
    """Where a silence stands."""

    state: str


class GettableSilence(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A silence."""

    id: str
    status: SilenceStatus
    matchers: tuple[SilenceMatcher, ...]
    starts_at: str
    ends_at: str
    updated_at: str
    created_by: str
    comment: str
    annotations: Mapping[str, str] = {}
