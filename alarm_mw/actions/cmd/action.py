"""``cmd:SHELL COMMAND``: runs a command with the message on its standard input."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import msgspec

from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext, PluginOptions
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing, IncidentNotice
from alarm_mw.system.forks import held_off
from alarm_mw.texts import uploaded

if TYPE_CHECKING:
    from alarm_mw.actions.cmd.child import Child

#: Bytes of one command's output that go to the log.
OUTPUT_LIMIT = 65_536

#: Bytes of the end of stderr that an error quotes.
STDERR_TAIL = 4_096

#: Seconds to wait for more output when the command has ended but its children hold the pipe.
OUTPUT_GRACE = 0.1

#: The highest exit status.
_HIGHEST = 255

#: Errors of resources that may be available again soon.
_TEMPORARY = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}

#: Variables for the application only: a command that found the master's socket would become a source.
_OWN = "ALARM_MW_"


#: The program of a command that begins simply: variables, a name or an absolute path, a blank.
_PROGRAM = re.compile(r"\s*(?:\w+=[\w./:-]*\s+)*(/[\w./+-]+|\w[\w.+-]*)(?=\s|;|$)")

#: Builtins of POSIX's shell (XCU 2.9, 2.14).
_BUILTINS = frozenset(
    {"case", "cd", "command", "eval", "exec", "exit", "export", "for", "if", "local", "read", "return"}
)
_BUILTINS |= {"set", "shift", "times", "trap", "type", "ulimit", "umask", "unset", "until", "wait", "while"}


class CmdOptions(PluginOptions, frozen=True, kw_only=True):
    """Options of the action `cmd`."""

    #: What runs is a program's business: it may have to run for every message.
    for_humans: ClassVar[bool] = False
    is_unlimited_in_uwsgi: ClassVar[bool] = True

    command: Annotated[
        str, msgspec.Meta(description="the command for `/bin/sh -c`; the message is on its standard input")
    ]
    retry_on: Annotated[
        tuple[int | Literal["signal"], ...] | Literal["any"],
        msgspec.Meta(
            description="exit statuses after which the command runs again; `signal` for a death by a signal; or `any`"
        ),
    ] = (os.EX_TEMPFAIL, "signal")

    def __post_init__(self) -> None:
        """Raise an error for what would fail at the first alarm."""
        if any(isinstance(status, int) and not 1 <= status <= _HIGHEST for status in self.retry_on):
            raise ValueError(f"retry_on: an exit status is a number from 1 to {_HIGHEST}")
        if not self.command.strip():
            raise ValueError("cmd needs a shell command")
        if "\0" in self.command:
            raise ValueError("a shell command cannot hold a NUL character")

    def warnings(self) -> tuple[str, ...]:
        """Return whether the program that the command begins with is missing, where that can be seen."""
        found = _PROGRAM.match(self.command)
        if found is None or found[1] in _BUILTINS or shutil.which(found[1]) is not None:
            return ()
        return (f"the program {found[1]!r} of its command is not there, or cannot be executed by this user",)


class CmdAction:
    """Runs a shell command with the message on its standard input and the facts in ``ALARM_…`` variables.

    Exit status 0 means delivered, any other status a failure. `retry_on` says which of them are retried.
    """

    Options: ClassVar[type[PluginOptions]] = CmdOptions
    concurrency: ClassVar[int] = 8

    def __init__(self, options: CmdOptions, context: ActionContext) -> None:
        self._command = options.command
        self._retry_on = options.retry_on
        self._context = context

    @classmethod
    def from_uwsgi(cls, args: str) -> CmdOptions:
        """Return the options of ``cmd:SHELL COMMAND``: uWSGI runs a command once, unless it asks for more."""
        try:
            return CmdOptions(command=args, retry_on=(os.EX_TEMPFAIL,))
        except ValueError as error:
            raise OptionError(str(error)) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def preview(self, firing: Firing) -> str:
        """Return the command, the variables that it gets, and what is on its standard input."""
        facts = "".join(
            f"ALARM_{name}={printable(str(fact))}\n" for name, fact in _facts(firing, self._context).items()
        )
        stdin = "\n".join(printable_lines(uploaded(firing, self._context)))
        return f"/bin/sh -c {printable(self._command)}\n{facts}\n{stdin}"

    async def deliver(self, firing: Firing) -> None:
        """Run the command; what it writes goes to the log. Cancelling ends it and its children."""
        import asyncio  # noqa: PLC0415  # takes 20 ms of a server's start

        output = _Output()
        child = self._start(firing, output)
        try:
            status = await child.status()
            await child.drain(OUTPUT_GRACE)
        finally:
            await child.stop()
            if text := output.for_log():
                await asyncio.to_thread(self._context.write_log, text)
        if status:
            raise ActionError(explain(status, bytes(output.tail)), retry=self._is_temporary(status))

    def _is_temporary(self, status: int) -> bool:
        return self._retry_on == "any" or (status if status > 0 else "signal") in self._retry_on

    def _start(self, firing: Firing, output: _Output) -> Child:
        with held_off():
            from alarm_mw.actions.cmd.child import Child  # noqa: PLC0415  # see deliver

        execution = self._context.execution
        try:
            stdin = uploaded(firing, self._context)
            return Child(self._command, stdin, environment(firing, self._context), output.take, execution)
        except OSError as error:
            where = f" (in {execution.chdir})" if execution.chdir else ""
            text = f"the command could not be started: {error.strerror}{where}"
            raise ActionError(text, retry=error.errno in _TEMPORARY) from error


class _Output:
    """The output of a command: its start for the log, the end of stderr for the error."""

    def __init__(self) -> None:
        self.tail = bytearray()
        self._kept = bytearray()
        self._total = 0

    def take(self, stream: str, data: bytes) -> None:
        self._total += len(data)
        self._kept += data[: OUTPUT_LIMIT - len(self._kept)]
        if stream == "stderr":
            self.tail += data
            del self.tail[:-STDERR_TAIL]

    def for_log(self) -> bytes:
        cut = self._total - len(self._kept)
        note = f"\n[uwsgi-alarm-cmd] {cut} more bytes of output were left out\n" if cut else ""
        return bytes(self._kept) + note.encode()


def environment(firing: Firing, context: ActionContext) -> dict[str, str]:
    """Return the environment of a command: ours without what makes a process a source, and the facts of `firing`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    facts = {f"ALARM_{name}": _value(fact) for name, fact in _facts(firing, context).items()}
    return context.execution.environment(inherited) | facts


