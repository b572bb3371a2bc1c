"""All scenarios, by the names that ``make faults-fleet`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from faults.fleet import owners, partitions, shared_state, sharing
from faults.fleet.fleets import AT_ONCE, Fleet, fleet
from faults.fleet.machines import start_all
from faults.fleet.scale import Scale
from faults.fleet.sink import Sink
from faults.fleet.stores import Pair, Store, master_of, watching
from faults.fleet.verdict import Verdict

Act = Callable[[Fleet, Verdict], None]
ActOnStore = Callable[[Fleet, Verdict, Store], None]
Scenario = Callable[[Path, Scale, Verdict], None]


@contextmanager
def on_a_store(
    folder: Path, scale: Scale, *options: str, prepare: Callable[[Fleet], None] = lambda _: None
) -> Iterator[tuple[Fleet, Store]]:
    """Run a fleet without machines on a Redis of its own."""
    with Store(folder / "redis", *options).running() as store, fleet(folder, scale, lambda: store.port) as shop:
        prepare(shop)
        yield shop, store


def _alone(act: Act, prepare: Callable[[Fleet], None] = lambda _: None) -> Scenario:
    """Return the scenario in which a fleet plays one act."""
    return _with_redis(lambda shop, verdict, _: act(shop, verdict), prepare)


def _with_redis(act: ActOnStore, prepare: Callable[[Fleet], None] = lambda _: None) -> Scenario:
    def scenario(folder: Path, scale: Scale, verdict: Verdict) -> None:
        with on_a_store(folder, scale, prepare=prepare) as (shop, store):
            shop.start(scale.machines)
            act(shop, verdict, store)
            shop.check_books(verdict)

    return scenario


def _failover(folder: Path, scale: Scale, verdict: Verdict) -> None:
    with Pair(folder / "redis").running() as pair, fleet(folder, scale, lambda: pair.master.port) as shop:
        shop.start(scale.machines)
        shared_state.failed_over(shop, verdict, pair)
        shop.check_books(verdict)


def _sentinel(folder: Path, scale: Scale, verdict: Verdict) -> None:
    with ExitStack() as stack:
        pair = stack.enter_context(Pair(folder / "redis").running())
        sentinel = stack.enter_context(watching(folder / "sentinel", pair))
        shop = stack.enter_context(fleet(folder, scale, lambda: master_of(sentinel)))
        shop.url = f"redis+sentinel://127.0.0.1:{sentinel.port}/alarms/0"
        shop.has_proxies = False
        shop.start(scale.machines)
        shared_state.watched(shop, verdict, pair, sentinel)
        shop.check_books(verdict)


def _hang(folder: Path, scale: Scale, verdict: Verdict) -> None:
    sink = Sink()
    with on_a_store(folder, scale, prepare=shared_state.under_load) as (shop, store), sink.reading():
        for machine in shop.add(scale.machines):
            machine.output = sink.open(machine.name)
            machine.start()
        shop.wait_until_shared(shop.machines)
        shared_state.hung(shop, verdict, store, sink)
        shop.check_books(verdict)


def _wrong_password(folder: Path, scale: Scale, verdict: Verdict) -> None:
    with on_a_store(folder, scale, "--requirepass", "right") as (shop, store):
        shop.password = "wrong"
        start_all(shop.add(scale.machines), AT_ONCE)
        shared_state.locked_out(shop, verdict, store)
        shop.check_books(verdict)


def _budget(folder: Path, scale: Scale, verdict: Verdict) -> None:
    with on_a_store(folder, scale, prepare=sharing.budgeted) as (shop, _):
        shop.start(scale.many)
        sharing.budget(shop, verdict)
        shop.check_books(verdict)


def _together(folder: Path, scale: Scale, verdict: Verdict) -> None:
    """Play acts of one fleet, one after the other, in which all machines go on."""
    with on_a_store(folder, scale, prepare=sharing.escalating) as (shop, _):
        shop.start(scale.machines)
        sharing.same(shop, verdict)
        sharing.orders(shop, verdict)
        partitions.partitioned(shop, verdict)
        shop.check_books(verdict)


def _restarts(folder: Path, scale: Scale, verdict: Verdict) -> None:
    """Play those in which all machines start again, and Redis forgets what they share."""
    with on_a_store(folder, scale) as (shop, store):
        shop.start(scale.machines)
        sharing.rolling(shop, verdict)
        shared_state.flushed_later(shop, verdict, store)
        shop.check_books(verdict)


CATALOGUE: dict[str, Scenario] = {
    "same": _alone(sharing.same),
    "owner-killed": _alone(owners.killed),
    "owner-stopped": _alone(owners.stopped),
    "owners-master-killed": _alone(owners.master_killed),
    "owner-refused": _alone(owners.refused),
    "flush": _with_redis(shared_state.flushed),
    "restart": _with_redis(shared_state.restarted),
    "failover": _failover,
    "sentinel": _sentinel,
    "partition": _alone(partitions.partitioned),
    "hang": _hang,
    "slow": _alone(shared_state.slow),
    "wrong-password": _wrong_password,
    "full": _with_redis(shared_state.full),
    "clock": _alone(partitions.clocks, partitions.with_a_clock),
    "budget": _budget,
    "orders": _alone(sharing.orders, sharing.escalating),
    "rolling": _alone(sharing.rolling),
}

#: What every run of the tests shows.
IN_TESTS: dict[str, Scenario] = {
    "together": _together,
    "restarts": _restarts,
    "owner-killed": CATALOGUE["owner-killed"],
}
