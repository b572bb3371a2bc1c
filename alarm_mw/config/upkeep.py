"""How a master looks after itself: what it reads again, checks and shows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from alarm_mw.config.tables.structs import read_struct
from alarm_mw.config.tables.tree import Table
from alarm_mw.delivery.outbox.stock import OutboxOptions

#: TCP's highest port.
MAX_PORT = 65535
_PORT = re.compile("[1-9][0-9]{0,4}")


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """Keys at the top of a TOML file."""

    reload: Annotated[
        Literal["manual", "auto"],
        msgspec.Meta(
            description="When a changed configuration counts: with `alarm-mw reload` or SIGHUP, or with "
            "`auto` as soon as one of its files has changed"
        ),
    ] = "manual"
    self_check: Annotated[
        float,
        msgspec.Meta(ge=0, le=86400, description="Seconds between two looks of the master at itself; 0 for none"),
    ] = 60.0


class MetricsListener(msgspec.Struct, frozen=True, kw_only=True):
    """The table ``[metrics]``."""

    listen: Annotated[
        str,
        msgspec.Meta(
            description='Where Prometheus may ask for `/metrics`, such as `"127.0.0.1:9464"`; whoever reaches that '
            "address may read them. By default nowhere but on the control socket"
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Raise `ValueError` for what is no address."""
        if self.listen:
            host_and_port(self.listen)


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of ``host:port``, IPv6 in brackets; raise `ValueError`."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise ValueError(f"listen: expected 'host:port', got {address!r}")
    return host, int(port)


def read_upkeep(root: Table) -> dict[str, object]:
    """Return those fields of `Upkeep` that the outermost table has."""
    given = {key: value for key, value in root.values.items() if key in Upkeep.__struct_fields__}
    read = read_struct(Upkeep, Table(given, root.origin, root.path, root.name))
    return {} if read is None else {key: getattr(read, key) for key in given}


def read_outbox(root: Table) -> OutboxOptions | None:
    """Return the table ``[outbox]``, or None where there is none, or a wrong one."""
    table = root.table("outbox", "outbox")
    return None if table is None else read_struct(OutboxOptions, table)


def read_metrics(root: Table) -> MetricsListener | None:
    """Return the table ``[metrics]``, or None where there is none, or a wrong one."""
    table = root.table("metrics", "metrics")
    return None if table is None else read_struct(MetricsListener, table)
