"""Who gets a signal: uWSGI's targets."""

from __future__ import annotations

import pytest

from alarm_mw.master.mules.signal_table import Member, SignalTable
from alarm_mw.transports.subscription import Register, normal_target

TARGETS = ("worker", "workers", "worker1", "worker2", "worker3", "worker9", "mule", "mules", "mule1", "mule2", "mule9")


def said(pid: int, mule: int = 0, targets: tuple[str, ...] = TARGETS) -> tuple[Register, int]:
    return Register(mule, frozenset((17, target) for target in targets)), pid


@pytest.fixture
def table() -> SignalTable:
    """Three workers with the pids 11 to 13, two mules with 21 and 22."""
    table = SignalTable()
    for packet in (said(11), said(22, 2), said(12), said(21, 1), said(13)):
        table.join(*packet, 10)
    return table


def pids(members: list[Member]) -> list[int]:
    return [member.pid for member in members]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("worker", [11]),
        ("workers", [11, 12, 13]),
        ("worker2", [12]),
        ("worker9", []),
        ("mule", [21]),
        ("mules", [21, 22]),
        ("mule2", [22]),
        ("mule9", []),
    ],
)
def test_each_target_means_what_it_means_in_uwsgi(table: SignalTable, target: str, expected: list[int]) -> None:
    """One, all, or the one with that number, of the workers or of the mules."""
    assert pids(table.addressees(17, target)) == expected


def test_only_who_has_asked_is_meant(table: SignalTable) -> None:
    """A process runs handlers for what it registered, and nothing else."""
    table.join(*said(14, targets=()), 10)
    assert pids(table.addressees(17, "workers")) == [11, 12, 13]
    assert table.addressees(18, "workers") == []


def test_targets_that_mean_nobody_are_left_out(table: SignalTable) -> None:
    """A handler for the ninth worker is no reason to take the signal for delivered."""
    assert sorted(table.targets(17)) == sorted(set(TARGETS) - {"worker9", "mule9"})
    assert table.targets(18) == []


def test_one_worker_is_the_one_with_the_least_to_do(table: SignalTable) -> None:
    """A worker whose handler is still running is passed over for a free one."""
    first, second, _ = table.addressees(17, "workers")
    first.unfinished = second.unfinished = 1
    assert pids(table.addressees(17, "worker")) == [13]


def test_a_new_worker_takes_the_number_of_a_dead_one(table: SignalTable) -> None:
    """After the second worker was replaced, `worker2` is its successor, and the third stays the third."""
    table.leave(table.addressees(17, "worker2")[0])
    assert table.addressees(17, "worker2") == []
    table.join(*said(14), 10)
    assert pids(table.addressees(17, "worker2")) == [14]
    assert pids(table.addressees(17, "worker3")) == [13]


def test_the_servers_first_process_is_a_worker_only_without_others() -> None:
    """The arbiter of gunicorn has the handlers of an application that it loaded, but the workers are to run them."""
    table = SignalTable()
    table.join(*said(10), 10)
    assert pids(table.addressees(17, "worker1")) == pids(table.addressees(17, "workers")) == [10]
    table.join(*said(11), 10)
    assert pids(table.addressees(17, "worker1")) == pids(table.addressees(17, "workers")) == [11]


def test_a_child_of_a_mule_does_not_stand_for_it() -> None:
    """Of a mule and what it forked, the mule itself runs the handlers."""
    table = SignalTable()
    table.join(*said(21, 1), 10)
    table.join(*said(99, 1), 10)
    assert pids(table.addressees(17, "mules")) == pids(table.addressees(17, "mule1")) == [21]


@pytest.mark.parametrize(
    ("written", "target"),
    [("", "worker"), ("worker0", "worker"), ("active-workers", "workers"), ("mule0", "mule"), ("worker12", "worker12")],
)
def test_targets_have_one_form(written: str, target: str) -> None:
    """The other ways of uWSGI to write a target are taken."""
    assert normal_target(written) == target


@pytest.mark.parametrize("target", ["spooler", "farm_x", "worker-1", "workers2", "mule01", "x"])
def test_other_targets_are_refused(target: str) -> None:
    """What there is not is an error that says what there is."""
    with pytest.raises(ValueError, match="worker, workers, workerN, mule, mules or muleN"):
        normal_target(target)
