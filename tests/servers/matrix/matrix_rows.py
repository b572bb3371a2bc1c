"""What the tests run it with, as rows of a table: parameters of the tests, and what the documentation shows."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass, replace

#: Access lines, with the method and the path of a request for ``{}``.
COMBINED = r'127\.0\.0\.1 - - \[[^]]+\] "{} HTTP/1\.1" 200 \d+ "-" "-"'
UVICORN = r'INFO: +127\.0\.0\.1:\d+ - "{} HTTP/1\.1" 200 OK'
UVICORN_IN_GUNICORN = r'127\.0\.0\.1:\d+ - "{} HTTP/1\.1" 200'
HYPERCORN = r'\[[^]]+\] \[\d+\] \[INFO\] 127\.0\.0\.1:\d+ - - \[[^]]+\] "{} 1\.1" 200 \d+ "-" "-"'
GRANIAN = r'\[[^]]+\] 127\.0\.0\.1 - "{} HTTP/1\.1" 200 [\d.]+'
UWSGI = r"\[pid: \d+\|app: 0\|req: \d+/\d+\] 127\.0\.0\.1 \(\) \{{.*\}} \[[^]]+\] {} => generated \d+ bytes .*"


class Event(enum.StrEnum):
    """What happens to a server while it is used, in the words of the documentation."""

    KILL = "a worker is killed"
    #: Its only process, or one without which the others end as well.
    DEATH = "it is killed"
    RECYCLE = "workers are recycled"
    RELOAD = "it is reloaded (HUP)"
    CHANGE = "its code changes"


ALL = (Event.KILL, Event.RECYCLE, Event.RELOAD)


@dataclass(frozen=True, slots=True)
class Row:
    """A server with its options."""

    name: str
    #: As `constraints.txt` writes them; none where Python or Debian brings it.
    packages: tuple[str, ...]
    #: With ``{port}`` for the port.
    command: str
    #: What an access line looks like; empty where the server writes none.
    access: str = ""
    events: tuple[Event, ...] = (Event.KILL,)
    #: The exit status after SIGTERM, and after a `DEATH`.
    status: int = 0
    death: int = -signal.SIGKILL
    #: Whether it closes connections that it has accepted, without an answer, when a worker ends.
    hangs_up: bool = False
    #: Whether a request goes on after its answer was sent: what ends the process then leaves it without an end.
    ends_late: bool = False
    #: Who brings it, where that is no package of Python.
    brought_by: str = ""
    end: str = "it is stopped (TERM)"


def _gunicorn(row: Row) -> tuple[Row, Row]:
    """Return a row of a kind of worker, and the same with the application loaded before the workers are forked."""
    command = f"{_GUNICORN} --workers 2 {row.command}"
    return (
        replace(row, name=f"gunicorn, {row.name}", command=command),
        replace(row, name=f"gunicorn, {row.name}, preload", command=f"{command} --preload"),
    )


_GUNICORN = "gunicorn --no-control-socket --bind 127.0.0.1:{port} --access-logfile -"
_UVICORN = "uvicorn --port {port}"
_GRANIAN = "granian --port {port} --workers 2 --access-log --respawn-failed-workers --interface"
_UWSGI = "uwsgi --plugin python3 --http-socket 127.0.0.1:{port} --master --workers 2 --die-on-term --max-requests 20"

#: Servers that answer requests.
SERVERS = (
    *_gunicorn(Row("sync", ("gunicorn",), "wsgi_app:app --max-requests 20", COMBINED, ALL)),
    *_gunicorn(Row("gthread", ("gunicorn",), "wsgi_app:app --threads 4 --max-requests 20", COMBINED, ALL)),
    *_gunicorn(Row("gevent", ("gunicorn", "gevent"), "wsgi_app:app -k gevent --max-requests 20", COMBINED, ALL)),
    *_gunicorn(
        Row(
            "uvicorn workers",
            ("gunicorn", "uvicorn"),
            "asgi_app:app -k uvicorn.workers.UvicornWorker --max-requests 20",
            UVICORN_IN_GUNICORN,
            ALL,
            hangs_up=True,
        )
    ),
    Row(
        "uvicorn, one process",
        ("uvicorn",),
        f"{_UVICORN} asgi_app:app",
        UVICORN,
        (Event.DEATH,),
        # It ends in peace, and then as the signal would have ended it.
        status=-signal.SIGTERM,
    ),
    Row(
        "uvicorn, 4 workers",
        ("uvicorn",),
        f"{_UVICORN} --workers 4 --limit-max-requests 20 asgi_app:app",
        UVICORN,
        ALL,
        hangs_up=True,
    ),
    Row(
        "uvicorn, --reload",
        ("uvicorn",),
        f"{_UVICORN} --reload asgi_app:app",
        UVICORN,
        (Event.CHANGE,),
        hangs_up=True,
    ),
    Row(
        "hypercorn, asyncio",
        ("Hypercorn",),
        "hypercorn --bind 127.0.0.1:{port} --workers 2 --access-logfile - asgi_app:app",
        HYPERCORN,
        # It ends with the first of its workers.
        (Event.DEATH,),
        death=0,
    ),
    Row("granian, ASGI", ("granian",), f"{_GRANIAN} asgi asgi_app:app", GRANIAN, (Event.KILL, Event.RELOAD)),
    Row("granian, WSGI", ("granian",), f"{_GRANIAN} wsgi wsgi_app:app", GRANIAN, (Event.KILL, Event.RELOAD)),
    Row(
        "waitress",
        ("waitress",),
        "waitress-serve --listen 127.0.0.1:{port} wsgi_app:app",
        events=(Event.DEATH,),
        status=-signal.SIGTERM,
    ),
    Row("uWSGI", (), f"{_UWSGI} --module wsgi_app", UWSGI, ALL, brought_by="Debian's 2.0"),
    Row(
        "Django under gunicorn",
        ("Django", "gunicorn"),
        f"{_GUNICORN} --workers 2 django_app:wsgi_app",
        COMBINED,
        (Event.KILL, Event.RELOAD),
    ),
    Row(
        "Django under uvicorn",
        ("Django", "uvicorn"),
        f"{_UVICORN} --workers 2 django_app:asgi_app",
        UVICORN,
        # Django closes its response in another thread.
        ends_late=True,
    ),
)

#: Of those, what is also tested in one process, without `alarm-mw run`.
IN_PROCESS = tuple(row for row in SERVERS if row.name in {"uvicorn, one process", "waitress"})


@dataclass(frozen=True, slots=True)
class Program:
    """A program that does its work without being asked, and ends."""

    name: str
    packages: tuple[str, ...]
    #: With ``{paths}`` for what it has to do.
    command: str
    #: The exit status.
    status: int = 0
    #: How often it says something in peace, and what it does in the end.
    times: int = 20
    last: str = "say"
    events: tuple[Event, ...] = ()
    #: Whether it works on until it is stopped.
    stays: bool = False
    brought_by: str = "Python's own"

    @property
    def end(self) -> str:
        """How it ends, in the words of the documentation."""
        return "it is stopped (TERM)" if self.stays else "it ends"


PROGRAMS = (
    Program("a script", (), "python script.py itself {paths}"),
    Program("a cron job that leaves at once", (), "python script.py itself {paths}", 3, 0, "leave"),
    Program("a cron job that kills itself", (), "python script.py itself {paths}", -signal.SIGKILL, 0, "die"),
    Program("multiprocessing, spawn", (), "python script.py spawn {paths}", 0, 20, "die", (Event.KILL,)),
    Program("multiprocessing, fork", (), "python script.py fork {paths}", 0, 20, "die", (Event.KILL,)),
    Program(
        "Celery, prefork",
        ("celery",),
        "celery -A celery_app worker --concurrency 2 --max-tasks-per-child 8 --without-gossip --without-mingle",
        0,
        30,
        "die",
        (Event.KILL, Event.RECYCLE),
        stays=True,
    ),
)
