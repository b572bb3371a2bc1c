"""What the kernel says of real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from alarm_mw.monitors.backlog.sock_diag import Listener, SocketDiagnosis, inet_request
from alarm_mw.system.processes import sockets_of_family


def own() -> dict[str, Listener]:
    """Return this process's listening sockets by their addresses."""
    mine = sockets_of_family(os.getpid())
    with SocketDiagnosis() as diagnosis:
        return {found.address: found for found in diagnosis.listeners() if found.inode in mine}


def test_tcp() -> None:
    """Connections that wait are counted; those that were accepted are not."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        address = "{}:{}".format(*server.getsockname())
        clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
        found = own()[address]
        assert (found.queued, found.limit) == (3, 8)
        server.accept()[0].close()
        assert own()[address].queued == 2
        for client in clients:
            client.close()


def test_unix(tmp_path: Path) -> None:
    """A unix socket is known by its path and by its file."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen(5)
        client.connect(path)
        found = own()[path]
        status = Path(path).stat()
        assert (found.queued, found.limit, found.file) == (1, 5, (status.st_dev, status.st_ino))


def test_sockets_that_do_not_listen_are_left_out() -> None:
    """Connections and datagram sockets are not shown."""
    before = own()  # those of services that other tests run
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.bind(("127.0.0.1", 0))
        assert own() == before


def test_a_kernel_that_knows_less() -> None:
    """A family that the kernel was built without has no sockets; a request that it refuses is an error."""
    with SocketDiagnosis() as diagnosis:
        assert list(diagnosis.dump(inet_request(socket.AF_APPLETALK))) == []
        with pytest.raises(OSError, match="Invalid argument"):
            list(diagnosis.dump(inet_request(200)))