def _of_incident(notice: IncidentNotice | None, url: str) -> dict[str, object | None]:
    if notice is None:
        return {}
    return {
        "STATUS": notice.status,
        "INCIDENT": notice.id,
        "EPISODE": notice.episode,
        "KEY": ",".join(f"{name}={value}" for name, value in notice.key.items()) or None,
        "STARTED": f"{notice.started:.6f}",
        "ENDED": None if notice.ended is None else f"{notice.ended:.6f}",
        "MATCHES": notice.count,
        "URL": f"{url}/i/{notice.id}" if url else None,
    }


def _facts(firing: Firing, context: ActionContext) -> dict[str, object]:
    record, place, trigger = firing.record, context.place, firing.trigger
    labels = {**place.labels, **(trigger.labels if trigger else {})}
    facts: dict[str, object | None] = {
        "NAME": firing.alarm,
        "ID": firing.id,
        "RULE": firing.rule,
        "RULE_NAME": (trigger and trigger.name) or None,
        "HOST": place.host or None,
        "APP": labels.get("app") or place.name or None,
        "TIME": f"{firing.time:.6f}",
        "SOURCE": record.source,
        "PID": record.pid,
        "LOGGER": record.logger,
        "LEVEL": record.level,
        "COUNT": firing.count,
        "INSTEAD_OF": ",".join(firing.via) or None,
        "MACHINES": None if firing.machines is None else ",".join(firing.machines.names),
        "MACHINE_COUNT": None if firing.machines is None else firing.machines.count,
        "HELD_BACK": firing.held_back,
        **_of_incident(trigger.incident if trigger else None, place.url),
        "HELD_SINCE": None if firing.held_since is None else f"{firing.held_since:.6f}",
    }
    facts |= {f"LABEL_{name.upper()}": value for name, value in labels.items()}
    return {name: fact for name, fact in facts.items() if fact is not None}


def _value(fact: object) -> str:
    return str(fact).replace("\0", "").encode("utf-8", "backslashreplace").decode()


def explain(status: int, stderr: bytes) -> str:
    """Return a sentence on why a command failed, with the end of what it wrote to stderr."""
    text = f"the command exited with status {status}" if status > 0 else f"the command was killed by {_name(-status)}"
    said = printable(stderr.strip())
    return f"{text}: {said}" if said else text


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have numbers only
        return f"signal {number}"
