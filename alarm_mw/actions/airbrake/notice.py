"""The notices of Airbrake's two interfaces, version 2.3 in XML and version 3 in JSON: pure."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from alarm_mw.actions.airbrake.backtrace import Backtrace, Frame, parse
from alarm_mw.model.printable import printable, printable_lines
from alarm_mw.model.types import Firing
from alarm_mw.model.version import VERSION
from alarm_mw.texts import said

NAME = "alarm-mw"
#: The package, as a package URL (purl).
URL = "pkg:pypi/alarm-mw"

#: The class of an error that is none of Python's.
UNKNOWN = "RuntimeError"


@dataclass(frozen=True, slots=True)
class System:
    """What a notice reports about the machine."""

    os_sysname: str
    os_version: str
    machine: str
    nodename: str
    python_version: str
    alarm_mw_version: str
    #: The working directory; empty where there is none any more.
    root: str

    @classmethod
    def here(cls) -> System:
        """Return what is so here."""
        uname = platform.uname()
        try:
            root = str(Path.cwd())
        except FileNotFoundError:  # it is gone, as the release that a server was started from
            root = ""
        return cls(
            uname.system,
            f"{uname.release}-{uname.version}",
            uname.machine,
            uname.node,
            platform.python_version(),
            VERSION,
            root,
        )


@dataclass(frozen=True, slots=True)
class Notice:
    """An error, as both interfaces report it."""

    type: str
    message: str
    #: At least one.
    frames: tuple[Frame, ...]
    #: The name of the environment: ``production``.
    environment: str
    #: What else is known, by name.
    facts: Mapping[str, str]
    system: System
    #: What distinguishes this error from others of its group, by name.
    params: Mapping[str, str] = field(default_factory=dict)


def notice_of(firing: Firing, subject: str, environment: str, system: System) -> Notice:
    """Return the notice for `firing`; `subject` is its message where there is no backtrace."""
    lines = printable_lines(said(firing))
    found = parse("\n".join(lines))
    params = {"pid": found.pid} if found.pid else {}
    # Errbit refuses a notice without frames.
    frames = found.frames or (Frame(firing.record.logger or firing.record.source),)
    first = next((line for line in lines if line.strip()), "")
    return Notice(
        found.type or UNKNOWN,
        _message(found, subject, first) or f"alarm {firing.alarm}",
        frames,
        environment or system.alarm_mw_version,
        {**_facts(firing), **params, "message": "\n".join(lines)},
        system,
        params,
    )


def _message(found: Backtrace, subject: str, first: str) -> str:
    """Return what errors are grouped by: the number of a process, which differs each time, is no part of it."""
    line = first.replace(f"process {found.pid}", "a process", 1) if found.pid else first
    return found.text or (line if found.frames else subject or line)


def _facts(firing: Firing) -> dict[str, str]:
    record = firing.record
    known: dict[str, object] = {
        "alarm": firing.alarm,
        "id": firing.id,
        "rule": firing.rule,
        "source": record.source,
        "pid": record.pid or "",
        "logger": record.logger,
        "level": "" if record.level is None else record.level,
        "count": firing.count if firing.count > 1 else "",
        "instead_of": ", ".join(firing.via),
        "held_back": firing.held_back or "",
    }
    return {name: _shown(value) for name, value in known.items() if value != ""}


def _shown(value: object) -> str:
    return printable(str(value))


def xml(notice: Notice, apikey: str) -> bytes:
    """Return a notice of version 2.3, in the order in which uWSGI writes it."""
    root = ET.Element("notice", version="2.3")
    _leaf(root, "api-key", apikey)
    notifier = ET.SubElement(root, "notifier")
    for name, value in _notifier(notice.system).items():
        _leaf(notifier, name, value)
    data = ET.SubElement(ET.SubElement(root, "request"), "cgi-data")
    for key, value in _cgi_data(notice).items():
        _leaf(data, "var", value, key=key)
    server = ET.SubElement(root, "server-environment")
    _leaf(server, "app-version", notice.system.alarm_mw_version)
    _leaf(server, "environment-name", notice.environment)
    _error(root, notice)
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return body


def _error(root: ET.Element, notice: Notice) -> None:
    error = ET.SubElement(root, "error")
    _leaf(error, "class", notice.type)
    backtrace = ET.SubElement(error, "backtrace")
    for frame in notice.frames:
        _leaf(backtrace, "line", "", method=frame.function or "()", file=frame.file, number=str(frame.line))
    _leaf(error, "message", notice.message)


def _leaf(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    """Add an element; what XML cannot hold is made visible."""
    leaf = ET.SubElement(parent, name, {key: _shown(value) for key, value in attributes.items()})
    leaf.text = "\n".join(map(_shown, text.split("\n"))) or None


def _notifier(system: System) -> dict[str, str]:
    return {"name": NAME, "version": system.alarm_mw_version, "url": URL}


def _cgi_data(notice: Notice) -> dict[str, str]:
    system = notice.system
    return {
        "alarm_mw_version": system.alarm_mw_version,
        "python_version": system.python_version,
        **notice.facts,
        "os_sysname": system.os_sysname,
        "os_version": system.os_version,
        "machine": system.machine,
        "nodename": system.nodename,
    }


def as_json(notice: Notice, fields: Mapping[str, str]) -> bytes:
    """Return a notice of version 3; `fields` are those of the record, and fields of a request are marked as such."""
    backtrace = [
        {"file": frame.file, "line": frame.line, "column": 0, "function": frame.function} for frame in notice.frames
    ]
    body = {
        "errors": [{"type": notice.type, "message": notice.message, "backtrace": backtrace}],
        "context": _context(notice, fields),
        "environment": _cgi_data(notice),
        "session": {},
        "params": {name: _shown(value) for name, value in {**notice.params, **fields}.items()},
    }
    return json.dumps(body).encode()


def _context(notice: Notice, fields: Mapping[str, str]) -> dict[str, object]:
    system = notice.system
    return {
        "notifier": _notifier(system),
        "environment": notice.environment,
        "hostname": system.nodename,
        "rootDirectory": system.root,
        "version": system.alarm_mw_version,
        "os": f"{system.os_sysname} {system.os_version}",
        "language": f"Python {system.python_version}",
        "component": notice.facts.get("logger", notice.facts["source"]),
        "action": notice.facts["alarm"],
        "url": _shown(fields.get("url") or fields.get("path", "")),
        "userAgent": _shown(fields.get("user_agent", "")),
    }
