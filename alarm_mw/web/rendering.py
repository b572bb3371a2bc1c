"""Templates, loaded with the first page that is asked for: Jinja2 takes 40 ms and 5 MB."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from alarm_mw.engine.flood_control.limits import span
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.version import VERSION
from alarm_mw.texts.facts import clock, rfc3339
from alarm_mw.web.site import base_site_of, identity_of

if TYPE_CHECKING:
    from jinja2 import Environment

#: Where the templates are, and the files that are served as they are.
TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"

#: Characters of one text on a page; the rest is left out.
MAX_TEXT = 20_000


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  # see above

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "line": _line,
        "lines": _lines,
        "span": lambda seconds: span(max(float(seconds), 0.0)),
        "ago": _ago,
        "lasted": _lasted,
        "clock": clock,
        "rfc3339": rfc3339,
        "hms": lambda seconds: f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M:%S}",
        "day": local_day,
        "number": lambda n: f"{n:,}",
    }
    environment.globals |= {"version": VERSION, "host": socket.gethostname(), "asset": asset}
    return environment


def render(request: Request, template: str, *, status: int = 200, **context: object) -> Response:
    """Return a page. What a template shows of `context` is escaped.

    Beside that, it has ``identity``, ``now``, ``place`` and ``here``, the page's own URL.
    """
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    always = {
        "identity": identity_of(request),
        "here": here,
        "now": time.time(),
        "place": " · ".join(filter(None, (base_site_of(request).name, socket.gethostname()))),
        "theme": _theme(request),
    }
    text = _environment().get_template(template).render(**always, **context)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status, {"Cache-Control": "no-store"})


async def show(request: Request, template: str, part: str = "", **context: object) -> Response:
    """Return a page with its navigation; for a script that wants what has changed, the template `part` alone."""
    context["part"] = part
    if part and "hx-request" in request.headers:
        return render(request, part, status=200, **context)
    nav = await asyncio.to_thread(base_site_of(request).navigation)
    return render(request, template, status=200, nav=nav, **context)


def _theme(request: Request) -> str:
    theme = request.cookies.get("alarm_mw_theme", "")
    return theme if theme in ("dark", "light") else ""


def _line(text: object, limit: int = 300) -> str:
    """Return one line that shows what would be hidden in it, such as control characters and marks of direction."""
    return printable(str(text), limit)


def _lines(text: object) -> str:
    """Return lines of text in the same way; of a long text the beginning and the end."""
    lines = printable_lines(str(text).encode("utf-8", "surrogateescape"))
    shown = "\n".join(lines)
    if len(shown) <= MAX_TEXT:
        return shown
    half = MAX_TEXT // 2
    return f"{shown[:half]}\n… {len(shown) - MAX_TEXT:,} characters left out …\n{shown[-half:]}"


def _ago(seconds: float, now: float) -> str:
    """Return a time since the epoch as people say it: ``4 s ago``."""
    past = now - seconds
    return "now" if abs(past) < 1 else f"{_lasted(past)} ago" if past > 0 else f"in {_lasted(-past)}"


def _lasted(seconds: float) -> str:
    """Return a length of time in whole seconds, as the script goes on to count it."""
    return f"{int(max(seconds, 0.0))} s" if seconds < 1 else span(float(int(seconds)))


@functools.cache
def _versions() -> Mapping[str, str]:
    import hashlib  # noqa: PLC0415  # with the first page

    return {
        path.name: hashlib.blake2b(path.read_bytes(), digest_size=5).hexdigest()
        for path in STATIC.iterdir()
        if path.is_file()
    }


def asset(name: str) -> str:
    """Return the URL of a static file, which changes with its content: browsers keep it for ever."""
    return f"/static/{name}?{_versions()[name]}"


def local_day(seconds: float) -> str:
    """Return the day of a time since the epoch on this machine's calendar: ``Mon 24 Nov``."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%a %d %b}"
