"""What one process says to another, and what a server hands to the middleware: nothing of it raises what it should not.

Each is generated as somebody could make it who was taken over, or has a mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from alarm_mw import asgi, wsgi
from alarm_mw.engine.ledger import Ledger
from alarm_mw.engine.rules import compile_rule
from alarm_mw.master.control.prometheus import OF_MASTER, Figures, exposition
from alarm_mw.master.link import Link
from alarm_mw.master.records.publisher import Publisher
from alarm_mw.model.types import RequestConditions, Rule
from alarm_mw.patterns.literals import Literal
from alarm_mw.patterns.record_prefilter import RecordRules, record_rules
from alarm_mw.requests import Request
from alarm_mw.supervisor.carriers.carrier import PATIENCE, Carrier
from alarm_mw.supervisor.carriers.master_pool import MasterPool
from alarm_mw.supervisor.carriers.start import CarrierStart
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.signals import Inherited
from alarm_mw.testing import RequestRecorder
from alarm_mw.transports.places import published_path
from alarm_mw.transports.published import Content
from alarm_mw.transports.remote import RemoteClient

WORDS = ["ready", "pong", "eof", "broken", "keep", "drop", "plan", "unjudged", "stdout", "stdout 3", "x", "-1", "²"]

messages = st.binary(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join).map(str.encode)

#: What may stand in a name: anything that a configuration can hold.
names = st.text(max_size=30) | st.sampled_from(['"', "\\", "\n", "\\n", "{}", 'a"} 1\nb{c="', "\udcff", "\x00"])


@pytest.fixture(scope="module")
def carriers() -> Iterator[tuple[MasterPool, socket.socket]]:
    """Give what listens to a master, and the master's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = Plan(["true"], ["true"], "/nowhere", "run")
    descriptor = plan.write()
    inherited = Inherited(frozenset(), ignores_children=False)
    made = MasterPool(CarrierStart(plan, descriptor, ours, inherited, patience=PATIENCE), [])
    made.current = Carrier(os.getpid(), ours)
    with ours, theirs:
        yield made, theirs
    os.close(descriptor)


@given(messages)
@example(b"unjudged stdout x")
@example(b"unjudged")
@example(b"keep token")
def test_no_word_of_a_master_ends_the_supervisor(carriers: tuple[MasterPool, socket.socket], message: bytes) -> None:
    """It is obeyed, or passed over: the server's output and its end depend on the supervisor."""
    made, theirs = carriers
    if message:
        theirs.send(message)
        made.listen()


@given(messages)
def test_any_word_of_the_supervisor_is_words(message: bytes) -> None:
    """A master hears words, none of them with a blank in it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(message)
        assert all(word.split() == [word] for word in Link(ours).hear())


# What is published

RULES = record_rules([compile_rule(Rule("TERRIBLE (ALARM|thing)", ("a",)))])
CONTENT = msgspec.msgpack.encode(Content(RULES))


def _packed(conditions: RequestConditions) -> bytes:
    try:
        return msgspec.msgpack.encode(Content(RULES, (conditions,)))
    except UnicodeEncodeError:  # of lone surrogates
        return b""


contents = (
    st.binary(max_size=200)
    | st.builds(
        lambda texts: msgspec.msgpack.encode(Content(RecordRules(tuple(map(Literal, texts)), ((None, None),)))),
        st.lists(st.binary(max_size=60), max_size=30),
    )
    | st.builds(
        lambda at, byte: CONTENT[:at] + bytes([byte]) + CONTENT[at + 1 :],
        st.integers(0, len(CONTENT) - 1),
        st.integers(0, 255),
    )
    | st.builds(
        lambda path, clients, headers: _packed(RequestConditions(path=path, clients=clients, headers=headers)),
        names,
        st.lists(names, max_size=2).map(tuple),
        st.lists(st.tuples(names, names), max_size=2).map(tuple),
    )
)


@given(contents)
@example(b"\x91" * 5000)
def test_whatever_is_published_breaks_no_log_call_and_no_request(content: bytes) -> None:
    """A process that cannot read it leaves all to the master."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        Publisher(path).publish(Content(RecordRules()))
        Path(published_path(path)).write_bytes(content)
        client = RemoteClient(path)
        prefilter = client.prefilter()
        if prefilter is not None:
            prefilter.may_match("TERRIBLE ALARM")
            prefilter.may_concern(40, "shop")
        ended = Request("GET", "/", 200, 0.1, None, "")
        client.decision().held(ended, ended.header)
        client.shutdown(0.0)


