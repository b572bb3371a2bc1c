"""The model of a configuration: what ini files, TOML files, flags and the Python API all become.

`Loaded` is a configuration in force with its origin: it can be read again, and handed to the next master as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import structs

from alarm_mw import actions, monitors
from alarm_mw.config.sources import Sources, fingerprint
from alarm_mw.config.tables.fleet import FleetOptions
from alarm_mw.config.tables.web import WebOptions, host_and_port
from alarm_mw.delivery.outbox.limits import OutboxOptions
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import REPEAT_AFTER, Limits, read_duration
from alarm_mw.model.errors import PatternError, Problem
from alarm_mw.model.interfaces import Action, Execution, Monitor, PluginOptions
from alarm_mw.model.types import (
    NOWHERE,
    USUAL_NAMES,
    FieldNames,
    IncidentOptions,
    InhibitRule,
    Route,
    Rule,
    Texts,
    Where,
)
from alarm_mw.system.forks import held_off


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """Keys at the top of a TOML file."""

    reload: Annotated[
        Literal["manual", "auto"],
        msgspec.Meta(
            description="When a changed configuration is loaded: at `alarm-mw reload` or SIGHUP, or with "
            "`auto` as soon as one of its files has changed"
        ),
    ] = "manual"
    self_check: Annotated[
        float,
        msgspec.Meta(ge=0, le=86400, description="Seconds between two self-checks of the master; 0 disables them"),
    ] = 60.0


class MetricsListener(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``[metrics]``."""

    listen: Annotated[
        str,
        msgspec.Meta(
            description='Address on which Prometheus can read `/metrics`, such as `"127.0.0.1:9464"`, without '
            "authentication. By default only the control socket serves them"
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` for an invalid address."""
        if self.listen:
            host_and_port(self.listen)


class StreamRecords(msgspec.Struct, frozen=True, kw_only=True, rename={"continues": "continue"}):
    """The tables ``[records.stdout]``, ``[records.stderr]`` and ``[records.file]``."""

    start: Annotated[
        str,
        msgspec.Meta(
            description="A regexp that the first line of each record matches; the lines that it does not match go on "
            "with the record before them, where `continue` says nothing else"
        ),
    ] = ""
    continues: Annotated[
        str, msgspec.Meta(description="A regexp that a line matches that goes on with the record before it")
    ] = ""
    max_lines: Annotated[
        int, msgspec.Meta(ge=2, le=100_000, description="How many lines a record may have; then it is judged")
    ] = 1000
    max_wait: Annotated[
        float,
        msgspec.Meta(ge=0.01, le=60, description="Seconds without another line after which a record is complete"),
    ] = 0.2

    def __post_init__(self) -> None:
        """Raise `ValueError` for a regexp that is wrong or could take long."""
        if not self.is_given:
            return
        with held_off():  # what most configurations do not need
            from alarm_mw.patterns.request_pattern import QuickPattern  # noqa: PLC0415
        for key, pattern in (("start", self.start), ("continue", self.continues)):
            try:
                QuickPattern(pattern)
            except PatternError as error:
                raise ValueError(f"{key}: the regexp {pattern!r} cannot be used: {error}") from None

    @property
    def is_given(self) -> bool:
        """Whether the configuration says where records begin."""
        return bool(self.start or self.continues)


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``[records]``: which lines of output are one record."""

    #: Each traceback that Python prints is one record. None: that depends on who says it (`merge`).
    tracebacks: bool | None = None
    #: Which fields of a line in JSON or logfmt are its level, its logger and so on.
    names: FieldNames = USUAL_NAMES
    stdout: StreamRecords = msgspec.field(default_factory=StreamRecords)
    stderr: StreamRecords = msgspec.field(default_factory=StreamRecords)
    #: Of each followed file.
    file: StreamRecords = msgspec.field(default_factory=StreamRecords)

    def of(self, source: str) -> StreamRecords | None:
        """Return what makes records of the lines of ``stdout``, ``stderr`` or ``file``; None where each line is one."""
        options = {"stderr": self.stderr, "file": self.file}.get(source, self.stdout)
        return options if self.tracebacks or options.is_given else None


#: Default: seconds of failed attempts after which another alarm delivers.
FALLBACK_AFTER = 60.0


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How incidents notify an alarm: the table ``notify`` of an alarm."""

    send_resolved: Annotated[bool, msgspec.Meta(description="notify it when an incident is over")] = True
    repeat_interval: Annotated[
        str | float | None,
        msgspec.Meta(description="remind it of an incident that goes on, so often: seconds, or a time such as `4h`"),
    ] = None
    send_acknowledged: Annotated[
        bool | None,
        msgspec.Meta(
            description="notify it when somebody acknowledges an incident; by default only services that know such a "
            "state: PagerDuty, Opsgenie, and Slack with a bot token"
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.repeat_interval is not None:
            try:
                read_duration(self.repeat_interval)
            except ValueError as error:
                raise ValueError(f"repeat_interval: {error}") from None

    @property
    def seconds(self) -> float:
        """Seconds between reminders; 0: none."""
        return 0.0 if self.repeat_interval is None else read_duration(self.repeat_interval)


class AckOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[ack]``."""

    expire: Annotated[
        str | float,
        msgspec.Meta(description="how long an acknowledgement of an incident lasts if `alarm-mw ack` names no time"),
    ] = "24h"

    def __post_init__(self) -> None:
        try:
            read_duration(self.expire)
        except ValueError as error:
            raise ValueError(f"expire: {error}") from None


class HistoryOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[history]``."""

    keep: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[1-9][0-9]{0,3}d$",
            description="how many days incidents that are over and the history of incidents are kept, such as `90d`; "
            "the history has at most 100,000 events",
        ),
    ] = "90d"

    @property
    def days(self) -> int:
        """The number of days."""
        return int(self.keep.removesuffix("d"))


class DrillOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[drill]``."""

    warn_after: Annotated[
        str | float | None,
        msgspec.Meta(
            description="`alarm-mw status` names each alarm that has delivered nothing for so long, not even a drill: "
            "seconds, or a time such as `30d`; by default none"
        ),
    ] = None

    def __post_init__(self) -> None:
        try:
            if self.warn_after is not None:
                read_duration(self.warn_after)
        except ValueError as error:
            raise ValueError(f"warn_after: {error}") from None

    @property
    def seconds(self) -> float | None:
        """The time in seconds; None: no alarm is named."""
        return None if self.warn_after is None else read_duration(self.warn_after)


class Alarm(msgspec.Struct, frozen=True):
    """A name, an action with its options, and how it is retried and limited."""

    name: str
    #: The plugin's name, as in the configuration: ``cmd``, ``curl``, …
    plugin: str
    options: PluginOptions
    delivery: DeliveryPolicy = msgspec.field(default_factory=DeliveryPolicy)
    where: Where = NOWHERE
    limits: Limits = msgspec.field(default_factory=Limits)
    #: The alarms of which the first that can delivers if this one fails.
    fallback: tuple[str, ...] = ()
    #: Seconds of failed attempts after which they do.
    fallback_after: float = FALLBACK_AFTER
    #: What it says to people; None: uWSGI's messages, byte for byte.
    texts: Texts | None = None
    #: Names and values that are added to its messages.
    labels: tuple[tuple[str, str], ...] = ()
    notify: Notify = msgspec.field(default_factory=Notify)
    #: Whether the machines of a fleet share it; empty: as its action wants it (`is_shared`).
    scope: str = ""


class Watch(msgspec.Struct, frozen=True):
    """A monitor and its options, and the alarms that it fires."""

    #: The monitor's name: ``fd``, ``backlog``, …
    monitor: str
    alarms: tuple[str, ...]
    options: PluginOptions
    where: Where = NOWHERE
    #: The name of its incidents, with their labels; empty where each message is one of its own.
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    incident: IncidentOptions | None = None
    scope: str = ""

    @property
    def rule(self) -> Rule | None:
        """The rule that its incidents follow, which no line matches; None where it has none."""
        if self.incident is None:
            return None
        return Rule(
            "",
            self.alarms,
            where=self.where,
            name=self.name,
            labels=self.labels,
            incident=self.incident,
            measure=self.options.measure(),
            scope=self.scope,
        )

    @property
    def descriptors(self) -> frozenset[int]:
        """The numbers of the descriptors that it expects to find open."""
        return frozenset(getattr(self.options, "descriptors", ()))


class Follow(msgspec.Struct, frozen=True):
    """Existing logs that are followed: files, or systemd's journal."""

    #: Absolute paths, with ``*``, ``?``, ``[…]`` and ``**`` for several.
    paths: tuple[str, ...] = ()
    #: Units whose journal is followed, ``*`` for the whole journal; None for files.
    journal: tuple[str, ...] | None = None
    #: Where to begin in what was never followed before.
    start: Literal["end", "beginning"] = "end"
    #: Where the journal's files are; empty: the system's.
    directory: str = ""
    where: Where = NOWHERE

    @property
    def units(self) -> tuple[str, ...]:
        """The units to ask journalctl for; none for the whole journal."""
        return () if self.journal is None or "*" in self.journal else self.journal


#: The name of the rule of a fleet's silent machines, and its key.
FLEET = "fleet"
MACHINE = "machine"


class Settings(msgspec.Struct, frozen=True):
    """A configuration that was checked: everything in it can be used."""

    alarms: tuple[Alarm, ...] = ()
    rules: tuple[Rule, ...] = ()
    monitors: tuple[Watch, ...] = ()
    #: Files, modules or ``module:function`` that run as mules, numbered from 1; empty for a mule without a program.
    mules: tuple[str, ...] = ()
    #: Logs that are followed beside the server's output.
    follow: tuple[Follow, ...] = ()
    #: Optional alarms that are disabled since their actions need something that is not installed; rules may name them.
    left_out: tuple[str, ...] = ()
    #: Seconds in which an alarm does not repeat its last message; 0 disables this.
    alarm_freq: float = 3.0
    #: Maximum length of a message in bytes; a longer one is truncated and says so.
    alarm_msg_size: int = 8192
    #: The alarms that fire if something is wrong with the program itself.
    own_alarms: tuple[str, ...] = ()
    #: The server's name; may be empty.
    name: str = ""
    #: Maximum number of messages per interval of all alarms for humans together, such as ``100/1h``; None: no limit.
    alarm_rate: str | None = None
    records: Records = msgspec.field(default_factory=Records)
    execution: Execution = Execution()
    upkeep: Upkeep = msgspec.field(default_factory=Upkeep)
    outbox: OutboxOptions = msgspec.field(default_factory=OutboxOptions)
    metrics: MetricsListener = msgspec.field(default_factory=MetricsListener)
    web: WebOptions = msgspec.field(default_factory=WebOptions)
    ack: AckOptions = msgspec.field(default_factory=AckOptions)
    history: HistoryOptions = msgspec.field(default_factory=HistoryOptions)
    drill: DrillOptions = msgspec.field(default_factory=DrillOptions)
    inhibit_rules: tuple[InhibitRule, ...] = ()
    #: None: this machine shares nothing.
    fleet: FleetOptions | None = None
    #: What adds alarms to rules; the rules already have those that they have for every record.
    routes: tuple[Route, ...] = ()
    #: Names and values that are added to all messages.
    labels: tuple[tuple[str, str], ...] = ()
    #: What is valid but suspicious, such as a second alarm of the same name.
    warnings: tuple[Problem, ...] = ()

    @property
    def incident_rules(self) -> tuple[Rule, ...]:
        """The rules with incidents, and those that the incidents of monitors follow."""
        watched = (watch.rule for watch in self.monitors)
        rules = (*self.rules, *watched, self.fleet_rule)
        return tuple(rule for rule in rules if rule is not None and rule.incident is not None)

    @property
    def fleet_rule(self) -> Rule | None:
        """The rule that incidents of silent machines follow; None without a fleet, and without alarms for it."""
        alarms = () if self.fleet is None else self.fleet.alarms or self.own_alarms
        incident = IncidentOptions(key=(MACHINE,))
        return Rule("", alarms, name=FLEET, labels=self.labels, incident=incident) if alarms else None

    @property
    def descriptors(self) -> frozenset[int]:
        """The numbers of the descriptors that monitors expect to find open."""
        return frozenset[int]().union(*(watch.descriptors for watch in self.monitors))


def asks_for_deaths(watches: Iterable[Watch]) -> bool:
    """Return whether a monitor needs to know about deaths of the server's processes."""
    return any(getattr(monitors.find(watch.monitor), "asks_for_deaths", False) for watch in watches)


def limits_of(alarm: Alarm) -> Limits:
    """Return the alarm's limits with their defaults.

    The action decides whether they are those for humans, unless the limits do. An alarm that writes to people does not
    repeat itself; one that is said to be for no human gets every message.
    """
    limits = alarm.limits
    for_humans = alarm.options.reaches_people if limits.for_humans is None else limits.for_humans
    repeat_after = limits.repeat_after
    if repeat_after is None and limits.for_humans is False:
        repeat_after = 0
    elif repeat_after is None and for_humans and alarm.texts is not None:
        repeat_after = REPEAT_AFTER
    return msgspec.structs.replace(limits, for_humans=for_humans, repeat_after=repeat_after)


def is_shared(alarm: Alarm) -> bool:
    """Return whether the machines of a fleet share an alarm.

    By default they do, unless it acts on each machine, or its receiver forgets what is not sent again.
    """
    if alarm.scope:
        return alarm.scope == FLEET
    return not (alarm.options.is_of_machine or alarm.options.refreshes)


def notify_of(alarm: Alarm) -> Notify:
    """Return how incidents notify an alarm, with the defaults of its action.

    A receiver that is sent open alerts again and again is notified of their end in any case.
    """
    notify, options = alarm.notify, alarm.options
    acknowledged = options.has_acknowledgements if notify.send_acknowledged is None else notify.send_acknowledged
    resolved = notify.send_resolved or options.refreshes
    return msgspec.structs.replace(notify, send_resolved=resolved, send_acknowledged=acknowledged)


def to_json(settings: Settings) -> dict[str, object]:
    """Return the settings in the types of JSON. Holds secrets."""
    values: dict[str, object] = msgspec.to_builtins(structs.replace(settings, warnings=()))
    return values


def from_json(
    values: Mapping[str, Any],
    find_action: Callable[[str], type[Action]] = actions.find,
    find_monitor: Callable[[str], type[Monitor]] = monitors.find,
) -> Settings:
    """Return the settings that `to_json` was given; raise `msgspec.ValidationError` for anything else."""
    plain = msgspec.convert({**values, "alarms": [], "monitors": []}, Settings)
    return structs.replace(
        plain,
        alarms=tuple(_restored(each, Alarm, find_action(each["plugin"])) for each in values["alarms"]),
        monitors=tuple(_restored(each, Watch, find_monitor(each["monitor"])) for each in values["monitors"]),
    )


E = TypeVar("E", Alarm, Watch)


def _restored(entry: Mapping[str, Any], kind: type[E], plugin: type[Action | Monitor]) -> E:
    """Return an entry with the options of its plugin."""
    options = msgspec.convert(entry["options"], plugin.Options)
    return structs.replace(msgspec.convert({**entry, "options": {}}, kind), options=options)


class Loaded(msgspec.Struct, frozen=True):
    """A checked configuration with its origin."""

    settings: Settings
    #: Alarms of earlier configurations that still deliver what was fired.
    retired: tuple[Alarm, ...] = ()
    #: None where they are not known, so that it cannot be read again.
    sources: Sources | None = None
    #: Every file that was read, with its fingerprint.
    files: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: How often it has been read again since the start.
    generation: int = 0
    #: When it was read, in seconds since the epoch.
    time: float = 0.0

    def changed_files(self) -> list[str]:
        """Return the files that are not what was read. Looks at each of them, and so may block."""
        return [file for file, seen in self.files.items() if fingerprint(file) != seen]

    def to_json(self) -> dict[str, object]:
        """Return it in the types of JSON. Holds secrets."""
        rest = msgspec.to_builtins({"sources": self.sources, "files": self.files})
        retired = to_json(Settings(alarms=self.retired))
        now = {"settings": to_json(self.settings), "retired": retired}
        return {**now, "generation": self.generation, "time": self.time, **rest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Loaded:
        """Return what `to_json` was called on; everything but the settings may be missing."""
        return cls(
            from_json(values["settings"]),
            from_json(values["retired"]).alarms if "retired" in values else (),
            msgspec.convert(values.get("sources"), Sources | None),
            values.get("files", {}),
            values.get("generation", 0),
            values.get("time", 0.0),
        )
