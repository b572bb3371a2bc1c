"""No line, and no name, is more of a request than its body: whatever the options add."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from example_counts import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarm_mw.actions.curl import CurlAction, CurlOptions
from alarm_mw.config.build import engine_of
from alarm_mw.config.load import from_keywords
from alarm_mw.model.interfaces import ActionContext
from alarm_mw.model.types import Firing, Record

PIECES = [
    b"\r\nX-Evil: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"\n.\r\nQUIT\r\n",
    b"0\r\n\r\n",
    b"\0\xff\xfe",
    "ß\u2028".encode(),
]

lines = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=5).map(b"".join)

#: What a configuration can call an alarm.
names = st.text(min_size=1, max_size=20).filter(lambda name: not re.search(r"[\s,]", name)) | st.sampled_from(
    ["störung", "\0", "<a@b>", '"\\', "a%20b"]
)

#: Every option whose text goes into a request.
EVERY: dict[str, Any] = {
    "method": "POST",
    "auth_user": "me",
    "auth_pass": "secret",
    "subject": "from the shop",
    "mail_to": ("me@example.org",),
    "mail_from": "app@example.org",
    "headers": {"X-Own": "yes"},
}


def fired(message: bytes, alarm: str) -> Firing:
    """Return the firing that an engine makes of a line."""
    engine = engine_of(from_keywords(alarms={alarm: "log:"}))
    (firing,) = engine.fire(alarm, Record(message, "stdout", 1.5, "key"), 2.5).firings
    return firing


def requests_of(server: Any, context: ActionContext, *firings: Firing) -> list[tuple[list[bytes], bytes]]:
    """Deliver them, and return the lines of each request's head, and its body."""
    server.requests.clear()
    options = CurlOptions(url=server.url, **EVERY)

    async def deliver() -> None:
        async with CurlAction(options, context) as action:
            for firing in firings:
                await action.deliver(firing)

    asyncio.run(deliver())
    found = [request.partition(b"\r\n\r\n") for request in server.requests]
    return [(head.split(b"\r\n"), body) for head, _, body in found]


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, names)
def test_no_line_and_no_name_is_a_part_of_a_requests_head(
    web_server: Any, context: ActionContext, message: bytes, name: str
) -> None:
    """One request, with the head that a harmless line has but for its length and its id, and the line behind it."""
    found = requests_of(web_server, context, fired(b"harmless", "a"), fired(message, name))
    assert len(found) == 2
    (head, body), (other, other_body) = found
    changing = (b"content-length:", b"idempotency-key:", b"alarm-mw:")
    assert [line for line in other if not line.lower().startswith(changing)] == [
        line for line in head if not line.lower().startswith(changing)
    ]
    assert len(other) == len(head)
    assert other_body == body.removesuffix(b"harmless") + message


@pytest.mark.parametrize("option", ["subject", "mail_from", "mail_to", "headers", "method"])
@pytest.mark.parametrize("evil", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_no_option_holds_a_lines_end(option: str, evil: str) -> None:
    """What a configuration puts into a head is one line of it, also where it comes from a variable or a file."""
    value: object = {"mail_to": (evil,), "headers": {"X-Own": evil}}.get(option, evil)
    with pytest.raises(ValueError, match=r"cannot hold|is not|holds a"):
        CurlOptions(url="http://127.0.0.1/", **{**EVERY, option: value})
    with pytest.raises(ValueError, match="invalid name"):
        CurlOptions(url="http://127.0.0.1/", headers={evil: "x"})
