"""The values that travel through the program: frozen, without behavior of their own."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated

import msgspec

from alarm_mw.model.measures import Measure


class Reason(enum.StrEnum):
    """The cause of everything that was not delivered; each is counted in the ledger."""

    #: The line begins with ``[uwsgi-alarm``: it was written by alarm code.
    ALARM_MARK = "alarm_mark"
    #: The record was made by one of our loggers, or inside an action.
    ALARM_ORIGIN = "alarm_origin"
    #: The rule's regexp took longer than its time limit on this line, and no other rule matched it.
    RULE_TIMEOUT = "rule_timeout"
    #: The rules were not applied: the prefilter failed on the line, or no master could be started for a while.
    UNJUDGED = "unjudged"
    #: A ``not-log-alarm`` rule ended the scan before any rule had fired.
    EXCLUDED = "excluded"
    #: The queue between the application and the master was full.
    QUEUE_FULL = "queue_full"
    #: No master could be reached, so the record was dropped in the application.
    NO_MASTER = "no_master"
    #: The same message as the alarm's last one, within ``alarm-freq`` seconds.
    SAME_MESSAGE = "same_message"
    #: The alarm fired a message with the same fingerprint within its ``repeat_after``, whatever it fired in between.
    REPEAT = "repeat"
    #: The alarm reached its ``rate``.
    RATE = "rate"
    #: All alarms for humans together reached ``alarm_rate``.
    ALARM_RATE = "alarm_rate"
    #: The rule requires ``count`` matches ``within`` a time, and this match did not reach that count.
    BELOW_THRESHOLD = "below_threshold"
    #: The alarm is silenced.
    SILENCED = "silenced"
    #: The rule is about values that are `new`, and this one was seen before.
    KNOWN = "known"
    #: The match belongs to an incident of which the alarm was notified before, or will be by a later step.
    ONGOING = "ongoing"
    #: Somebody has acknowledged the incident.
    ACKNOWLEDGED = "acknowledged"
    #: Another incident is firing that inhibits this message.
    INHIBITED = "inhibited"
    #: The incident sends no messages at this time of day.
    MUTED = "muted"
    #: The incident begins and ends so often that single messages are held back.
    FLAPPING = "flapping"
    #: Another machine of the fleet has sent it, or it is not for this machine to send.
    FLEET = "fleet"
    #: A message about the end of an incident has replaced this one, which had never been tried.
    MERGED = "merged"
    #: The rule has as many incidents as its ``max_keys`` allows, so the match counts for its incident "other".
    KEY_OVERFLOW = "key_overflow"
    #: The alarm's own text kept coming back.
    LOOP = "loop"
    #: The same record was seen twice: by the handler and in the output, or by two sources.
    ECHO = "echo"
    #: The alarm is optional, and a package or program that its action needs is not installed.
    UNAVAILABLE = "unavailable"
    #: The outbox already contains this firing (a master was replaced in between).
    DUPLICATE = "duplicate"
    #: ``alarm()`` named an alarm that is not configured.
    UNKNOWN_ALARM = "unknown_alarm"
    #: No monitor `heartbeat` expects a heartbeat of this name.
    UNKNOWN_HEARTBEAT = "unknown_heartbeat"
    #: No monitor of the configuration takes an alert of this name, which another program has posted.
    UNKNOWN_ALERT = "unknown_alert"
    #: The receiver refused the message, and a retry cannot help.
    REFUSED = "refused"
    #: Delivery failed for ``give_up_after`` seconds.
    GAVE_UP = "gave_up"
    #: The firing in the outbox cannot be read, for example after a disk fault.
    UNREADABLE = "unreadable"
    #: The outbox could not be written, so the firing was lost.
    OUTBOX_FAILED = "outbox_failed"
    #: The outbox was full, so the firing was lost.
    OUTBOX_FULL = "outbox_full"
    #: Dropped by ``alarm-mw dead drop``.
    DISCARDED = "discarded"
    #: The process ended before the firing was delivered (only without a durable outbox), or before the master read the
    #: record.
    SHUTDOWN = "shutdown"


class Syntax(enum.StrEnum):
    """The language of a rule's regexp."""

    #: PCRE on bytes, as uWSGI's ``log-alarm``: ini files and flags.
    PCRE = "pcre"
    #: Python's ``re`` on text: TOML and the Python API.
    PYTHON = "python"


