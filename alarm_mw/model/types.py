"""The facts that travel through the program: frozen, slotted, without behaviour of their own."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class Reason(enum.StrEnum):
    """The named cause of everything that was not delivered; each one is counted in the ledger."""

    #: The line begins with ``[uwsgi-alarm``: it was written by alarm code.
    ALARM_MARK = "alarm_mark"
    #: The record was made by one of our loggers, or inside an action.
    ALARM_ORIGIN = "alarm_origin"
    #: The rule's regexp took longer than its time limit on this line, and no other rule matched it.
    RULE_TIMEOUT = "rule_timeout"
    #: The line passed unjudged: the screen failed on it, or no master could be started for a while.
    UNJUDGED = "unjudged"
    #: A ``not-log-alarm`` rule ended the scan before any rule had fired.
    EXCLUDED = "excluded"
    #: The queue between the application and the master was full.
    QUEUE_FULL = "queue_full"
    #: No master could be reached, so the record was dropped in the application.
    NO_MASTER = "no_master"
    #: The same message as the alarm's last one, within ``alarm-freq`` seconds.
    SAME_MESSAGE = "same_message"
    #: A message that the alarm has fired within its ``repeat_after``, whatever it fired in between.
    REPEAT = "repeat"
    #: The alarm had fired as often as its ``rate`` allows.
    RATE = "rate"
    #: All alarms for humans together had fired as often as ``alarm_rate`` allows.
    ALARM_RATE = "alarm_rate"
    #: The rule asks for ``count`` matches ``within`` a time, and this one was not yet the last of them.
    BELOW_THRESHOLD = "below_threshold"
    #: Somebody has silenced the alarm for a time.
    SILENCED = "silenced"
    #: The alarm's own text kept coming back.
    LOOP = "loop"
    #: The same record was seen twice: through the handler and through the output pipe, or by two of our sources.
    ECHO = "echo"
    #: The alarm is optional, and what its action needs is not installed.
    UNAVAILABLE = "unavailable"
    #: The outbox holds this very firing already (a master was replaced in between).
    DUPLICATE = "duplicate"
    #: ``alarm()`` named an alarm that is not configured.
    UNKNOWN_ALARM = "unknown_alarm"
    #: The receiver refused the message; trying again cannot help.
    REFUSED = "refused"
    #: Delivery was retried for ``give_up_after`` seconds in vain.
    GAVE_UP = "gave_up"
    #: What the outbox holds of the firing cannot be read, as after a fault of the disk.
    UNREADABLE = "unreadable"
    #: The outbox could not be written, so the firing was lost.
    OUTBOX_FAILED = "outbox_failed"
    #: As many firings waited in the outbox as it may hold, so the firing was lost.
    OUTBOX_FULL = "outbox_full"
    #: Somebody gave up what nobody delivered: ``alarm-mw dead drop``.
    DISCARDED = "discarded"
    #: The process ended before the firing could be delivered (only where nothing is durable), or before the master had
    #: read the record.
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
    #: Of a request's record: the keys of the conditions that hold for it as far as the application can tell.
    held: tuple[str, ...] = ()
    #: Lines that an alarm shows below the message. No rule looks at them, and no two messages differ by them.
    context: bytes = b""
    #: The log call that it was made of: of several records of one call, an alarm is fired for one. Empty: not known.
    call: str = ""
    #: Of a line of which the message is the first part, how many bytes it has; below zero: more than so many.
    size: int = 0

    @property
    def text(self) -> str:
        """The message as text, undecodable bytes as surrogates, without the newline at the end."""
        return self.message.decode("utf-8", "surrogateescape").removesuffix("\n")


class RequestConditions(msgspec.Struct, frozen=True):
    """What a rule asks of a request; all that is given must hold."""

    #: In capitals; empty: any.
    methods: tuple[str, ...] = ()
    #: A regexp of Python's, searched in the whole path, as the record's fields show it.
    path: str | None = None
    #: First and last of each range of status codes; empty: any, and none.
    statuses: tuple[tuple[int, int], ...] = ()
    #: It took more than so many seconds.
    slower_than: float | None = None
    #: Its body had more than so many bytes.
    request_larger_than: int | None = None
    #: The response's body had more than so many bytes.
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
    #: It was under way for so many seconds and had not ended; without it, only requests that have ended are asked.
    unfinished_after: float | None = None
    #: Read from the lines of a server's access log, rather than told by a middleware.
    access_log: bool = False


class Rule(msgspec.Struct, frozen=True):
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
    #: Fires at the last of so many matches …
    count: int = 1
    #: … within so many seconds.
    within: float = 0.0
    #: Only requests for which these conditions hold; the regexp may then be empty.
    request: RequestConditions | None = None
    where: Where = NOWHERE
    #: What people call it; empty: nothing.
    name: str = ""
    #: Names and values that its firings carry.
    labels: tuple[tuple[str, str], ...] = ()


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message can say of the rule that fired, beside its regexp."""

    name: str = ""
    labels: Mapping[str, str] = {}
    #: It fired at the last of so many matches …
    count: int = 1
    #: … within so many seconds.
    within: float = 0.0
    #: The request took more than so many seconds.
    slower_than: float | None = None


class Place(msgspec.Struct, frozen=True):
    """Where an alarm's messages come from."""

    host: str = ""
    #: The server's name, where it was given one.
    name: str = ""
    #: Those of the configuration and of the alarm.
    labels: Mapping[str, str] = {}


class Texts(msgspec.Struct, frozen=True):
    """What an alarm says to people: templates in place of the default texts where they are not empty."""

    title: str = ""
    text: str = ""


class Firing(msgspec.Struct, frozen=True):
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
    #: Nothing new has happened: the message tells of what was held back.
    is_digest: bool = False
    #: For how many firings it stands, where the alarm has a ``group_wait``.
    count: int = 1
    #: The alarms that could not deliver it and handed it over, the first one first.
    via: tuple[str, ...] = ()
    #: Of a rule with a name, labels or a limit to tell of; None for all others.
    trigger: Trigger | None = None

    @property
    def text(self) -> str:
        """The message as text, undecodable bytes as surrogates, without the newline at the end."""
        return self.message.decode("utf-8", "surrogateescape").removesuffix("\n")


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
    #: Why the record as a whole was not put to the rules, or ended in an exclusion.
    skipped: Reason | None = None
    #: Indexes of the rules whose regexp was cut off at its time limit.
    cut_off: tuple[int, ...] = ()


class Death(msgspec.Struct, frozen=True):
    """How one of the server's processes ended, as far as that is known."""

    #: Unique to this death and the same after a restart of the master.
    key: str
    #: 0 where it is not known which process it was.
    pid: int = 0
    #: Its command line; empty where it is not known.
    command: str = ""
    #: Its exit status, or a signal's number below zero, as `subprocess` has it; None where it is not known.
    returncode: int | None = None
    #: Was it the server itself, rather than a process below it?
    is_server: bool = False
    #: The kernel killed it because memory ran out.
    out_of_memory: bool = False
    #: What `faulthandler` wrote at its end, line by line; empty where that was nothing.
    dump: tuple[str, ...] = ()
