"""Ready rule sets, under the names of the servers: ``rules = "gunicorn"`` in the place of a regexp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from alarm_mw.config.parts import Entry, Written
from alarm_mw.config.report import Report
from alarm_mw.config.tables.tree import Table, alarm_names, kind_of
from alarm_mw.model.errors import OptionError
from alarm_mw.model.keyvalue import comma_list, did_you_mean
from alarm_mw.model.types import Rule, Where


class NamedRule(NamedTuple):
    """A regexp of a set."""

    #: What happened, in a word or two.
    name: str
    pattern: str
    #: A sentence for the user.
    meaning: str


#: Python's own, as the last line of a traceback; in every server's set.
_TOO_MANY_FILES = NamedRule(
    "too_many_files",
    r"^OSError: \[Errno 24\] Too many open files",
    "A process has used up its file descriptors: raise ulimit -n, or look for what is not closed.",
)

_OUT_OF_MEMORY = NamedRule("out_of_memory", r"^MemoryError\b", "Python could not get the memory that it asked for.")

_GUNICORN = (
    NamedRule(
        "worker_timeout",
        r"WORKER TIMEOUT \(pid:\d+\)",
        "A worker did not answer for --timeout seconds and is killed: uWSGI's harakiri.",
    ),
    NamedRule(
        "worker_died",
        # boot_failed reports 3 and 4, killed reports SIGKILL; SIGTERM is gunicorn's own way to stop a worker.
        r"Worker (?:\(pid:\d+\) was sent (?!SIG(?:TERM|KILL)\b)\w+|\(pid:\d+\) exited with code (?![34]\.)"
        r"|with pid \d+ was terminated due to signal (?!(?:9|15)\b))",
        "A worker ended by a signal such as SIGSEGV, or with an exit status.",
    ),
    NamedRule(
        "killed",
        r"Worker (?:\(pid:\d+\) was sent SIGKILL|with pid \d+ was terminated due to signal 9\b)",
        "A worker was killed: by the kernel when memory ran out, or by gunicorn when it did not end by itself.",
    ),
    NamedRule(
        "boot_failed",
        # When a second worker fails while gunicorn halts for the first, it ends by this in the reason's place;
        # the traceback has the line twice, and `alarm_freq` holds the same message back.
        r"(?:Reason: |HaltServer: <HaltServer ')(?:Worker failed to boot|App failed to load)\.",
        "No worker could start, so that gunicorn gave up: an import error, or an application that is not there.",
    ),
    NamedRule("address_in_use", r"Can't connect to \S", "The address is in use or not available; gunicorn gave up."),
    NamedRule(
        "listen_queue",
        r"socket backlog: \d{3,}$",
        "100 connections or more wait; logged with --enable-backlog-metric and --log-level debug only.",
    ),
    NamedRule("master_failed", r"Unhandled exception in main loop", "gunicorn's master itself failed and ends."),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

_UVICORN = (
    NamedRule("worker_died", r"Child process \[\d+\] died", "A worker process ended or hung, and is replaced."),
    NamedRule(
        "boot_failed",
        r"Error loading ASGI app|Application startup failed\. Exiting\.",
        "The application could not be imported, or its lifespan start-up failed.",
    ),
    NamedRule(
        "address_in_use",
        r"\[Errno 98\] (?:error while attempting to bind|Address already in use)",
        "The address is in use: uvicorn ends.",
    ),
    NamedRule(
        "restart_failed",
        r"New child process \[\d+\] was not ready in time",
        "A worker that was to replace another at a restart did not start; the old one stays.",
    ),
    NamedRule(
        "listen_queue",
        r"Exceeded concurrency limit\.",
        "More requests at once than --limit-concurrency: uvicorn answers 503.",
    ),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

_HYPERCORN = (
    NamedRule(
        "boot_failed",
        r"LifespanFailureError: |LifespanTimeoutError: |NoAppError",
        "The application could not be loaded, or its lifespan start-up failed.",
    ),
    NamedRule("framework_error", r"Error in ASGI Framework", "The application raised an exception."),
    NamedRule("address_in_use", r"^OSError: \[Errno 98\]", "The address is in use."),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

_GRANIAN = (
    NamedRule("worker_died", r"Unexpected exit from worker-\d+", "A worker ended unexpectedly."),
    NamedRule("crash_loop", r"Worker crash loop detected, exiting", "Workers ended again and again; granian gave up."),
    NamedRule(
        "worker_killed",
        r"Killing (?:old )?worker-\d+ after it refused to gracefully stop",
        "A worker did not end in --workers-kill-timeout seconds.",
    ),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

_WAITRESS = (
    NamedRule("listen_queue", r"Task queue depth is \d+", "All threads are busy, and so many requests wait."),
    NamedRule(
        "too_many_connections",
        r"total open connections reached the connection limit",
        "As many connections as connection_limit: no more are accepted.",
    ),
    NamedRule("address_in_use", r"^OSError: \[Errno 98\]", "The address is in use."),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

_UWSGI = (
    NamedRule(
        "harakiri",
        r"\*\*\* HARAKIRI ON ",
        "A worker, mule, spooler, gateway or cron job took longer than its time limit, and is killed.",
    ),
    NamedRule(
        "worker_died",
        r"DAMN ! worker \d+ \(pid: \d+\) (?:died|MYSTERIOUSLY killed)|OOOPS (?:mule \d+|the spooler) ",
        "A worker, a mule or the spooler ended, and is replaced.",
    ),
    NamedRule("segfault", r"!!! uWSGI process \d+ got ", "A uWSGI process got a fatal signal."),
    NamedRule(
        "boot_failed",
        r"\*\*\* no app loaded\.|OOPS ! failed loading app in worker \d+",
        "The application could not be loaded.",
    ),
    NamedRule("listen_queue", r"uWSGI listen queue of socket .* full !!!", "The listen queue of a socket is full."),
    NamedRule("address_in_use", r"bind\(\): Address already in use", "The address is in use: uWSGI ends."),
    NamedRule("too_many_files", r"accept\(\): Too many open files", "uWSGI has used up its file descriptors."),
    NamedRule(
        "out_of_memory",
        r"\*\*\* EVIL RELOAD ON WORKER \d+ |^MemoryError\b",
        "A worker is killed for the memory that it takes, or Python could not get what it asked for.",
    ),
    NamedRule(
        "respawning_too_fast", r"worker respawning too fast !!!", "Workers end again and again soon after their start."
    ),
)

_CELERY = (
    NamedRule(
        "task_failed",
        # What has a rule of its own is matched by the traceback's last line.
        r"Task \S+\[\S+\] (?:raised unexpected: (?!MemoryError\(|OSError\(24,)|INTERNAL ERROR: )",
        "A task raised an exception that it does not name in `throws`, a soft time limit among them.",
    ),
    NamedRule(
        "time_limit", r"Hard time limit \(\S+\) exceeded for ", "A task took too long, and its process is killed."
    ),
    NamedRule(
        "worker_died",
        # By SIGTERM Celery ends a task that took too long.
        r"Process '\S+' pid:\d+ exited with '(?!signal 15\b)",
        "A process of the pool was killed, or ended by itself; the kernel kills when memory runs out.",
    ),
    NamedRule(
        "unknown_task",
        r"Received unregistered task of type ",
        "A message names a task that this worker does not have, and is thrown away.",
    ),
    NamedRule(
        "broker_unreachable",
        r"^Trying again in \S+ seconds\.\.\. \(1/",
        "The broker does not answer; logged once, when the worker begins to retry.",
    ),
    NamedRule("gave_up", r"Unrecoverable error: ", "The worker ends for an error in itself."),
    NamedRule("boot_failed", r"^Unable to load celery application\.", "The application could not be loaded."),
    _TOO_MANY_FILES,
    _OUT_OF_MEMORY,
)

#: The sets by their names.
RULE_SETS: Mapping[str, tuple[NamedRule, ...]] = MappingProxyType(
    {
        "gunicorn": _GUNICORN,
        "uvicorn": _UVICORN,
        "hypercorn": _HYPERCORN,
        "granian": _GRANIAN,
        "waitress": _WAITRESS,
        "uwsgi": _UWSGI,
        "celery": _CELERY,
    }
)

#: The keys of a table that names sets.
SET_KEYS = ("rules", "alarms")


def rules_of(names: Iterable[str]) -> tuple[NamedRule, ...]:
    """Return the rules of these sets, each ``SET`` or ``SET.RULE``; those that several have in common once.

    Raises `OptionError` for names that are not known.
    """
    wanted = list(names)
    known = _by_name()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise OptionError(*(_unknown(name, known) for name in unknown))
    return tuple({rule.pattern: rule for name in wanted for rule in known[name]}.values())


def _by_name() -> dict[str, tuple[NamedRule, ...]]:
    single = {f"{name}.{rule.name}": (rule,) for name, rules in RULE_SETS.items() for rule in rules}
    return {**RULE_SETS, **single}


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"unknown rule set {name!r}{did_you_mean(name, known)}; there are: {', '.join(RULE_SETS)}"


def read_set_table(table: Table) -> list[Written]:
    """Return the rules of a table ``[[rules]]`` that names sets; what is wrong goes to the report of the table."""
    table.refuse_unknown(SET_KEYS)
    alarms, value = alarm_names(table, "rule"), table.values["rules"]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        table.wrong(f"rules: expected the name of a rule set, or an array of names, got {kind_of(value)}", "rules")
        return []
    if table.is_broken("rules"):
        return []
    try:
        return _written([str(name) for name in names], alarms, table.where("rules"), table.where("alarms"))
    except OptionError as error:
        table.origin.report.refused(table.where("rules"), table.name, error)
        return []


def read_set_option(entry: Entry, report: Report) -> list[Written]:
    """Return the rules of ``NAME[,NAME…] SET[,SET…]``; what is wrong goes to `report`."""
    names, _, sets = entry.value.partition(" ")
    alarms, wanted = comma_list(names), comma_list(sets)
    if not alarms or not wanted:
        report.wrong(entry.where, f"{entry.key}: expected NAME[,NAME…] SET[,SET…], with a space between them")
        return []
    try:
        return _written(wanted, alarms, entry.where, entry.where, is_strict=False)
    except OptionError as error:
        report.refused(entry.where, entry.key, error)
        return []


def _written(
    names: Iterable[str], alarms: tuple[str, ...], where: Where, names_at: Where, *, is_strict: bool = True
) -> list[Written]:
    return [Written(Rule(rule.pattern, alarms, where=where), names_at, is_strict) for rule in rules_of(names)]
