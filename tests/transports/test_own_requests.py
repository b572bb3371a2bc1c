"""Access lines of our own requests."""

from __future__ import annotations

from alarm_mw.model.types import Record
from alarm_mw.transports.own_requests import CAPACITY, WINDOW, OwnRequests


def line(text: str, source: str = "stdout") -> Record:
    return Record(text.encode(), source, 0.0, "key")


GUNICORN = '127.0.0.1 - - [24/Nov/2026:09:51:23 +0000] "PUT /hook?x=1 HTTP/1.1" 200 0 "-" "-"\n'


def test_each_request_excuses_one_line_of_each_source() -> None:
    """What the server prints and logs for our request is excused, and the next client's is not."""
    requests = OwnRequests()
    requests.add("PUT", "/hook?x=1")
    assert requests.takes(line(GUNICORN))
    assert requests.takes(line(GUNICORN, "logging"))
    assert not requests.takes(line(GUNICORN))
    requests.add("PUT", "/hook?x=1")
    assert requests.takes(line(GUNICORN))


def test_another_method_or_path_is_not_ours() -> None:
    """Only the whole method and the whole target are known again."""
    requests = OwnRequests()
    requests.add("PUT", "/hook")
    requests.add("PUT", "")
    assert not requests.takes(line(GUNICORN))
    assert not requests.takes(line(GUNICORN.replace("PUT", "POST")))
    assert requests.takes(line('"PUT / HTTP/1.1" 200'))


def test_a_request_is_forgotten() -> None:
    """A line that comes much later is a client's."""
    now = [0.0]
    requests = OwnRequests(lambda: now[0])
    requests.add("PUT", "/hook?x=1")
    now[0] = WINDOW + 1
    assert not requests.takes(line(GUNICORN))


def test_many_targets_are_told_apart() -> None:
    """Requests to more targets than are remembered: the latest are known, the oldest are clients' again."""
    requests = OwnRequests()
    for number in range(CAPACITY + 10):
        requests.add("PUT", f"/hook/{number}")
    for number in (CAPACITY + 9, 10):
        assert requests.takes(line(f'"PUT /hook/{number} HTTP/1.1" 200'))
    assert not requests.takes(line('"PUT /hook/9 HTTP/1.1" 200'))
