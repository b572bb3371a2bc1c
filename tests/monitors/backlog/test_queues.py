"""When a listen queue is told of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.monitors.backlog.monitor import Fullness, Queue, named, serves
from alarm_mw.monitors.backlog.sock_diag import Listener


def queue(queued: int, limit: int = 8, inode: int = 1, fd: int | None = 3) -> Queue:
    return Queue(Listener(inode, "127.0.0.1:45155", queued, limit), fd)


def looks(percent: int, *states: int) -> list[str]:
    """Return what is said when the queue is found in these states, one after the other."""
    fullness = Fullness(percent)
    return [text for state in states for text in fullness.look([queue(state)])]


def test_the_words_are_uwsgis() -> None:
    """The sentence is that of uWSGI's own log line, so that rules and scripts that know it go on working."""
    full = Queue(Listener(1, "127.0.0.1:45155", 4, 3), 3)
    assert list(Fullness(100).look([full])) == ['listen queue of socket "127.0.0.1:45155" (fd: 3) full !!! (4/3)']


def test_full_once_and_over_once() -> None:
    """A queue that stays full is told of once, and once more when it has drained."""
    assert looks(100, 0, 7, 8, 9, 8, 0, 0, 9) == [
        'listen queue of socket "127.0.0.1:45155" (fd: 3) full !!! (8/8)',
        'listen queue of socket "127.0.0.1:45155" (fd: 3) full is over (0/8)',
        'listen queue of socket "127.0.0.1:45155" (fd: 3) full !!! (9/8)',
    ]


def test_a_threshold_below_full() -> None:
    """At 50 % four of eight are enough, and the sentence says so."""
    assert looks(50, 3, 4, 8, 3) == [
        'listen queue of socket "127.0.0.1:45155" (fd: 3) at 50 % !!! (4/8)',
        'listen queue of socket "127.0.0.1:45155" (fd: 3) at 50 % is over (3/8)',
    ]


def test_a_socket_that_is_closed_while_full() -> None:
    """The alarm does not stay open for a socket that is no more."""
    fullness = Fullness(100)
    assert len(list(fullness.look([queue(9)]))) == 1
    assert list(fullness.look([])) == [
        'listen queue of socket "127.0.0.1:45155" (fd: 3) full is over: the socket was closed'
    ]
    assert list(fullness.look([])) == []


def test_a_socket_of_somebody_else_has_no_descriptor() -> None:
    """What is not the server's is told of without a number."""
    assert list(Fullness(100).look([queue(9, fd=None)])) == ['listen queue of socket "127.0.0.1:45155" full !!! (9/8)']


def test_a_queue_without_room_is_not_full_while_it_is_empty() -> None:
    """`listen(0)` still lets one wait."""
    fullness = Fullness(100)
    assert list(fullness.look([queue(0, limit=0)])) == []
    assert len(list(fullness.look([queue(1, limit=0)]))) == 1


@given(st.integers(1, 100), st.lists(st.integers(0, 20), max_size=30))
def test_beginnings_and_ends_alternate(percent: int, states: list[int]) -> None:
    """Whatever the queue does, each end follows a beginning and each beginning an end."""
    said = [" is over " in text for text in looks(percent, *states)]
    assert said == [index % 2 == 1 for index in range(len(said))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        (":8000", ("", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("[0:0:0:0:0:0:0:1]:1", ("::1", 1)),
        ("/run/app.sock", "/run/app.sock"),
        ("/run/a:80", "/run/a:80"),
        ("@app", "@app"),
    ],
)
def test_names_of_sockets(name: str, expected: object) -> None:
    """Addresses, ports alone, paths and abstract names are told apart."""
    assert named(name) == expected


@pytest.mark.parametrize("name", ["", "app.sock", "8000", "localhost:8000", "127.0.0.1:99999", "::1:80", "[x]:1"])
def test_what_is_no_socket(name: str) -> None:
    """What cannot be the name of a socket is refused with what was expected."""
    with pytest.raises(ValueError, match="expected"):
        named(name)


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000", True),
        ("0.0.0.0:8000", "127.0.0.1:8000", True),
        ("[::]:8000", "127.0.0.1:8000", True),
        ("127.0.0.2:8000", "127.0.0.1:8000", False),
        ("127.0.0.1:18000", ":8000", False),
        ("[::1]:8000", ":8000", True),
        ("[::1]:8000", "[::1]:8000", True),
        ("/run/a:8000", ":8000", False),
        ("/run/a", "/run/a", True),
        ("/run/b", "/run/a", False),
    ],
)
def test_which_socket_a_name_means(address: str, name: str, expected: bool) -> None:
    """A socket that listens at all addresses serves each of them; a path is a path."""
    assert serves(Listener(1, address, 0, 1), named(name), None) is expected


def test_a_path_by_its_file() -> None:
    """A server that bound its socket by a relative path is found by the absolute one."""
    bound = Listener(1, "app.sock", 0, 1, (5, 6))
    assert serves(bound, named("/run/app.sock"), (5, 6))
    assert not serves(bound, named("/run/app.sock"), (5, 7))
