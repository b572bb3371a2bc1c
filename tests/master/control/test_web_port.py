"""The page of a real server: what survives its master, and what it costs where nobody wants it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from ports import free_port
from waiting import LIMIT
from web_server import Server

RULES = """
[alarms.a]
action = "log"
[[rules]]
name = "disk"
pattern = "disk full"
resolve_after = "1h"
alarms = ["a"]
"""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(web: str, **environ: str) -> Server:
        servers.append(Server(tmp_path, f"{RULES}{web}", environ))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_a_replaced_master_refuses_nobody(serve: Callable[..., Server]) -> None:
    """While a killed master is replaced, connections wait in the socket; the session of before goes on."""
    port = free_port()
    server = serve(f'[web]\nlisten = "127.0.0.1:{port}"')
    with server.log_in() as browser:
        former = server.master()
        os.kill(former, signal.SIGKILL)
        for _ in range(5):
            assert browser.get("/").status_code == 200
        assert server.master() != former


def test_a_reload_moves_the_page(serve: Callable[..., Server]) -> None:
    """Another address is served after a reload, the former is not; without an address there is no page."""
    first, second = free_port(), free_port()
    server = serve(f'[web]\nlisten = "127.0.0.1:{first}"')
    with server.log_in() as browser:
        assert browser.get("/").status_code == 200
    server.configure(f'{RULES}[web]\nlisten = "127.0.0.1:{second}"')
    assert server.ask("reload").returncode == 0
    with server.log_in() as browser:
        assert browser.base_url.port == second
        assert browser.get("/").status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first), LIMIT)
    server.configure(RULES)
    assert server.ask("reload").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", second), LIMIT)
    asked = server.ask("web")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "this server has no page" in asked.stderr


def test_a_unix_socket(serve: Callable[..., Server], tmp_path: Path) -> None:
    """A proxy on this machine may reach the page by a unix socket."""
    path = tmp_path / "page.sock"
    server = serve(f'[web]\nlisten = "unix:{path}"\nbase_url = "http://alarms.example.org"')
    with server.log_in(httpx.HTTPTransport(uds=str(path))) as browser:
        os.kill(server.master(), signal.SIGKILL)
        assert browser.get("/").status_code == 200


def test_by_tls(serve: Callable[..., Server], tmp_path: Path, authority: trustme.CA) -> None:
    """With a certificate the page is served by TLS alone, and its cookie is sent by TLS alone."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    server = serve(f'[web]\nlisten = "127.0.0.1:{free_port()}"\ncertfile = "{tmp_path}/cert.pem"')
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with server.log_in(httpx.HTTPTransport(verify=context)) as browser:
        assert browser.base_url.scheme == "https"
        assert browser.get("/").status_code == 200
        (cookie,) = browser.cookies.jar
        assert cookie.secure
        assert cookie.name.startswith("__Host-")


def test_a_certificate_that_cannot_be_used(serve: Callable[..., Server]) -> None:
    """The log says so, and everything else works."""
    server = serve(f'[web]\nlisten = "127.0.0.1:{free_port()}"\ncertfile = "/nowhere/cert.pem"')
    assert server.ask("web").returncode == 1
    assert "the page cannot be served at 127.0.0.1" in server.log.read_text()
    assert server.ask("status").returncode == 0


def test_nothing_is_there_where_nobody_wants_it(serve: Callable[..., Server]) -> None:
    """Without ``[web]``, no port is open, no thread runs, no file is made, and nothing of the page is loaded."""
    server = serve("", PYTHONPROFILEIMPORTTIME="1")
    loaded = server.log.read_text()
    assert "alarm_mw.master.control.web_port" in loaded
    for name in ("jinja2", "alarm_mw.web.store", "alarm_mw.web.live"):
        assert f"{name}\n" not in loaded.partition("starlette")[0]
    assert not (server.state / "web.db").exists()
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line}
    sockets = {os.readlink(each) for each in Path(f"/proc/{server.master()}/fd").iterdir() if each.is_symlink()}
    assert not sockets & {f"socket:[{inode}]" for inode in listening}
