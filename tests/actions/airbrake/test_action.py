"""``airbrake:URL;apikey=KEY``, with a server that keeps what it gets."""

from __future__ import annotations

import asyncio
import json
import platform
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree as ET

import msgspec
import pytest

from alarm_mw.actions.airbrake.action import AirbrakeAction, AirbrakeOptions
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Death, Firing
from alarm_mw.monitors.segfault.monitor import SegfaultOptions, describe

Make = Callable[..., Firing]
Reply = Callable[..., bytes]

VERSION = version("alarm-mw")

SEGFAULT = (
    b"*** backtrace of 4242 ***\n/usr/bin/uwsgi(uwsgi_segfault+0x21) [0x4515]\nlib.so(boom+0xc5) [0x4515]\n"
    b"lib.so() [0x4516]\n*** end of backtrace ***\n"
)
#: What a Python process with `faulthandler` says when it dies.
DUMP = (
    "Fatal Python error: Segmentation fault",
    "",
    "Current thread 0x00007f (most recent call first):",
    '  File "app.py", line 3 in boom',
)
TRACEBACK = (
    b'Traceback (most recent call last):\n  File "/srv/app.py", line 3, in app\n    f()\n'
    b'  File "/srv/f.py", line 7, in f\n    1 / 0\nZeroDivisionError: division by zero\n'
)


class WebServer(Protocol):
    requests: list[bytes]

    @property
    def url(self) -> str: ...
    def answer(self, *answers: bytes | None) -> None: ...


def report(args: str, context: ActionContext, *firings: Firing) -> None:
    async def scene() -> None:
        async with AirbrakeAction(AirbrakeAction.from_uwsgi(args), context) as action:
            for firing in firings:
                await action.deliver(firing)

    asyncio.run(scene())


