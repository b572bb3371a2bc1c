"""``curl:URL`` over HTTP, against a server that keeps what it got to the byte."""

from __future__ import annotations

import base64
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Protocol

import pytest

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.actions.curl.http import Answer, judge, retry_after
from alarm_mw.model.errors import ActionError, OptionError
from alarm_mw.model.types import Firing
from alarm_mw.transports.own_requests import HEADER, is_ours

Make = Callable[..., Firing]
Reply = Callable[..., bytes]


class WebServer(Protocol):
    requests: list[bytes]
    connections: int
    port: int

    @property
    def url(self) -> str: ...

    def answer(self, *answers: bytes | None) -> None: ...


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


Deliver = Callable[..., None]


def failure(deliver: Deliver, options: str | CurlOptions, firing: Firing) -> ActionError:
    with pytest.raises(ActionError) as caught:
        deliver(options, firing)
    return caught.value


def test_the_message_is_uploaded_as_it_is(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """PUT, the very bytes, their length, and no header that uWSGI would not send but the firing's id and our mark."""
    deliver(f"{web_server.url}/hook?a=b", make_firing(b"ERR \xff\x00\n"))
    head, _, body = web_server.requests[0].partition(b"\r\n\r\n")
    assert body == b"ERR \xff\x00\n"
    first, *fields = head.decode().split("\r\n")
    assert first == "PUT /hook?a=b HTTP/1.1"
    (made,) = (field.partition(": ")[2] for field in fields if field.startswith(HEADER))
    assert is_ours(made, "PUT", f"127.0.0.1:{web_server.port}", b"/hook")
    assert sorted(field.lower() for field in fields if not field.startswith(HEADER)) == [
        "accept: */*",
        "content-length: 7",
        f"host: 127.0.0.1:{web_server.port}",
        "idempotency-key: firing-1",
    ]


def test_only_a_server_on_this_machine_gets_our_mark(deliver: Deliver, make_firing: Make) -> None:
    """Another one could send it back with a request of its own, and hide that from the rules."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.2", 0)) as listener:  # which is not the address that we connect from

        def answer() -> None:
            with listener.accept()[0] as caller:
                requests.append(caller.recv(65536))
                caller.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        deliver(f"http://127.0.0.2:{listener.getsockname()[1]}/hook", make_firing())
        thread.join()
    assert b"\r\nIdempotency-Key: firing-1\r\n" in requests[0]
    assert HEADER.lower().encode() not in requests[0].lower()


def test_an_empty_message_is_sent_too(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """Messages of no or one byte, which uWSGI drops, arrive."""
    deliver(web_server.url, make_firing(b""))
    assert b"content-length: 0" in web_server.requests[0].lower()


def test_the_method_is_sent_as_written(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """Neither checked against a list nor made upper case."""
    deliver(f"{web_server.url};method=pOsT", make_firing())
    assert web_server.requests[0].startswith(b"pOsT / HTTP/1.1\r\n")


@pytest.mark.parametrize("where", ["options", "url"])
def test_credentials_go_with_the_first_request(
    where: str, web_server: WebServer, deliver: Deliver, make_firing: Make
) -> None:
    """Basic authentication does not wait to be asked for, wherever user and password stand."""
    url = {
        "options": f"{web_server.url}/x;auth_user=topogigio;auth_pass=foo=bar",
        "url": f"http://topogigio:foo%3Dbar@127.0.0.1:{web_server.port}/x",
    }[where]
    deliver(url, make_firing())
    expected = base64.b64encode(b"topogigio:foo=bar")
    assert b"\r\nAuthorization: Basic " + expected + b"\r\n" in web_server.requests[0]
    assert web_server.requests[0].startswith(b"PUT /x ")


def test_subject_and_recipients_stand_before_the_message(
    web_server: WebServer, deliver: Deliver, make_firing: Make
) -> None:
    """As uWSGI does it, over HTTP too."""
    deliver(f"{web_server.url};subject=alarm !!!;mail_to=a@example.org,b@example.org", make_firing(b"x\n"))
    body = web_server.requests[0].partition(b"\r\n\r\n")[2]
    assert body == b"To: a@example.org,b@example.org\r\nSubject: alarm !!!\r\n\r\nx\n"


def test_a_subject_may_hold_any_byte(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """An ini file need not be UTF-8, and uWSGI sends what stands in it."""
    deliver(f"{web_server.url};subject=caf\udce9", make_firing(b"x\n"))
    assert web_server.requests[0].endswith(b"Subject: caf\xe9\r\n\r\nx\n")


def test_a_connection_is_kept(web_server: WebServer, deliver: Deliver, make_firing: Make, reply: Reply) -> None:
    """Firings share one connection."""
    web_server.answer(reply(body=b"thanks"))
    deliver(web_server.url, *(make_firing(b"%d" % number) for number in range(5)))
    assert [request[-1:] for request in web_server.requests] == [b"0", b"1", b"2", b"3", b"4"]
    assert web_server.connections == 1


def test_more_headers_can_be_given(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """A table of headers is for tokens and content types."""
    options = CurlOptions(url=web_server.url, headers={"Content-Type": "text/plain", "accept": "text/html"})
    deliver(options, make_firing())
    assert b"\r\nContent-Type: text/plain\r\n" in web_server.requests[0]
    assert web_server.requests[0].lower().count(b"\r\naccept:") == 1


def test_a_later_url_replaces_the_first() -> None:
    """A part without `=` is the URL wherever it stands, and so is `url=`; a query does not make it a key."""
    assert CurlAction.from_uwsgi("http://a;method=POST;http://b") == CurlOptions(url="http://b", method="POST")
    assert CurlAction.from_uwsgi("url=http://a?x=y").url == "http://a?x=y"
    assert CurlAction.from_uwsgi("http://a?x=y;timeout=2").url == "http://a?x=y"
    assert CurlAction.from_uwsgi("example.org/x").target.url == "http://example.org/x"


def test_timeouts_are_the_servers_own_by_default() -> None:
    """4 seconds, as uWSGI's socket timeout."""
    options = CurlAction.from_uwsgi("http://a")
    assert (options.timeout, options.conn_timeout, options.ssl_insecure) == (4.0, 4.0, False)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ("", "'url' is missing"),
        ("gophr://example.org", r"unknown scheme 'gophr' \(did you mean 'gopher'\?\)"),
        ("http://", "the URL has no host"),
        ("http://a b/", "the URL holds a blank"),
        ("http://a:port/", "the URL is malformed: its port is no number"),
        ("http://a:99999/", "the URL is malformed: its port is not between 0 and 65535"),
        ("http://[::1/", "the URL is malformed: its brackets hold no IPv6 address"),
        ("http://a\u2100b/", "the URL is malformed: its host holds characters that are not allowed"),
        ("http://a;method=GET /x HTTP/1.1", "method is not an HTTP method"),
        ("http://a;ssl_insecure=maybe", "ssl_insecure: expected true or false"),
        ("http://a;timeout=-1", "timeout: Expected `float` >= 0.0"),
        ("http://a;subjekt=x", r"unknown key 'subjekt' \(did you mean 'subject'\?\)"),
        ("http://a;ca_file=/nowhere.pem", "ca_file '/nowhere.pem' is no file"),
        ("smtp://a", "a mail needs recipients"),
        ("smtp://a;mail_to=b@c,<", "mail_to: '<' cannot stand in the header of a mail"),
        ("smtp://a;mail_to=b@c;mail_from=b@\u00e9", "mail_from: 'b@\u00e9' cannot stand in the header of a mail"),
        ("smtp://a;mail_to=b@c;subject=\udcff\u00e9", "subject: '.*' cannot stand in the header of a mail"),
    ],
)
def test_wrong_options_are_refused_at_start(args: str, text: str) -> None:
    """The error says what is wrong, not at the first alarm."""
    with pytest.raises(OptionError, match=text):
        CurlAction.from_uwsgi(args)