class Where(msgspec.Struct, frozen=True):
    """A place in a configuration: a file (or ``--option``), and its line and column, from 1; 0 is unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])


NOWHERE = Where("<python>")


class Stated(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the message of a record says beside its fields, if its form is known."""

    #: What happened: the message of a JSON object, the event of structlog.
    event: str = ""
    #: A traceback, with line ends.
    exception: str = ""
    #: The names of the fields that say the same as other facts of the record.
    repeated: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of output, or a log record, with its facts."""

    #: The bytes as the application wrote them, with the newline where there was one.
    message: bytes
    #: Where it was seen: ``stdout``, ``stderr``, ``logging``, ``structlog``, ``asgi``, ``wsgi``, ``api``, …
    source: str
    #: Seconds since the epoch.
    time: float
    #: Unique to this record: a record seen twice under one key fires once.
    key: str
    pid: int = 0
    #: The level's number as in ``logging``; None where the source knows none.
    level: int | None = None
    logger: str = ""
    fields: Mapping[str, str] = {}
    #: The very lines, without their ends, that a console handler is expected to print for this record.
    echoes: tuple[bytes, ...] = ()
    #: What the line printed for this record is expected to hold, all of it, where its form is not known.
    loose_echo: tuple[bytes, ...] = ()
    #: Of a request's record: the keys of the conditions that hold for it as far as the application knows.
    held: tuple[str, ...] = ()
    #: Lines that an alarm shows below the message. No rule looks at them, and no two messages differ by them.
    context: bytes = b""
    #: The log call that it was made of: of several records of one call, an alarm is fired for one. Empty: not known.
    call: str = ""
    #: Of a line of which the message is the first part, how many bytes it has; below zero: more than so many.
    size: int = 0
    stated: Stated | None = None
    #: The lines before and after it, in its stream or its process, if a rule asks for them.
    before: bytes = b""
    after: bytes = b""

    @property
    def text(self) -> str:
        """The message as text, undecodable bytes as surrogates, without the newline at the end."""
        return self.message.decode("utf-8", "surrogateescape").removesuffix("\n")


class FieldNames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which fields of a line in JSON or logfmt are the facts of a record: the table ``[records.names]``."""

    message: Annotated[tuple[str, ...], msgspec.Meta(description="what happened")] = ("message", "msg", "event")
    level: Annotated[tuple[str, ...], msgspec.Meta(description="the level's name")] = (
        "level",
        "severity",
        "levelname",
        "log.level",
        "lvl",
    )
    logger: Annotated[tuple[str, ...], msgspec.Meta(description="the logger's name")] = (
        "logger",
        "logger_name",
        "log.logger",
        "name",
    )
    time: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="the time, as ISO 8601 or as seconds or milliseconds since 1970; one more than a day away from "
            "the time at which the line was read is ignored"
        ),
    ] = ("timestamp", "time", "ts", "@timestamp", "asctime")
    exception: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="the traceback: text, or what structlog's `dict_tracebacks` writes"),
    ] = ("exception", "exc_info", "traceback", "stack_trace", "error.stack_trace", "exc_text")


#: The names that are usual.
USUAL_NAMES = FieldNames()


class FieldTest(msgspec.Struct, frozen=True):
    """What a field's value must be: one of `FIELD_TESTS` and its operand."""

    kind: str
    value: str | int | float | bool = ""

    @property
    def shown(self) -> str:
        """The operand as text."""
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


#: Equal, another value, a regexp of Python's that is found, numbers, and that there is no such field.
FIELD_TESTS = ("=", "!=", "~", ">=", "<=", ">", "<", "!")


class FieldCondition(msgspec.Struct, frozen=True):
    """A condition on a field of a record; one of the tests must hold."""

    #: The name of the field; dots lead into nested objects.
    field: str
    tests: tuple[FieldTest, ...]