# What Prometheus is told


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.dictionaries(names, st.integers(), max_size=3))
def test_whatever_a_name_holds_prometheus_reads_it(found: list[str], app: dict[str, int]) -> None:
    """Each sample is one, with the label that it was given, as far as UTF-8 can have it."""
    ledger = Ledger()
    for name in found:
        ledger.source("stdout", "lines")
        ledger.alarm(name, "fired")
    text = exposition(Figures(ledger.books(), dict.fromkeys(OF_MASTER, 1.0), app, "1.0")).decode()
    samples = [sample for family in parse(text) for sample in family.samples]
    shown = [one.labels["alarm"] for one in samples if one.name == "alarm_mw_fired_total"]
    assert len(shown) == len(found)
    assert {name for name in found if not _is_odd(name)} <= set(shown)
    assert sum(one.name.startswith("alarm_mw_app_") for one in samples) == len(app)


def _is_odd(name: str) -> bool:
    """Return whether UTF-8 has no such text, or the parser of the tests takes it for a line's end."""
    return any("\ud800" <= letter <= "\udfff" for letter in name) or len(name.splitlines()) > 1 or name.endswith("\r")


# What a server hands over

headers = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60)), max_size=5) | st.lists(
    st.tuples(
        st.sampled_from([b"content-length", b"traceparent", b"x-request-id", b"alarm-mw", b"host", b""]),
        st.binary(max_size=80) | st.sampled_from([b"9" * 5000, b"-1", b"\xff", b"00-" + b"0" * 32 + b"-1-1"]),
    ),
    max_size=6,
)

scopes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.just("http")},
    optional={
        "method": st.text(max_size=10),
        "path": st.text(max_size=40),
        "raw_path": st.none() | st.binary(max_size=40),
        "root_path": st.none() | st.text(max_size=10),
        "query_string": st.binary(max_size=40),
        "headers": headers,
        "client": st.none() | st.tuples(st.none() | st.text(max_size=20), st.none() | st.integers()),
        "server": st.none() | st.tuples(st.text(max_size=20), st.none() | st.integers()),
        "scheme": st.text(max_size=6),
        "extensions": st.none() | st.dictionaries(st.text(max_size=5), st.just({}), max_size=2),
    },
)

environs = st.dictionaries(
    st.sampled_from(
        [
            "REQUEST_METHOD",
            "PATH_INFO",
            "SCRIPT_NAME",
            "QUERY_STRING",
            "REMOTE_ADDR",
            "CONTENT_LENGTH",
            "HTTP_HOST",
            "HTTP_X_REQUEST_ID",
            "HTTP_TRACEPARENT",
            "HTTP_X_ALARM_MW",
            "HTTP_COOKIE",
            "SERVER_NAME",
        ]
    ),
    st.text(st.characters(max_codepoint=255), max_size=40) | st.sampled_from(["9" * 5000, "-1", "\xff\xfe"]),
)


class AppError(Exception):
    """What the application raises."""


@given(scopes, st.sampled_from([200, 500, 0, 999_999_999]), st.booleans())
def test_no_scope_breaks_a_request(scope: dict[str, Any], status: int, fails: bool) -> None:
    """The application gets the very scope, the server its messages, and its exception comes through."""
    sent: list[dict[str, Any]] = []
    seen: list[object] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": status, "headers": []})
        if fails:
            raise AppError("\ud800\x1b[2J")
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    recorder = RequestRecorder()
    middleware = asgi.AlarmMiddleware(app, [recorder.rule], recorder.emit, last_lines=3)
    with pytest.raises(AppError) if fails else contextlib.nullcontext():
        asyncio.run(middleware(scope, receive, send))
    assert seen == [scope]
    assert seen[0] is scope
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"][: 1 if fails else 2]
    _facts_can_be_read(recorder)


@given(environs, st.sampled_from(["200 OK", "500 x", "", "x", "2\xff", "999999999 y"]), st.booleans())
def test_no_environ_breaks_a_request(environ: dict[str, Any], status: str, fails: bool) -> None:
    """The same as WSGI has it."""
    seen: list[object] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        start_response(status, [])
        if fails:
            raise AppError("\ud800\x1b[2J")
        return [b"x"]

    recorder = RequestRecorder()
    middleware = wsgi.AlarmMiddleware(app, [recorder.rule], recorder.emit, last_lines=3)
    with pytest.raises(AppError) if fails else contextlib.nullcontext():
        assert list(middleware(environ, lambda *_: lambda _: None)) == [b"x"]
    assert seen[0] is environ
    _facts_can_be_read(recorder)


def _facts_can_be_read(recorder: RequestRecorder) -> None:
    request = recorder.request
    assert repr(request)
    assert isinstance(request.request_id, str)
    assert request.request_size is None or request.request_size >= 0
    assert isinstance(request.last_lines, str)
