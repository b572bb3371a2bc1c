"""Plugin protocols with one main method each. The built-in plugins use nothing else."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, ClassVar, Protocol, Self, TypedDict, runtime_checkable

import msgspec

from alarm_mw.model.errors import ActionError
from alarm_mw.model.measures import Measure
from alarm_mw.model.types import Death, Firing, Place, Texts

#: Use as ``Annotated[str, SECRET]``: the value is masked wherever options are shown.
SECRET = msgspec.Meta(extra={"secret": True})

MASK = "********"


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a plugin: a frozen struct whose fields are the keys of the configuration.

    A field's type and default are its check; ``Annotated[T, msgspec.Meta(description="…")]`` is its help;
    `SECRET` masks it. Values that depend on each other are checked in ``__post_init__``, which raises
    `ValueError` with a sentence for the user.
    """

    #: Whether the action notifies a person, so that ``alarm_rate`` and ``repeat_after`` apply to it by default.
    for_humans: ClassVar[bool] = True
    #: Whether the action does something on this machine, so that each machine of a fleet does it by default.
    is_of_machine: ClassVar[bool] = False
    #: Options in seconds whose default in uWSGI's files is ``socket-timeout``.
    socket_timeouts: ClassVar[tuple[str, ...]] = ()
    #: Whether attempts have no time limit if the alarm comes from uWSGI's files.
    is_unlimited_in_uwsgi: ClassVar[bool] = False
    #: Whether the alarm can have its own `title` and `text`.
    has_texts: ClassVar[bool] = True
    #: Options that are templates if the alarm has texts for people.
    templates: ClassVar[tuple[str, ...]] = ()
    #: Of a monitor: the field of its records by which its incidents differ; empty: it has one incident.
    incident_key: ClassVar[str] = ""
    #: Of a monitor: whether it has incidents in any case.
    is_always_incident: ClassVar[bool] = False
    #: Of a monitor: options that it cannot have with incidents, and why.
    not_of_incidents: ClassVar[Mapping[str, str]] = {}

    @property
    def reaches_people(self) -> bool:
        """Whether an alarm with these options notifies a person: `for_humans`, where they do not decide."""
        return self.for_humans

    @property
    def has_acknowledgements(self) -> bool:
        """Whether the receiver keeps alerts that can be acknowledged."""
        return False

    @property
    def refreshes(self) -> bool:
        """Whether the receiver forgets alerts that are not sent again, so that the action sends open ones again."""
        return False

    def about(self) -> str:
        """Return what a check of the configuration says of such options beside that they are right; empty: nothing."""
        return ""

    def knows_end(self) -> bool:
        """Return whether a monitor with these options says when its incidents are over (`MonitorContext.report`)."""
        return False

    def measure(self) -> Measure | None:
        """Return what the engine measures for a monitor with these options; None for one that looks by itself."""
        return None

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about values that are allowed but probably not intended; `alarm-mw check` shows them."""
        return ()

    def __repr__(self) -> str:
        shown = (
            f"{name}={MASK if name in secrets(type(self)) else getattr(self, name)!r}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def secrets(options: type[PluginOptions]) -> frozenset[str]:
    """Return the names of the fields whose values must never be shown."""
    info = msgspec.inspect.type_info(options)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(
        field.name
        for field in info.fields
        if isinstance(field.type, msgspec.inspect.Metadata) and (field.type.extra or {}).get("secret")
    )


class Processes(Protocol):
    """The application's processes that an action can reach. Call its methods on the event loop."""

    async def raise_signal(self, number: int) -> bool:
        """Run the handlers of uWSGI signal `number`, and return whether a process accepted it."""
        ...

    async def send_to_mule(self, mule: int, firing: Firing) -> None:
        """Return when mule number `mule`, or any mule for 0, has handled the message; raise `ActionError`."""
        ...


def _unknown() -> None:
    """Return None, as the process id of a server that is not known."""


def _cannot(data: bytes) -> bool:  # noqa: ARG001  # what it is asked
    """Return False: whether it would have to wait is not known."""
    return False


#: Carries out what somebody has written about incidents, such as ``ack a7f3``, and returns what to answer: the text,
#: who wrote it, and when, in seconds since the epoch (None: just now).
Obey = Callable[[str, str, float | None], Awaitable[str]]


async def _disobey(*_: object) -> str:
    """Return that there is nobody who could do it."""
    return "there are no incidents here"


#: Leaves a message to the hub of the fleet, and returns when the hub has it; raises `ActionError`.
HandOver = Callable[[Firing], Awaitable[None]]


async def no_hub(_: Firing) -> None:
    """Raise `ActionError`: a master in a fleet leaves messages to its hub."""
    raise ActionError(
        "this master is in no fleet, so there is no hub: configure [fleet], and start it by `alarm-mw run`, "
        "`alarm-mw follow` or the gunicorn hook",
        retry=True,
    )


class PopenOptions(TypedDict):
    """Arguments of `subprocess.Popen`."""

    user: int | None
    group: int | None
    extra_groups: Sequence[int] | None
    cwd: str | None
    umask: int


