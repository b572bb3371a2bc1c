"""Receivers that fail, each in its own way, and all at once: nothing is lost, and nobody else is held up."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import trustme

from faults.ground import Ground, wait_until
from faults.receiver import Receiver, closes, drips, floods, hangs, redirects
from faults.row import Row, judge

#: Kilobytes of memory that no misbehaving receiver brings a master to.
MUCH = 150_000


#: Alarm, what is wrong, and how its receiver behaves.
MISBEHAVING = (
    ("hangs", "endpoint that hangs", hangs),
    ("drips", "endpoint that answers a byte a second", drips),
    ("floods", "endpoint that answers with 1 GB", floods),
    ("closes", "endpoint that closes at once", closes),
    ("redirects", "endpoint that redirects for ever", redirects),
)

NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An alarm, and the receiver it goes to."""

    alarm: str
    fault: str
    receiver: Receiver


@contextlib.contextmanager
def _endpoints() -> Iterator[tuple[Receiver, list[Endpoint]]]:
    """Give a receiver that is well, and those that are not."""
    with contextlib.ExitStack() as stack:
        well = stack.enter_context(Receiver().serving())
        endpoints = [
            Endpoint(alarm, fault, stack.enter_context(Receiver(behaviour).serving()))
            for alarm, fault, behaviour in MISBEHAVING
        ]
        down = Receiver()
        stack.callback(down.close)
        yield well, [*endpoints, Endpoint("down", "endpoint that is down", down)]


@contextlib.contextmanager
def _with_a_certificate(authority: trustme.CA) -> Iterator[tuple[Receiver, Callable[[], None]]]:
    """Give a receiver with a stranger's certificate, and what gives it one of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Receiver(tls=context).serving() as receiver:
        yield receiver, lambda: authority.issue_cert("127.0.0.1").configure_cert(context)


def receivers(folder: Path, times: int) -> list[Row]:
    """Send the same alarms to all of them, `times` portions; those that can recover do, and get each alarm once."""
    authority = trustme.CA()
    folder.mkdir()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with _endpoints() as (well, endpoints), _with_a_certificate(authority) as (tls, renew):
        endpoints.append(Endpoint("untrusted", "endpoint with a bad certificate", tls))
        urls = {"well": well.url, **{one.alarm: one.receiver.url for one in endpoints}}
        ground = Ground(folder, {**urls, NOWHERE: "http://hooks.invalid/"})
        ground.environ["SSL_CERT_FILE"] = str(folder / "ca.pem")
        with ground.running():
            for _ in range(times):
                ground.raise_alarms()
            well.wait_for(ground.accepted, "all at the receiver that is well")
            wait_until(lambda: _fail(ground, {*urls, NOWHERE} - {"well", "redirects"}), what="failures")
            memory = ground.peak()
            renew()
            endpoints[-2].receiver.up()
            for one in endpoints:
                one.receiver.recover()
                if one.alarm != "redirects":
                    _wait_for_recovery(one, ground.accepted)
        with Receiver().serving() as found:  # a name that is not there is put right by who looks after it
            ground.configure({**urls, NOWHERE: found.url})
            with ground.running():
                found.wait_for(ground.accepted, "what could not be resolved")
            endpoints.append(Endpoint(NOWHERE, "endpoint whose name cannot be resolved", found))
            rows = [
                judge(one.fault, times, ground.outbox(), ground.accepted, one.receiver.received, one.alarm)
                for one in endpoints
            ]
    return [_with_memory(row, memory) for row in rows]


def _wait_for_recovery(endpoint: Endpoint, accepted: set[int]) -> None:
    endpoint.receiver.wait_for(accepted, f"recovery of the {endpoint.fault}")


def _fail(ground: Ground, alarms: set[str]) -> bool:
    return alarms <= set(ground.status()["failing"])


def _with_memory(row: Row, memory: int) -> Row:
    too_much = (f"the master has taken {memory} kB",) if memory > MUCH else ()
    return replace(row, complaints=(*row.complaints, *too_much))
