"""The loguru sink: ``logger.add(AlarmSink())``, and the rules see every message."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol, TypedDict

from alarm_mw.app import client, current_master
from alarm_mw.app.current_master import attach
from alarm_mw.transports.client import Client
from alarm_mw.transports.records import as_fields, to_bytes

SOURCE = "loguru"


class Level(Protocol):
    """A level of loguru's; its numbers are those of `logging`."""

    no: int


class Facts(TypedDict):
    """What is used of a message's ``record``."""

    name: str | None
    level: Level
    message: str
    time: dt.datetime
    extra: Mapping[str, object]


class Message(Protocol):
    """What loguru gives to a sink: the formatted text, a `str`, with its facts."""

    record: Facts


class AlarmSink:
    """Gives loguru's messages to the master.

    The rules see what the sink's ``format`` makes of a message, as if it had been printed, with the exception below it;
    ``logger.add(AlarmSink(), format="{message}")`` shows them the bare message. What was bound or given as ``extra``
    becomes the record's fields. With ``enqueue=True`` too. Neither blocks nor raises; may be called from any thread and
    in forked children.
    """

    def __init__(self) -> None:
        attach()

    def __call__(self, message: Message) -> None:
        """Apply the rules to the message."""
        try:
            _judge(message)
        except Exception:  # nothing of ours may break a log call
            logging.getLogger("alarm_mw.loguru").exception("a message could not be evaluated")


def _judge(message: Message) -> None:
    facts = message.record
    name, level = facts["name"] or "", facts["level"].no
    screened = client.screened(SOURCE, level, name, _show, message, _names)
    if screened is not None:
        _send(*screened, facts, level=level, logger=name)


def _names(message: Message) -> Iterable[str]:
    return map(str, message.record["extra"])


def _show(message: Message) -> str:
    return str(message).removesuffix("\n")


def _send(way: Client, text: bytes, facts: Facts, *, level: int, logger: str) -> None:
    headline, *below = text.splitlines()
    first = to_bytes(facts["message"]).splitlines()[:1]
    way.submit(
        current_master.this.records.make(
            text,
            source=SOURCE,
            level=level,
            logger=logger,
            fields=as_fields(facts["extra"].items()),
            time=facts["time"].timestamp(),
            # Another sink prints it in a format of its own, but what stands below it the same way.
            echoes=tuple(below) if way.prints_are_read() else (),
            loose_echo=tuple(first) or (headline,),
            event=facts["message"],
        )
    )
