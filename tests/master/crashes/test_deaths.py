"""Deaths: however many ways tell of one, it is told once, with all that is known of it."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.master.crashes.deaths import MAX_CASES, MAX_LINES, MEMORY, WAIT_FOR_DUMP, WAIT_FOR_PID, Deaths
from alarm_mw.model.types import Death

SEGFAULT = "Fatal Python error: Segmentation fault"
THREAD = "Current thread 0x00007f01 (most recent call first):"
FRAME = '  File "app.py", line 3 in app'
END = "Extension modules: a (total: 1)"
LATER = 100.0


@pytest.fixture
def deaths() -> Deaths:
    return Deaths("run")


def dump(deaths: Deaths, now: float = 0.0, *, offset: int = 0, stream: str = "stderr", header: str = SEGFAULT) -> None:
    deaths.begin_dump(stream, offset, header, now)
    for number, line in enumerate((THREAD, FRAME, END), 1):
        deaths.add_line(stream, offset + number, line, now)


def take(deaths: Deaths, now: float) -> list[Death]:
    """Return what is ripe, and note it as told."""
    ripe = deaths.ripe(now)
    for death in ripe:
        deaths.mark_reported(death.key)
    return ripe


def test_a_dump_and_the_end_of_its_process_are_one_death(deaths: Deaths) -> None:
    """The pid of the one and the frames of the other, at once when both are there."""
    dump(deaths)
    assert take(deaths, 0.0) == []
    deaths.end(7, -11, 0.01, command="app")
    (death,) = take(deaths, 0.01)
    assert death == Death("run.death.stderr.0", 7, "app", -11, dump=(SEGFAULT, THREAD, FRAME, END))


def test_a_death_may_be_seen_before_its_dump(deaths: Deaths) -> None:
    """The kernel may be faster than the pipe."""
    deaths.end(7, -11, 0.0)
    dump(deaths, 0.1)
    (death,) = take(deaths, 0.1)
    assert (death.pid, death.dump[0]) == (7, SEGFAULT)


def test_what_is_told_again_is_not_told_again(deaths: Deaths) -> None:
    """After dump and kernel come the parent's line and the supervisor's word: one death."""
    dump(deaths)
    deaths.end(7, -11, 0.0)
    assert len(take(deaths, 0.0)) == 1
    deaths.end(7, -11, 0.1)
    deaths.end(7, -11, 0.2, is_server=True)
    assert take(deaths, LATER) == []


def test_a_dump_without_a_process_is_told_all_the_same(deaths: Deaths) -> None:
    """When no process can be found, after a short time; and its end, seen later, is no second death."""
    dump(deaths)
    assert take(deaths, WAIT_FOR_PID - 0.01) == []
    (death,) = take(deaths, WAIT_FOR_PID)
    assert (death.pid, death.returncode) == (0, -11)
    deaths.end(7, -11, WAIT_FOR_PID + 1)
    assert take(deaths, WAIT_FOR_PID + 2) == []


def test_a_death_without_a_dump_is_told_all_the_same(deaths: Deaths) -> None:
    """A server written in C writes none: after a short wait the signal is told alone."""
    deaths.end(7, -11, 0.0)
    assert take(deaths, WAIT_FOR_DUMP - 0.01) == []
    (death,) = take(deaths, WAIT_FOR_DUMP)
    assert (death.returncode, death.dump) == (-11, ())


def test_a_dump_without_its_last_line_is_complete_when_it_is_quiet(deaths: Deaths) -> None:
    """Without extension modules nothing marks the end; lines that still come are waited for."""
    deaths.end(7, -11, 0.0)
    deaths.begin_dump("stderr", 0, SEGFAULT, 0.0)
    deaths.add_line("stderr", 1, THREAD, 0.05)
    assert take(deaths, 0.12) == []
    deaths.add_line("stderr", 2, FRAME, 0.12)
    assert take(deaths, 0.2) == []
    (death,) = take(deaths, 0.23)
    assert death.dump == (SEGFAULT, THREAD, FRAME)


def test_a_dump_that_does_not_end_is_told_within_a_second(deaths: Deaths) -> None:
    """However long it goes on."""
    deaths.begin_dump("stderr", 0, SEGFAULT, 0.0)
    for number in range(1, 100):
        deaths.add_line("stderr", number, FRAME, number / 100)
    assert len(take(deaths, 0.99)) == 1


def test_two_crashes_are_two_deaths(deaths: Deaths) -> None:
    """Each dump gets a process, and each process a dump."""
    dump(deaths, 0.0)
    dump(deaths, 0.0, offset=10)
    deaths.end(7, -11, 0.0)
    deaths.end(8, -11, 0.0)
    told = take(deaths, 0.0)
    assert [(death.key, death.pid, len(death.dump)) for death in told] == [
        ("run.death.stderr.0", 7, 4),
        ("run.death.stderr.10", 8, 4),
    ]


def test_the_signal_tells_which_process_wrote_a_dump(deaths: Deaths) -> None:
    """A process that was stopped at the same moment is not taken for the one that crashed."""
    dump(deaths, header="Fatal Python error: Aborted")
    deaths.end(6, -signal.SIGTERM, 0.0)
    deaths.end(5, 1, 0.0)
    deaths.end(7, -signal.SIGABRT, 0.0)
    told = {death.pid: death for death in take(deaths, LATER - 99)}
    assert [pid for pid, death in told.items() if death.dump] == [7]


@pytest.mark.parametrize("status", [128 + 11, 256 - 11])
def test_a_parent_that_ends_in_the_way_of_its_child_is_no_second_death(deaths: Deaths, status: int) -> None:
    """A shell ends with 128 + N, Python with 256 - N: that is the child's death."""
    dump(deaths)
    deaths.end(7, -11, 0.0)
    deaths.end(3, status, 0.1, is_server=True)
    (death,) = take(deaths, 1.0)
    assert (death.pid, death.is_server) == (7, True)