@pytest.mark.parametrize(
    "headers", [{"A b": "x"}, {"A": "x\r\nB: y"}, {"A": "\0"}, {"A": "é"}, {"Content-length": "1"}, {"": "x"}]
)
def test_headers_cannot_break_the_request(headers: dict[str, str]) -> None:
    """Nor lie about its length."""
    with pytest.raises(ValueError, match="headers"):
        CurlOptions(url="http://a", headers=headers)


def test_secrets_are_not_shown() -> None:
    """Not the password, not a token in a web hook's URL, not what headers say."""
    options = CurlOptions(url="http://u:hunter2@a/token", auth_pass="hunter2", headers={"X": "hunter2"})
    assert "hunter2" not in repr(options)
    assert "token" not in repr(options) + repr(options.target)


@pytest.mark.parametrize(
    ("status", "retry"),
    [
        (301, False),
        (400, False),
        (401, False),
        (404, False),
        (408, True),
        (425, True),
        (429, True),
        (500, True),
        (503, True),
    ],
)
def test_every_other_answer_is_a_failure(  # noqa: PLR0917  # parameters and fixtures
    status: int,
    retry: bool,
    web_server: WebServer,
    deliver: Deliver,
    make_firing: Make,
    reply: Reply,
) -> None:
    """The error says what came, 302, 401 and 500 too, which uWSGI takes for success, and whether a retry may help."""
    web_server.answer(reply(f"{status} Whatever", body=b"no \x1b[31m\xff" + b"y" * 300))
    error = failure(deliver, f"{web_server.url}/token", make_firing())
    assert error.retry is retry
    assert str(error) == f"{web_server.url}: HTTP {status}: no \\x1b[31m\\xff" + "y" * 191 + "…"


