"""The one model behind ini, TOML, flags and the Python API."""

from __future__ import annotations

import msgspec

from alarm_mw.config.upkeep import MetricsListener, Upkeep
from alarm_mw.delivery.outbox.stock import OutboxOptions
from alarm_mw.delivery.policy import Delivery
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.model.errors import Problem
from alarm_mw.model.interfaces import Execution, PluginOptions
from alarm_mw.model.types import NOWHERE, Rule, Texts, Where

#: Seconds of failing after which another alarm delivers, where nothing else is said.
FALLBACK_AFTER = 60.0


class Alarm(msgspec.Struct, frozen=True):
    """A name, an action and its options, and how hard to try."""

    name: str
    #: The plugin's name, as in the configuration: ``cmd``, ``curl``, …
    plugin: str
    options: PluginOptions
    delivery: Delivery = msgspec.field(default_factory=Delivery)
    where: Where = NOWHERE
    limits: Limits = msgspec.field(default_factory=Limits)
    #: The alarms that deliver when this one cannot, the first that can.
    fallback: tuple[str, ...] = ()
    #: After how many seconds of failing.
    fallback_after: float = FALLBACK_AFTER
    #: What it says to people; None: uWSGI's messages, byte for byte.
    texts: Texts | None = None
    #: Names and values that its messages carry.
    labels: tuple[tuple[str, str], ...] = ()


class Watch(msgspec.Struct, frozen=True):
    """A monitor and its options, and the alarms that it fires."""

    #: The monitor's name: ``fd``, ``backlog``, …
    monitor: str
    alarms: tuple[str, ...]
    options: PluginOptions
    where: Where = NOWHERE

    @property
    def descriptors(self) -> frozenset[int]:
        """The numbers of the descriptors that it expects to find open, where its options have such."""
        return frozenset(getattr(self.options, "descriptors", ()))


class Settings(msgspec.Struct, frozen=True):
    """A configuration that was checked: everything in it can be used."""

    alarms: tuple[Alarm, ...] = ()
    rules: tuple[Rule, ...] = ()
    monitors: tuple[Watch, ...] = ()
    #: Files, modules or ``module:function`` that run as mules, numbered from 1; empty for a mule without a program.
    mules: tuple[str, ...] = ()
    #: Optional alarms that cannot be had here, since what their actions need is not installed: rules may name them.
    left_out: tuple[str, ...] = ()
    #: Seconds in which an alarm is not fired again with the same message as its last one; 0 turns that off.
    alarm_freq: float = 3.0
    #: The longest message of a firing, in bytes; what is longer is cut and says so.
    alarm_msg_size: int = 8192
    #: The alarms that are told what is wrong with the program itself.
    own_alarms: tuple[str, ...] = ()
    #: What people call the server; empty: nothing.
    name: str = ""
    #: In any so long a time, so many messages of all alarms for humans together, such as ``100/1h``; None: any number.
    alarm_rate: str | None = None
    execution: Execution = Execution()
    upkeep: Upkeep = msgspec.field(default_factory=Upkeep)
    outbox: OutboxOptions = msgspec.field(default_factory=OutboxOptions)
    metrics: MetricsListener = msgspec.field(default_factory=MetricsListener)
    #: What is not wrong but should be looked at, such as an alarm that a second one of the same name hides.
    warnings: tuple[Problem, ...] = ()

    @property
    def descriptors(self) -> frozenset[int]:
        """The numbers of the descriptors that monitors expect to find open."""
        return frozenset[int]().union(*(watch.descriptors for watch in self.monitors))