class Context(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many lines around a match are shown: the table ``context`` of a rule."""

    before: Annotated[int, msgspec.Meta(ge=0, le=100, description="number of lines before it")] = 0
    after: Annotated[int, msgspec.Meta(ge=0, le=100, description="number of lines after it")] = 0


class RequestConditions(msgspec.Struct, frozen=True):
    """A rule's conditions on requests; all given conditions must hold."""

    #: In capitals; empty: any.
    methods: tuple[str, ...] = ()
    #: A regexp of Python's, searched in the whole path, as the record's fields show it.
    path: str | None = None
    #: First and last of each range of status codes; empty: any, and none.
    statuses: tuple[tuple[int, int], ...] = ()
    #: It took longer than this, in seconds.
    slower_than: float | None = None
    #: Its body is larger than this, in bytes.
    request_larger_than: int | None = None
    #: The body of the response is larger than this, in bytes.
    response_larger_than: int | None = None
    #: The application raised an exception: a regexp of Python's, searched in the qualified names of its class and of
    #: that one's bases. Empty: any exception.
    exception: str | None = None
    #: Names of request headers in small letters, and regexps of Python's that are searched in their values.
    headers: tuple[tuple[str, str], ...] = ()
    #: Addresses and networks of clients; empty: any.
    clients: tuple[str, ...] = ()
    #: The client has left before the response's end.
    disconnected: bool = False
    #: It has been running for this many seconds without ending; None: the rule applies to finished requests.
    unfinished_after: float | None = None
    #: Read from the lines of a server's access log rather than from a middleware.
    access_log: bool = False


class Flap(msgspec.Struct, frozen=True):
    """How many changes between firing and resolved, within how many seconds, are flapping."""

    count: int
    within: float


class TimeInterval(msgspec.Struct, frozen=True):
    """A recurring time, at which all that is given holds."""

    #: Minutes of the day: the first, and the one behind the last.
    times: tuple[tuple[int, int], ...] = ()
    #: From 0 for Monday.
    weekdays: tuple[int, ...] = ()
    #: The first and the last day of ranges; negative numbers count from the end of the month.
    days_of_month: tuple[tuple[int, int], ...] = ()
    #: From 1 for January.
    months: tuple[int, ...] = ()
    #: Empty: the server's.
    timezone: str = ""


class InhibitRule(msgspec.Struct, frozen=True):
    """While an incident fires that the first matchers select, messages that the second ones select are held back."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    #: Labels that must have the same values in both.
    equal: tuple[str, ...] = ()
    where: Where = NOWHERE


class Route(msgspec.Struct, frozen=True):
    """Adds alarms to rules with labels that all matchers select; without matchers, to all rules."""

    match: tuple[str, ...]
    alarms: tuple[str, ...]
    where: Where = NOWHERE


class Absence(msgspec.Struct, frozen=True):
    """An incident begins when a rule does not match for so long, or not at the times of a schedule."""

    #: Seconds; 0 for a schedule.
    after: float = 0.0
    #: As in crontab; empty without one.
    schedule: str = ""
    #: Of the schedule; empty: the server's.
    timezone: str = ""
    #: Seconds for which a match may be late.
    grace: float = 0.0
    #: A match is expected from the start; else from the first one on.
    from_start: bool = True


class IncidentOptions(msgspec.Struct, frozen=True):
    """What a rule says of its incidents; a rule with them has a name."""

    #: Named groups of the regexp, and fields of the record: each combination of values is an incident.
    key: tuple[str, ...] = ()
    max_keys: int = 10_000
    #: Seconds without a match after which an incident is resolved; 0: never.
    resolve_after: float = 0.0
    #: Seconds that it goes on firing after a resolve line, unless it matches again.
    keep_firing_for: float = 0.0
    flap: Flap | None = None
    #: When alarms of the rule's escalation are notified, in seconds after the incident began to fire; others at once.
    after: Mapping[str, float] = {}
    #: When it sends no messages.
    mute: tuple[TimeInterval, ...] = ()
    #: A match ends an incident, and one begins without.
    absence: Absence | None = None
    #: How often the steps of the escalation are repeated, and after how many seconds each time.
    repeat: int = 0
    period: float = 0.0
    #: The alarms of the escalation.
    escalated: tuple[str, ...] = ()
    #: Messages about an end begin with the line that ended it, and not with the first match.
    ends_with_line: bool = False


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A regexp and conditions, and the alarms that it fires."""

    pattern: str
    alarms: tuple[str, ...]
    syntax: Syntax = Syntax.PYTHON
    #: A match ends the scan for this line (``not-log-alarm``).
    excludes: bool = False
    #: The regexp sees the whole record instead of its lines one by one.
    multiline: bool = False
    #: Only records that have a level, and one at least this high.
    level: int | None = None
    #: Only records of this logger and its children.
    logger: str | None = None
    #: Fires at this many matches …
    count: int = 1
    #: … within this many seconds.
    within: float = 0.0
    #: Only requests for which these conditions hold; the regexp may then be empty.
    request: RequestConditions | None = None
    #: Only records whose fields meet these conditions; the regexp may then be empty.
    fields: tuple[FieldCondition, ...] = ()
    #: Which fields of a line hold its level, its logger and so on.
    names: FieldNames = USUAL_NAMES
    where: Where = NOWHERE
    #: Its name for people; empty if it has none.
    name: str = ""
    #: Labels of its firings.
    labels: tuple[tuple[str, str], ...] = ()
    #: None: each match is a message of its own.
    incident: IncidentOptions | None = None
    #: The lines around it that messages show.
    context: Context | None = None
    #: A match ends incidents of this rule, and fires nothing; empty: an ordinary rule.
    resolves: str = ""
    #: A match counts for the measure of this rule, and fires nothing; empty: an ordinary rule.
    counts_for: str = ""
    #: Its incidents begin and end by what is measured; None: by single matches.
    measure: Measure | None = None
    #: What equal events have in common (`engine.flood_control.fingerprint.PARTS`, or fields); empty: the default.
    fingerprint: tuple[str, ...] = ()
    #: ``machine``: no other machine of a fleet needs to know; empty or ``fleet``: the fleet shares its messages.
    scope: str = ""

    @property
    def is_auxiliary(self) -> bool:
        """Whether it serves another rule, and fires nothing."""
        return bool(self.resolves or self.counts_for)

    @property
    def keeps_state(self) -> bool:
        """Whether what a match leads to depends on incidents, or on what is measured."""
        return self.incident is not None or self.measure is not None or self.is_auxiliary


class IncidentNotice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says of its incident. Times are in seconds since the epoch."""

    #: The same for all episodes of a rule and a key.
    id: str
    #: ``firing``, ``reminder``, ``escalated``, ``flapping``, ``acknowledged`` or ``resolved``.
    status: str
    #: From 1.
    episode: int
    #: What messages of one episode have in common.
    thread: str
    #: When it had its first match, and when it began to fire.
    started: float
    key: Mapping[str, str] = {}
    #: How many matches it has had so far, and when the last one was.
    count: int = 0
    last: float = 0.0
    ended: float | None = None
    #: ``line``, ``timeout``, ``operator`` or ``removed``.
    ended_by: str = ""
    #: The line that ended it.
    end: str = ""
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    #: The alarms that were notified of the episode before.
    told: tuple[str, ...] = ()
    #: The ledger's column of the message: ``matched`` for one that a match has made.
    column: str = "matched"


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """Facts about the rule that fired, beside its regexp."""

    name: str = ""
    labels: Mapping[str, str] = {}
    #: It fired at this many matches …
    count: int = 1
    #: … within this many seconds.
    within: float = 0.0
    #: The request took longer than this, in seconds.
    slower_than: float | None = None
    #: None for a rule without incidents.
    incident: IncidentNotice | None = None
    #: What equal events have in common, where the rule says so.
    fingerprint: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True):
    """The origin of an alarm's messages."""

    host: str = ""
    #: The server's name, if it has one.
    name: str = ""
    #: Those of the configuration and of the alarm.
    labels: Mapping[str, str] = {}
    #: The URL of the page, without a slash at its end; empty where there is none.
    url: str = ""
    #: Signs links that acknowledge; empty: there are none.
    link_key: bytes = b""


class Texts(msgspec.Struct, frozen=True):
    """The texts of an alarm for people: templates that replace the default texts if they are not empty."""

    title: str = ""
    text: str = ""


#: The texts of an alarm that has none of its own.
DEFAULT_TEXTS = Texts()


class Machines(msgspec.Struct, frozen=True, omit_defaults=True):
    """The machines of a fleet for which one message speaks."""

    #: The first 20.
    names: tuple[str, ...] = ()
    count: int = 0
    #: The fleet could not be reached: other machines may send the same.
    is_unreachable: bool = False


class Firing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One alarm with one message, to be delivered."""

    #: Unique and stable over restarts: an idempotency key for the receiver.
    id: str
    alarm: str
    #: The record's message and context, in at most ``alarm-msg-size`` bytes.
    message: bytes
    record: Record
    #: Seconds since the epoch.
    time: float
    #: The regexp of the rule that fired; empty for ``alarm_mw.alarm()`` and monitors.
    rule: str = ""
    #: How many firings of this alarm were held back since its last one.
    held_back: int = 0
    #: When the first of them was held back, in seconds since the epoch.
    held_since: float | None = None
    #: A digest: the message only reports what was held back.
    is_digest: bool = False
    #: How many firings it represents, if the alarm has a ``group_wait``.
    count: int = 1
    #: The alarms that could not deliver it and handed it over, in order.
    via: tuple[str, ...] = ()
    #: For a rule with a name, labels or a limit; None otherwise.
    trigger: Trigger | None = None
    #: What it has in common with equal events; empty: not known yet.
    fingerprint: str = ""
    #: None for a message of this machine alone.
    machines: Machines | None = None
    #: Where a message comes from that a hub delivers for another machine; None for those of this machine.
    origin: Place | None = None

    @property
    def text(self) -> str:
        """The message as text, undecodable bytes as surrogates, without the newline at the end."""
        return self.message.decode("utf-8", "surrogateescape").removesuffix("\n")


class Report(msgspec.Struct, frozen=True):
    """What a monitor says of its incidents."""

    #: The monitor's name.
    rule: str
    #: A record of each value of the key for which something is wrong; the value is empty where there is no key.
    wrong: Mapping[str, Record]
    #: What may be said of values for which that is over: all that are not wrong. None: it is not known what is over.
    over: Mapping[str, bytes] | None = None


class Held(msgspec.Struct, frozen=True):
    """A firing that the engine held back, and why."""

    alarm: str
    reason: Reason


class Verdict(msgspec.Struct, frozen=True):
    """What the engine decided about one record."""

    firings: tuple[Firing, ...] = ()
    held: tuple[Held, ...] = ()
    #: Every alarm whose rule matched, in the order of the rules, each once.
    matched: tuple[str, ...] = ()
    #: Why the rules were not applied to the record, or that an exclusion ended the scan.
    skipped: Reason | None = None
    #: Indexes of the rules whose regexp was cut off at its time limit.
    cut_off: tuple[int, ...] = ()
    #: It matched what ends incidents.
    is_resolve: bool = False


class Death(msgspec.Struct, frozen=True):
    """How a process of the server ended, as far as known."""

    #: Unique to this death and the same after a restart of the master.
    key: str
    #: 0 if unknown.
    pid: int = 0
    #: Its command line; empty if unknown.
    command: str = ""
    #: Its exit status, or a negative signal number, as in `subprocess`; None if unknown.
    returncode: int | None = None
    #: Whether it was the server itself rather than one of its child processes.
    is_server: bool = False
    #: Whether the kernel's OOM killer killed it.
    out_of_memory: bool = False
    #: The lines that `faulthandler` wrote at its end; empty if none.
    dump: tuple[str, ...] = ()