def test_a_redirect_is_not_followed(web_server: WebServer, deliver: Deliver, make_firing: Make, reply: Reply) -> None:
    """The error names the host it leads to, and no more of the URL."""
    web_server.answer(reply("302 Found", "Location: https://other.example/login?token=secret\r\n"))
    error = failure(deliver, web_server.url, make_firing())
    assert "a redirect to other.example, is not followed" in str(error)
    assert "secret" not in str(error)
    assert len(web_server.requests) == 1


def test_a_server_may_say_when_to_come_back(
    web_server: WebServer, deliver: Deliver, make_firing: Make, reply: Reply
) -> None:
    """Retry-After reaches the lane in seconds, and whoever reads the log."""
    web_server.answer(reply("429 Slow Down", "Retry-After: 17\r\n"))
    error = failure(deliver, web_server.url, make_firing())
    assert error.after == 17.0
    assert str(error) == f"{web_server.url}: HTTP 429, asks to be left alone for 17 seconds"


@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        (formatdate(1060, usegmt=True), 60.0),
        (formatdate(940, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("²", None),
        ("nan", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, after: float | None) -> None:
    """What is neither is ignored."""
    assert retry_after(value, 1000.0) == after


def test_what_a_server_echoes_is_masked(
    web_server: WebServer, deliver: Deliver, make_firing: Make, reply: Reply
) -> None:
    """A server that quotes the request in its error does not bring a secret into ours."""
    token = base64.b64encode(b"me:hunter2")
    web_server.answer(reply("500 Oops", body=b"PUT /hooks/T0KEN Basic " + token + b" hunter2"))
    error = failure(deliver, f"{web_server.url}/hooks/T0KEN;auth_user=me;auth_pass=hunter2", make_firing())
    assert str(error).endswith("HTTP 500: PUT ******** Basic ******** ********")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b'<!DOCTYPE html>\n<html lang="en"><head>\n<title>Not &lt;here&gt;\n</title><style>x</style>', "Not <here>"),
        (b"\n<html><style>b { x }</style><h1>No\n such</h1><!-- x --><script>alert(1)", "No such"),
        (b"<html><body>" + b"long " * 50, f"{('long ' * 16)[:80]}…"),
        (b"<html><title> </title></html>", ""),
    ],
)
def test_a_page_is_quoted_by_its_title(  # noqa: PLR0917  # fixtures, and what is tried
    page: bytes, expected: str, web_server: WebServer, deliver: Deliver, make_firing: Make, reply: Reply
) -> None:
    """Of an HTML page, the error has one short line without tags; 405 and 501 name the method that was refused."""
    web_server.answer(reply("405 Not Allowed", body=page))
    error = failure(deliver, web_server.url, make_firing())
    assert str(error) == f"{web_server.url}: HTTP 405 for PUT{': ' if expected else ''}{expected}"