def taken_apart(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return the request line, the headers with lower case names, and the body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


@pytest.fixture
def notice(web_server: WebServer, context: ActionContext) -> Callable[..., ET.Element]:
    """Provide a function that reports a firing, and returns the XML that arrived."""

    def send(firing: Firing, options: str = "") -> ET.Element:
        report(f"{web_server.url}/notifier_api/v2/notices;apikey=KEY;{options}", context, firing)
        return ET.fromstring(taken_apart(web_server.requests[-1])[2])

    return send


def test_a_v2_notice_is_posted_as_uwsgi_posts_it(
    web_server: WebServer, context: ActionContext, make_firing: Make
) -> None:
    """POST with text/xml in UTF-8, the given path, no Expect, and the firing's id to tell a retry by."""
    firing = make_firing(SEGFAULT)
    report(f"{web_server.url}/notifier_api/v2/notices;apikey=KEY;subject=uWSGI segfault", context, firing)
    first, headers, body = taken_apart(web_server.requests[0])
    assert first == "POST /notifier_api/v2/notices HTTP/1.1"
    assert headers["content-type"] == "text/xml; charset=utf-8"
    assert headers["idempotency-key"] == firing.id
    assert "expect" not in headers
    assert body.startswith(b"<?xml version='1.0' encoding='utf-8'?>")


def test_a_v2_notice_has_the_documented_shape(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """Every element that version 2.3 needs, in its order, and no other."""
    root = notice(make_firing(SEGFAULT), "env=staging;ssl=true;timeout=5;conn_timeout=2")
    assert root.attrib == {"version": "2.3"}
    assert [(child.tag, [inner.tag for inner in child]) for child in root] == [
        ("api-key", []),
        ("notifier", ["name", "version", "url"]),
        ("request", ["cgi-data"]),
        ("server-environment", ["app-version", "environment-name"]),
        ("error", ["class", "backtrace", "message"]),
    ]
    assert root.findtext("api-key") == "KEY"
    assert root.findtext("notifier/name") == "alarm-mw"
    assert root.findtext("notifier/version") == VERSION
    assert root.findtext("notifier/url")
    assert root.findtext("server-environment/app-version") == VERSION
    assert root.findtext("server-environment/environment-name") == "staging"


def test_the_environment_is_the_version_where_none_is_given(
    notice: Callable[..., ET.Element], make_firing: Make
) -> None:
    """So it is in uWSGI."""
    assert notice(make_firing()).findtext("server-environment/environment-name") == VERSION


def test_the_cgi_data_tell_of_system_and_process(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """Its variables are uWSGI's for the system, and what is known of the firing."""
    firing = make_firing(b"ERR x\n")
    data = {var.get("key"): var.text for var in notice(firing).findall("request/cgi-data/var")}
    uname = platform.uname()
    assert {
        "alarm_mw_version": VERSION,
        "python_version": platform.python_version(),
        "os_sysname": uname.system,
        "os_version": f"{uname.release}-{uname.version}",
        "machine": uname.machine,
        "nodename": uname.node,
        "pid": "42",
        "alarm": "test",
        "rule": "ERR",
        "source": "stdout",
        "id": firing.id,
        "message": "ERR x",
    } == data


def test_a_working_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: ActionContext
) -> None:
    """It keeps no alarm from being made, as at a reload after the release has been removed."""
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    (tmp_path / "release").rmdir()
    AirbrakeAction(AirbrakeOptions(url="http://h/", apikey="k"), context)


def lines_of(root: ET.Element) -> list[dict[str, str]]:
    return [line.attrib for line in root.findall("error/backtrace/line")]


def test_a_crash_of_c_has_its_frames(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """Marks and the crash handler are left out, an empty method is (), the message names the first frame."""
    root = notice(make_firing(SEGFAULT), "subject=uWSGI segfault")
    assert lines_of(root) == [
        {"method": "boom", "file": "lib.so", "number": "0"},
        {"method": "()", "file": "lib.so", "number": "0"},
    ]
    assert root.findtext("error/class") == "RuntimeError"
    assert root.findtext("error/message") == "uWSGI segfault at boom in lib.so"


def test_python_frames_have_line_numbers(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """A traceback's innermost call comes first, and the exception gives class and message."""
    root = notice(make_firing(TRACEBACK))
    assert lines_of(root) == [
        {"method": "f", "file": "/srv/f.py", "number": "7"},
        {"method": "app", "file": "/srv/app.py", "number": "3"},
    ]
    assert root.findtext("error/class") == "ZeroDivisionError"
    assert root.findtext("error/message") == "ZeroDivisionError: division by zero"


def test_a_dump_has_the_message_of_a_crash(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """What `faulthandler` writes is a crash like uWSGI's."""
    dump = (
        b"Fatal Python error: Segmentation fault\n\nCurrent thread 0x0007 (most recent call first):\n"
        b'  File "/srv/app.py", line 3 in app\n'
    )
    root = notice(make_firing(dump), "subject=crash")
    assert root.findtext("error/message") == "uWSGI segfault at app in /srv/app.py"
    assert lines_of(root) == [{"method": "app", "file": "/srv/app.py", "number": "3"}]


@pytest.mark.parametrize(
    ("how", "dump", "message"),
    [
        (-signal.SIGSEGV, DUMP, "uWSGI segfault at boom in app.py"),
        (-signal.SIGFPE, DUMP, "uWSGI FPE at boom in app.py"),
        (-signal.SIGABRT, DUMP, "uWSGI SIGABRT at boom in app.py"),
        (-signal.SIGKILL, (), "the server, a process (gunicorn app) died of SIGKILL (Killed)"),
        (3, (), "the server, a process (gunicorn app) ended with exit status 3"),
    ],
)
def test_crashes_of_different_processes_are_one_group(
    notice: Callable[..., ET.Element], make_firing: Make, how: int, dump: tuple[str, ...], message: str
) -> None:
    """The process id is a parameter, and no part of the message by which receivers group errors."""
    for pid in (4242, 77):
        death = Death("key", pid, "gunicorn app", how, dump=dump, is_server=True)
        root = notice(make_firing(describe(death, SegfaultOptions()).encode()))
        assert root.findtext("error/message") == message
        assert root.findtext("request/cgi-data/var[@key='pid']") == str(pid)


def test_a_line_without_frames_has_one_all_the_same(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """Receivers want a backtrace; the subject, else the line, is the message, and the line is never lost."""
    assert notice(make_firing()).findtext("error/message") == "ERR x"
    root = notice(make_firing(), "subject=trouble")
    assert root.findtext("error/message") == "trouble"
    assert root.findtext("request/cgi-data/var[@key='message']") == "ERR x"
    assert lines_of(root) == [{"method": "()", "file": "stdout", "number": "0"}]


def test_a_line_cannot_break_the_xml(notice: Callable[..., ET.Element], make_firing: Make) -> None:
    """Markup is text, and what XML forbids is shown rather than sent."""
    root = notice(make_firing(b"<b>&]]>\x00\x1b\xff\xef\xbf\xbf caf\xc3\xa9\n"))
    assert root.findtext("error/message") == "<b>&]]>\\x00\\x1b\\xff\\uffff café"
    assert notice(make_firing(b"\n")).findtext("error/message") == "alarm test"


@pytest.fixture
def post(context: ActionContext, make_firing: Make) -> Callable[[str], None]:
    """Provide a function that reports a line with the options given."""
    return lambda args: report(args, context, make_firing())


def v3(web_server: WebServer) -> tuple[str, dict[str, str], dict[str, Any]]:
    first, headers, body = taken_apart(web_server.requests[-1])
    return first, headers, json.loads(body)


def test_a_v3_notice_is_json(web_server: WebServer, context: ActionContext, make_firing: Make) -> None:
    """A URL with /api/v3/ gets JSON with everything that Errbit reads, and the key in the query."""
    args = f"{web_server.url}/api/v3/projects/1/notices?key=K EY".replace(" ", "%20") + ";env=production"
    firing = make_firing(TRACEBACK)
    report(args, context, firing)
    first, headers, body = v3(web_server)
    assert first == "POST /api/v3/projects/1/notices?key=K%20EY HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert body["errors"] == [
        {
            "type": "ZeroDivisionError",
            "message": "ZeroDivisionError: division by zero",
            "backtrace": [
                {"file": "/srv/f.py", "line": 7, "column": 0, "function": "f"},
                {"file": "/srv/app.py", "line": 3, "column": 0, "function": "app"},
            ],
        }
    ]
    names = {"notifier", "environment", "hostname", "rootDirectory", "version", "url", "component", "action"}
    assert names | {"userAgent"} <= body["context"].keys()
    assert body["context"]["environment"] == "production"
    assert body["context"]["notifier"]["name"] == "alarm-mw"
    assert all(isinstance(body[name], dict) for name in ("context", "environment", "session", "params"))
    assert body["environment"]["message"] == TRACEBACK.decode().rstrip("\n")


@pytest.mark.parametrize(
    ("path", "options", "line"),
    [
        ("/api/v3/projects/1/notices", "apikey=K&1", "POST /api/v3/projects/1/notices?key=K%261 HTTP/1.1"),
        ("/hook?a=b", "apikey=K;api=v3", "POST /hook?a=b&key=K HTTP/1.1"),
    ],
)
def test_the_key_may_be_an_option(
    path: str, options: str, line: str, web_server: WebServer, post: Callable[[str], None]
) -> None:
    """It goes into the query, escaped."""
    post(f"{web_server.url}{path};{options}")
    assert v3(web_server)[0] == line


def test_what_is_known_of_a_request_is_told(web_server: WebServer, context: ActionContext, make_firing: Make) -> None:
    """The fields of the record are the parameters, its path the URL."""
    record = msgspec.structs.replace(make_firing().record, fields={"path": "/upload", "method": "POST"})
    firing = make_firing(record=record)
    report(f"{web_server.url}/api/v3/;apikey=K", context, firing)
    body = v3(web_server)[2]
    assert body["params"] == {"path": "/upload", "method": "POST"}
    assert body["context"]["url"] == "/upload"


@pytest.mark.parametrize(
    ("status", "expected"), [("500 Error", "retry"), ("429 Too Many Requests", "retry"), ("422 Bad", "final")]
)
def test_a_refusal_is_judged_and_keeps_the_key(
    status: str, expected: str, web_server: WebServer, post: Callable[[str], None], reply: Reply
) -> None:
    """What may be tried again is; a server that quotes the key does not get it into our log."""
    web_server.answer(reply(status, body=b"bad key hunter2"))
    with pytest.raises(ActionError, match=r"HTTP \d+: bad key \*+$") as caught:
        post(f"{web_server.url}/api/v3/;apikey=hunter2")
    assert caught.value.retry is (expected == "retry")


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ("http://h/notices", "the project's key"),
        ("http://h/api/v3/", "the project's key"),
        ("http://h/api/v3/?key=;api=v2", "the project's key"),
        ("ftp://h/;apikey=K", "http:// or https://"),
        ("apikey=K", "'url' is missing"),
        ("http://h/;apikey=K;api=v4", "api"),
        ("http://h/;apikey=K;ca_file=/nonexistent", "is no file"),
        ("http://h/;apikee=K", "did you mean 'apikey'"),
    ],
)
def test_mistakes_are_told_at_the_start(args: str, problem: str) -> None:
    """Not at the first alarm."""
    with pytest.raises(OptionError, match=problem):
        AirbrakeAction.from_uwsgi(args)


def test_secrets_are_not_shown() -> None:
    """Neither the key nor the URL, which may hold one."""
    shown = repr(AirbrakeOptions(url="http://h/?key=hunter2", apikey="hunter2"))
    assert "hunter2" not in shown


def test_tls_is_verified_unless_told_otherwise(
    tls_server: WebServer, ca_file: str, context: ActionContext, make_firing: Make
) -> None:
    """A certificate that nobody vouches for is refused; `ca_file` and `ssl_insecure` are the two ways out."""
    with pytest.raises(ActionError, match="certificate is not trusted"):
        report(f"{tls_server.url}/;apikey=K", context, make_firing())
    report(f"{tls_server.url}/;apikey=K;ca_file={ca_file}", context, make_firing())
    report(f"{tls_server.url}/;apikey=K;ssl_insecure=true", context, make_firing())
    assert len(tls_server.requests) == 2
