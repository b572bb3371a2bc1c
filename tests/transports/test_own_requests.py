"""Access lines of our own requests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from threading import Barrier, Thread

import pytest

from alarm_mw.model.origin import in_alarm_code
from alarm_mw.model.types import Record
from alarm_mw.transports.own_requests import CAPACITY, VALID, WINDOW, OwnRequests, is_ours, mark

REQUEST = ("POST", "shop.example.org:8000", b"/hook")


def test_our_own_mark_is_known_once() -> None:
    """Whoever saw a request and sends its mark again hides nothing."""
    made = mark("12-ab-3.jabber", *REQUEST)
    assert is_ours(made, *REQUEST)
    assert not is_ours(made, *REQUEST)
    assert is_ours(mark("12-ab-3.jabber", *REQUEST), *REQUEST)  # the firing's next attempt


def test_of_many_threads_one_accepts_a_mark() -> None:
    """Two requests at the same moment with one mark do not both count."""
    for _ in range(50):
        made, together = mark("1.a", *REQUEST), Barrier(4)
        found: list[bool] = []

        def look(made: str = made, together: Barrier = together, found: list[bool] = found) -> None:
            together.wait()
            found.append(is_ours(made, *REQUEST))

        threads = [Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [False, False, False, True]


@pytest.mark.parametrize(
    "other",
    [("GET", *REQUEST[1:]), ("POST", "other.example.org:8000", b"/hook"), ("POST", REQUEST[1], b"/admin")],
    ids=["method", "host", "path"],
)
def test_a_mark_is_for_one_request(other: tuple[str, str, bytes]) -> None:
    """The mark of a request that somebody got hides no request for something else."""
    made = mark("1.a", *REQUEST)
    assert not is_ours(made, *other)
    assert is_ours(made, *REQUEST)


def test_method_and_host_are_compared_as_servers_have_them() -> None:
    """A server may write the method in capitals, and the host as the client wrote it."""
    assert is_ours(mark("1.a", "post", "Shop", b"/"), "POST", "shop", b"/")


@pytest.mark.parametrize("age", [-1.0, VALID + 1.0])
def test_a_mark_of_another_time_does_not_count(age: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is kept for later."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    made = mark("1.a", *REQUEST)
    monkeypatch.setattr(time, "clock_gettime", lambda _: now + age)
    assert not is_ours(made, *REQUEST)


def test_inside_of_such_a_request_it_counts_again() -> None:
    """A middleware around the application, and one inside of it, see one request."""
    made = mark("1.a", *REQUEST)
    assert is_ours(made, *REQUEST)
    token = in_alarm_code.set(True)
    assert is_ours(made, *REQUEST)
    in_alarm_code.reset(token)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_mark_of_a_master_is_known_to_workers_with_fewer_rights() -> None:
    """Root's master makes the request, and a worker that runs as somebody else answers it."""
    program = (
        "import os\nfrom alarm_mw.transports.own_requests import is_ours\n"
        f"os.setuid(65534)\nassert is_ours({mark('1.a', *REQUEST)!r}, *{REQUEST!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    "value", ["", " ", "x", "12-ab-3.jabber", "12-ab-3.jabber 1.0 " + "0" * 32, "a nan x", "\xff \xff", "\ud800 x"]
)
def test_no_other_mark_counts(value: str) -> None:
    """What a client makes up does not hide its request."""
    assert not is_ours(value, *REQUEST)
    assert is_ours(mark("1.a", *REQUEST), *REQUEST)


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