def test_an_endless_answer_is_cut(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """No more of it is read than an error needs."""
    web_server.answer(b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000000\r\n\r\n" + b"x" * 200_000)
    assert failure(deliver, web_server.url, make_firing()).retry


def test_a_silent_server_is_given_up(web_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """After `timeout` seconds in all, worth a retry; the error names the options with which to wait longer."""
    web_server.answer(None)
    error = failure(deliver, f"{web_server.url};timeout=0.05", make_firing())
    assert str(error) == f"{web_server.url}: no answer in time (timeout 0.05 s, conn_timeout 4 s)"
    assert error.retry


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"SSH-2.0-OpenSSH\r\n\r\n"])
def test_a_broken_answer_is_worth_a_retry(
    answer: bytes, web_server: WebServer, deliver: Deliver, make_firing: Make
) -> None:
    """A server that goes away, stops in the middle or speaks another protocol has not taken the message."""
    web_server.answer(answer, b"")
    assert failure(deliver, f"{web_server.url};timeout=1", make_firing()).retry


def test_nobody_at_the_port_is_worth_a_retry(deliver: Deliver, make_firing: Make) -> None:
    """The error says what the system said."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    error = failure(deliver, f"http://u:hunter2@127.0.0.1:{port}/token", make_firing())
    assert error.retry
    assert str(error).startswith(f"http://127.0.0.1:{port}: ")
    assert "hunter2" not in str(error)


def test_a_trusted_certificate_is_accepted(
    tls_server: WebServer, ca_file: str, deliver: Deliver, make_firing: Make
) -> None:
    """`ca_file` names who is trusted."""
    deliver(f"{tls_server.url};ca_file={ca_file}", make_firing())
    assert len(tls_server.requests) == 1


@pytest.mark.parametrize("option", ["", ";ssl_insecure=false", ";ssl_insecure=0"])
def test_an_unknown_certificate_is_refused(
    option: str, tls_server: WebServer, deliver: Deliver, make_firing: Make
) -> None:
    """Nothing is sent; `ssl_insecure=false` means false; once the certificate is renewed, a retry helps."""
    error = failure(deliver, f"{tls_server.url}{option}", make_firing())
    assert "the certificate is not trusted: " in str(error)
    assert error.retry
    assert not tls_server.requests


def test_any_certificate_is_accepted_when_told_so(tls_server: WebServer, deliver: Deliver, make_firing: Make) -> None:
    """`ssl_insecure=true` is uWSGI's."""
    deliver(f"{tls_server.url};ssl_insecure=true", make_firing())
    assert len(tls_server.requests) == 1


def test_a_proxy_of_the_environment_is_used(
    web_server: WebServer, deliver: Deliver, make_firing: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uWSGI's libcurl does, `no_proxy` included."""
    monkeypatch.setenv("http_proxy", web_server.url)
    deliver("http://alarms.example/x", make_firing())
    assert web_server.requests[0].startswith(b"PUT http://alarms.example/x HTTP/1.1\r\n")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    deliver(f"{web_server.url}/y", make_firing())
    assert web_server.requests[1].startswith(b"PUT /y HTTP/1.1\r\n")


def test_a_proxy_that_cannot_be_used_is_an_error_at_start(
    deliver: Deliver, make_firing: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the proxy, which may hold a password, is not shown."""
    monkeypatch.setenv("http_proxy", "gopher://u:hunter2@127.0.0.1:1")
    with pytest.raises(OptionError, match="the proxy that the environment names cannot be used") as caught:
        deliver("http://alarms.example/x", make_firing())
    assert "hunter2" not in str(caught.value)


def test_a_file_without_certificates_is_an_error_at_start(deliver: Deliver, make_firing: Make, tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(OptionError, match=r"empty\.pem' holds no certificates"):
        deliver(f"https://127.0.0.1;ca_file={tmp_path}/empty.pem", make_firing())


def test_no_url_is_logged(
    web_server: WebServer, deliver: Deliver, make_firing: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens in a URL do not come into the application's log by way of the HTTP library."""
    with caplog.at_level(logging.INFO):
        deliver(f"{web_server.url}/T0KEN", make_firing())
    assert not [record for record in caplog.records if "T0KEN" in record.getMessage()]


def test_httpx_is_not_imported_before_it_is_needed() -> None:
    """Reading a configuration with a `curl` alarm does not pay for the HTTP library."""
    program = (
        "import sys, alarm_mw.actions.curl.action as c\n"
        "c.CurlAction.from_uwsgi('http://a')\n"
        "sys.exit('httpx' in sys.modules or 'ssl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_answer_of_success_is_delivered() -> None:
    """Any 2xx, with or without a body."""
    for status in (200, 201, 202, 204, 299):
        judge("http://a", Answer(status), 0.0, frozenset())


def test_a_malformed_url_shows_no_password() -> None:
    """A slash in a password ends the host: what is taken for the port is a part of the password, and is not shown."""
    with pytest.raises(OptionError) as error:
        CurlAction.from_uwsgi("http://me:hunter2/x@example.org/")
    assert "hunter2" not in str(error.value)
    assert "%2F" in str(error.value)