class Execution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """User, directory and environment of commands and mules; empty values are inherited from the master."""

    uid: Annotated[str, msgspec.Meta(description="user, by name or number")] = ""
    gid: Annotated[str, msgspec.Meta(description="group, by name or number; supplementary groups are dropped")] = ""
    chdir: Annotated[str, msgspec.Meta(description="working directory")] = ""
    umask: Annotated[str, msgspec.Meta(pattern="^([0-7]{1,4})?$", description="umask, in octal")] = ""
    env: Annotated[
        dict[str, str], SECRET, msgspec.Meta(description="environment variables; the server gets them as well")
    ] = msgspec.field(default_factory=dict)
    unenv: Annotated[tuple[str, ...], msgspec.Meta(description="environment variables to remove")] = ()

    @property
    def user(self) -> int | None:
        """Return the number of the user; raise `KeyError` for an unknown name."""
        if not self.uid:
            return None
        return int(self.uid) if self.uid.isdecimal() else pwd.getpwnam(self.uid).pw_uid

    @property
    def group(self) -> int | None:
        """Return the number of the group; raise `KeyError` for an unknown name."""
        if not self.gid:
            return None
        return int(self.gid) if self.gid.isdecimal() else grp.getgrnam(self.gid).gr_gid

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the environment made from `inherited`."""
        return {name: value for name, value in {**inherited, **self.env}.items() if name not in self.unenv}

    def popen_options(self) -> PopenOptions:
        """Return the arguments for `subprocess.Popen`, without the environment.

        Only root can change the user and the group: both are ignored elsewhere, as in uWSGI.
        """
        user, group = (self.user, self.group) if os.geteuid() == 0 else (None, None)
        return {
            "user": user,
            "group": group,
            "extra_groups": None if group is None else (),
            "cwd": self.chdir or None,
            "umask": int(self.umask, 8) if self.umask else -1,
        }


class ActionContext(msgspec.Struct, frozen=True):
    """What an action may know of its surroundings."""

    #: The alarm's name.
    alarm: str
    #: Writes bytes to the log (the master's standard error), never back into the rules. Thread-safe.
    write_log: Callable[[bytes], None]
    #: Returns the process id of the server under ``alarm-mw run``, else None.
    server_pid: Callable[[], int | None] = _unknown
    #: The workers and mules under ``alarm-mw run``, else None.
    processes: Processes | None = None
    #: Writes bytes to the log if that does not block, and returns whether it did; `write_log` may block.
    write_log_at_once: Callable[[bytes], bool] = _cannot
    #: User and directory of commands.
    execution: Execution = Execution()
    #: The origin of its messages.
    place: Place = Place()
    #: Its texts for people; None: uWSGI's messages byte for byte, as for ini files and flags.
    texts: Texts | None = None
    #: Carries out orders about incidents. Whose orders to take is for the action to know.
    obey: Obey = _disobey
    #: Leaves a message to the hub of the fleet.
    hand_over: HandOver = no_hub


@runtime_checkable
class Action(Protocol):
    """Delivers firings of one alarm; made once per alarm.

    ``async with action:`` brackets its life: a connection made there lives as long as the alarm. An
    ``__aenter__`` that needs the network must not wait for it: it starts connecting and returns.
    """

    Options: ClassVar[type[PluginOptions]]
    #: Maximum number of firings of one alarm in delivery at once; 1 keeps their order.
    concurrency: ClassVar[int]

    def __init__(self, options: PluginOptions, context: ActionContext) -> None: ...

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        """Parse the options after ``plugin:`` in uWSGI's syntax; raise `OptionError`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def deliver(self, firing: Firing) -> Awaitable[None] | None:
        """Deliver the firing and return; raise `ActionError` if it was not delivered.

        A coroutine function runs on the event loop; a plain function runs in a thread of its own and may block.
        """
        ...


@runtime_checkable
class Previewed(Protocol):
    """An action that can preview what it would send."""

    def preview(self, firing: Firing) -> str:
        """Return what `deliver` would send, with secrets masked. Does not block and sends nothing."""
        ...


#: Calls the given function with every death while the returned context is open.
WatchDeaths = Callable[[Callable[[Death], None]], AbstractContextManager[None]]


def no_deaths(_: Callable[[Death], None]) -> AbstractContextManager[None]:
    """Return an empty context, for use without a server (`WatchDeaths`)."""
    return nullcontext()


def _ignore(*_: object) -> None:
    """Do nothing: the default for what a context does not offer."""


#: Takes what is wrong at present, a message by the value of the incidents' key (empty where they have none), and what
#: may be said of values for which that is over. All incidents of the monitor that are not named are over.
Report = Callable[[Mapping[str, bytes], Mapping[str, bytes]], None]


class MonitorContext(msgspec.Struct, frozen=True):
    """What a monitor may do and know."""

    #: The monitor's name in the configuration: ``fd``, ``backlog``, …
    monitor: str
    #: Fires the monitor's alarms with this message, without a rule. Does not block; callable from any thread.
    fire: Callable[[bytes], None]
    #: Returns the process id of the server under ``alarm-mw run``, else None.
    server_pid: Callable[[], int | None]
    #: Writes bytes to the log (the master's standard error), never back into the rules. Thread-safe.
    write_log: Callable[[bytes], None] = _ignore
    #: Returns the application's metrics and the ledger's columns, by name.
    metrics: Callable[[], Mapping[str, int]] = dict
    #: Adds a number to one of the application's metrics.
    add_to_metric: Callable[[str, int], None] = _ignore
    #: Like `fire`, but fires once per key, also over restarts of the master.
    fire_once: Callable[[bytes, str], None] = _ignore
    #: Calls back on the event loop with each death of a server process while the context is open.
    deaths: WatchDeaths = no_deaths
    #: Says what is wrong at present, and what is to be said of what is over; None where the monitor has no incidents.
    report: Report | None = None


@runtime_checkable
class Monitor(Protocol):
    """Waits for a condition other than a line; created once per entry in the configuration."""

    Options: ClassVar[type[PluginOptions]]

    def __init__(self, options: PluginOptions, context: MonitorContext) -> None: ...

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        """Parse the options after the alarm's name in uWSGI's syntax; raise `OptionError`."""
        ...

    async def run(self) -> None:
        """Watch, on the event loop, until cancelled.

        An exception is logged, and the monitor is restarted after a pause. Return if there is nothing left to watch.
        """
        ...
