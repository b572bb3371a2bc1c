"""What a plugin implements: one main method each. The plugins that ship use nothing else."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, ClassVar, Protocol, Self, TypedDict, runtime_checkable

import msgspec

from alarm_mw.model.types import Death, Firing, Place, Texts

#: Put into ``Annotated[str, SECRET]``: the value is masked wherever options are shown.
SECRET = msgspec.Meta(extra={"secret": True})

MASK = "********"


class PluginOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a plugin: a frozen struct whose fields are the keys of the configuration.

    A field's type and default are its check; ``Annotated[T, msgspec.Meta(description="…")]`` is its help;
    `SECRET` masks it. Values that depend on each other are checked in ``__post_init__``, which raises
    `ValueError` with a sentence for the user.
    """

    #: Whether an action with such options speaks to a person, so that ``alarm_rate`` is about it.
    for_humans: ClassVar[bool] = True
    #: The options that are ``socket-timeout`` in uWSGI's files where they are not given, in seconds.
    socket_timeouts: ClassVar[tuple[str, ...]] = ()
    #: Whether an attempt has no time limit in uWSGI's files.
    is_unlimited_in_uwsgi: ClassVar[bool] = False
    #: Whether an alarm with such options can have a `title` and a `text` of its own.
    has_texts: ClassVar[bool] = True
    #: The options that are templates where the alarm has texts for people.
    templates: ClassVar[tuple[str, ...]] = ()

    def about(self) -> str:
        """Return what a check of the configuration says of such options beside that they are right; empty: nothing."""
        return ""

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each thing that is allowed and probably not meant; `alarm-mw check` shows them."""
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
    """The application's processes that an action can reach; its methods belong on the event loop."""

    async def raise_signal(self, number: int) -> bool:
        """Have the handlers of uWSGI's signal `number` run, and return whether some process took it."""
        ...

    async def send_to_mule(self, mule: int, firing: Firing) -> None:
        """Return when mule number `mule`, or any for 0, is done with the message; raise `ActionError`."""
        ...


def _unknown() -> None:
    """Return None, as the process id of a server that is not known."""


def _cannot(data: bytes) -> bool:  # noqa: ARG001  # what it is asked
    """Return False: whether it would have to wait is not known."""
    return False


class PopenOptions(TypedDict):
    """Arguments of `subprocess.Popen`."""

    user: int | None
    group: int | None
    extra_groups: Sequence[int] | None
    cwd: str | None
    umask: int


class Execution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As whom, where and with which variables commands and mules run; what is empty is inherited from the master."""

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
        """Return the environment that `inherited` becomes."""
        return {name: value for name, value in {**inherited, **self.env}.items() if name not in self.unenv}

    def popen_options(self) -> PopenOptions:
        """Return the arguments of `subprocess.Popen` that have a process run so, its environment apart.

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
    """What an action may know of the program around it."""

    #: The alarm's name.
    alarm: str
    #: Writes bytes to the log (the master's standard error), never back into the rules. Thread-safe.
    write_log: Callable[[bytes], None]
    #: Returns the process id of the server under ``alarm-mw run``, else None.
    server_pid: Callable[[], int | None] = _unknown
    #: The workers and mules under ``alarm-mw run``, else None.
    processes: Processes | None = None
    #: Writes bytes to the log where that needs no waiting, and returns whether it did; `write_log` may block.
    write_log_at_once: Callable[[bytes], bool] = _cannot
    #: As whom and where commands run.
    execution: Execution = Execution()
    #: Where its messages come from.
    place: Place = Place()
    #: What it says to people; None: uWSGI's messages, byte for byte, as an ini file and flags want it.
    texts: Texts | None = None


@runtime_checkable
class Action(Protocol):
    """Delivers firings of one alarm; made once per alarm.

    ``async with action:`` brackets its life: a connection made there lives as long as the alarm. An
    ``__aenter__`` that needs the network must not wait for it: it starts connecting and returns.
    """

    Options: ClassVar[type[PluginOptions]]
    #: How many firings of one alarm may be under way at once; 1 keeps their order.
    concurrency: ClassVar[int]

    def __init__(self, options: PluginOptions, context: ActionContext) -> None: ...

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        """Return the options that stand after ``plugin:`` in uWSGI's syntax; raise `OptionError`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def deliver(self, firing: Firing) -> Awaitable[None] | None:
        """Return when the firing is delivered; raise `ActionError` when it is not.

        A coroutine function runs on the event loop; a plain function runs in a thread of its own and may block.
        """
        ...


@runtime_checkable
class Previewed(Protocol):
    """An action that can say what it would send."""

    def preview(self, firing: Firing) -> str:
        """Return what `deliver` would send, for people, with stars for secrets. Neither blocks nor sends."""
        ...


#: Calls what it is given with every death while the context that it returns lasts.
WatchDeaths = Callable[[Callable[[Death], None]], AbstractContextManager[None]]


def no_deaths(_: Callable[[Death], None]) -> AbstractContextManager[None]:
    """Return a context in which nothing is told, where there is no server (`WatchDeaths`)."""
    return nullcontext()


def _ignore(*_: object) -> None:
    """Do nothing, in the place of what a context does not offer."""


class MonitorContext(msgspec.Struct, frozen=True):
    """What a monitor may do and know."""

    #: The monitor's name in the configuration: ``fd``, ``backlog``, …
    monitor: str
    #: Fires the monitor's alarms with this message, past the rules; returns at once. From any thread.
    fire: Callable[[bytes], None]
    #: Returns the process id of the server under ``alarm-mw run``, else None.
    server_pid: Callable[[], int | None]
    #: Writes bytes to the log (the master's standard error), never back into the rules. Thread-safe.
    write_log: Callable[[bytes], None] = _ignore
    #: Returns the application's metrics and the ledger's columns, by name.
    metrics: Callable[[], Mapping[str, int]] = dict
    #: Adds a number to one of the application's metrics.
    add_to_metric: Callable[[str, int], None] = _ignore
    #: Fires like `fire`; what comes again under the same key, after a restart of the master too, fires once.
    fire_once: Callable[[bytes, str], None] = _ignore
    #: Calls back, on the event loop, with each death of one of the server's processes while the context lasts.
    deaths: WatchDeaths = no_deaths


@runtime_checkable
class Monitor(Protocol):
    """Waits for a condition that is not a line; made once per entry in the configuration."""

    Options: ClassVar[type[PluginOptions]]

    def __init__(self, options: PluginOptions, context: MonitorContext) -> None: ...

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        """Return the options that stand behind the alarm's name in uWSGI's syntax; raise `OptionError`."""
        ...

    async def run(self) -> None:
        """Watch, on the event loop, until cancelled.

        An exception is logged, and the monitor is run again after a pause. One that returns has nothing left to watch.
        """
        ...