def test_the_end_of_the_server_is_known_for_ever(deaths: Deaths) -> None:
    """The supervisor tells it to every new master, however much later: still one death."""
    deaths.end(3, -11, 0.0, is_server=True)
    assert len(take(deaths, 1.0)) == 1
    assert take(deaths, 10_000.0) == []
    deaths.end(3, -11, 10_000.0, is_server=True)
    assert take(deaths, 10_001.0) == []


def test_a_line_that_is_read_again_counts_once(deaths: Deaths) -> None:
    """A new master may see lines that the former one had seen already."""
    dump(deaths)
    dump(deaths)
    deaths.end(7, -11, 0.0)
    (death,) = take(deaths, 0.0)
    assert len(death.dump) == 4


def test_an_end_that_nobody_knows_how_is_no_death(deaths: Deaths) -> None:
    """Until somebody tells: on older kernels a parent may be faster than we are."""
    deaths.end(7, None, 0.0, command="app")
    assert take(deaths, 1.0) == []
    deaths.end(7, -11, 1.0)
    (death,) = take(deaths, 1.5)
    assert (death.pid, death.returncode, death.command) == (7, -11, "app")


def test_everything_can_be_told_at_once(deaths: Deaths) -> None:
    """At the end nothing is waited for."""
    deaths.begin_dump("stderr", 0, SEGFAULT, 0.0)
    assert [death.dump for death in deaths.ripe(0.0, at_once=True)] == [(SEGFAULT,)]


def test_deaths_are_forgotten() -> None:
    """Nothing grows: neither with the time, nor with the deaths of a moment, nor with a dump."""
    deaths = Deaths("run")
    for pid in range(1, 2 * MAX_CASES):
        deaths.end(pid, -15, 0.0)
    assert len(deaths.ripe(1.0)) == MAX_CASES
    deaths.ripe(MEMORY + 1)
    assert deaths.is_idle()
    assert deaths.next_due() is None
    deaths.begin_dump("stderr", 0, SEGFAULT, 0.0)
    for number in range(1, 2 * MAX_LINES):
        deaths.add_line("stderr", number, FRAME, 0.0)
    assert len(deaths.ripe(1.0)[0].dump) == MAX_LINES


def test_the_next_look_is_known(deaths: Deaths) -> None:
    """When something is to be told, or forgotten."""
    deaths.end(7, -11, 0.0)
    assert deaths.next_due() == WAIT_FOR_DUMP
    take(deaths, WAIT_FOR_DUMP)
    assert deaths.next_due() == MEMORY


def test_a_dump_looks_for_its_process(deaths: Deaths) -> None:
    """As long as that is not known, and the death not told."""
    assert not deaths.lacks_pid()
    dump(deaths)
    assert deaths.lacks_pid()
    deaths.end(7, None, 0.0)
    assert not deaths.lacks_pid()


def test_an_exit_status_stays_as_it_is(deaths: Deaths) -> None:
    """A status without a crash before it is the process's own."""
    deaths.end(3, 139, 0.0, is_server=True)
    (death,) = take(deaths, 1.0)
    assert (death.returncode, death.is_server) == (139, True)


@given(st.permutations(["dump", "kernel", "parent", "server"]))
def test_the_order_does_not_matter(order: list[str]) -> None:
    """In whichever order the four ways tell of a death, it is told once, with its pid and its frames."""
    deaths, told = Deaths("run"), []
    for number, way in enumerate(order):
        now = number * 0.02
        match way:
            case "dump":
                dump(deaths, now)
            case "kernel":
                deaths.end(7, -11, now, command="app")
            case "parent":
                deaths.end(7, -11, now)
            case _:
                deaths.end(7, -11, now, is_server=True)
        told += take(deaths, now)
    told += take(deaths, 2.0)
    assert [(death.pid, len(death.dump)) for death in told] == [(7, 4)]


@pytest.mark.parametrize("seen", ["dump", "end"])
def test_a_new_master_waits_for_the_rest(deaths: Deaths, seen: str) -> None:
    """However long there was none: what it had not told may be told by what lies in the pipe."""
    if seen == "dump":
        deaths.begin_dump("stderr", 0, SEGFAULT, 0.0)
    else:
        deaths.end(7, -11, 0.0)
    deaths.wait_again(5.0)
    assert take(deaths, 5.05) == []
    if seen == "dump":
        deaths.add_line("stderr", 1, THREAD, 5.1)
        deaths.end(7, -11, 5.1)
    else:
        deaths.begin_dump("stderr", 0, SEGFAULT, 5.1)
        deaths.add_line("stderr", 1, THREAD, 5.1)
    (death,) = take(deaths, 5.1 + WAIT_FOR_DUMP)
    assert (death.pid, death.dump) == (7, (SEGFAULT, THREAD))
