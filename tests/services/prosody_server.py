"""A real Prosody, the XMPP server, on a free port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from ports import answers, free_port

DOMAIN = "alarms.test"
ROOMS = "rooms.alarms.test"
PASSWORD = "hunter2"

_CONFIG = """\
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{directory}"
run_as_root = true
log = {{ {{ levels = {{ min = "info" }}, to = "file", filename = "{directory}/prosody.log" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {direct_port} }}
s2s_ports = {{ }}
authentication = "internal_hashed"
c2s_require_encryption = {require_encryption}
allow_unencrypted_plain_auth = false
modules_enabled = {{ "disco", "roster", "saslauth"{tls}, "ping", "presence", "message", "iq", "offline" }}
modules_disabled = {{ "s2s", "http" }}
ssl = {{ key = "{directory}/key.pem", certificate = "{directory}/chain.pem" }}
c2s_direct_tls_ssl = {{ key = "{directory}/key.pem", certificate = "{directory}/chain.pem" }}
VirtualHost "{domain}"
Component "{rooms}" "muc"
"""


def missing() -> str:
    """Return what keeps Prosody from being started, or nothing."""
    return "" if shutil.which("prosody") else "prosody is not installed (apt-get install prosody)"


@dataclass
class Prosody:
    """A server with accounts whose password is `PASSWORD`; can be stopped and started again."""

    directory: Path
    authority: trustme.CA
    #: Whether a client must use TLS, and can.
    require_encryption: bool = True
    offer_tls: bool = True
    port: int = field(default_factory=free_port)
    direct_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._write_certificate()
        (self.directory / "data").mkdir()
        self._config.write_text(
            _CONFIG.format(
                directory=self.directory,
                port=self.port,
                direct_port=self.direct_port,
                domain=DOMAIN,
                rooms=ROOMS,
                tls=', "tls"' if self.offer_tls else "",
                require_encryption=str(self.require_encryption).lower(),
            )
        )

    @property
    def _config(self) -> Path:
        return self.directory / "prosody.cfg.lua"

    @property
    def ca_file(self) -> str:
        """The certificates that vouch for the server."""
        return str(self.directory / "ca.pem")

    def jid(self, user: str) -> str:
        return f"{user}@{DOMAIN}"

    def register(self, *users: str) -> None:
        """Make accounts."""
        for user in users:
            command = ["prosodyctl", "--config", str(self._config), "register", user, DOMAIN, PASSWORD]
            subprocess.run(command, check=True, timeout=30, capture_output=True)

    def befriend(self, user: str, friend: str) -> None:
        """Let each of both see whether the other is online."""
        directory = self.directory / "data" / DOMAIN.replace(".", "%2e") / "roster"
        directory.mkdir(parents=True, exist_ok=True)
        for one, other in ((user, friend), (friend, user)):
            (directory / f"{one}.dat").write_text(
                f'return {{ [false] = {{ version = 1; }}; ["{self.jid(other)}"] = '
                '{ subscription = "both"; groups = {}; }; };\n'
            )

    def start(self) -> None:
        """Start the server; return when it answers."""
        command = ["prosody", "--config", str(self._config), "-F"]
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"prosody does not start: {self.output()}")
            # The port cannot be waited for, only asked.
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server; return when it has ended."""
        if self._process and self._process.poll() is None:
            os.kill(self._process.pid, number)
            self._process.wait(30)

    def output(self) -> str:
        """Everything that the server has said."""
        files = [self.directory / "output", self.directory / "prosody.log"]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def _write_certificate(self) -> None:
        certificate = self.authority.issue_cert(DOMAIN, ROOMS)
        certificate.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(self.directory / "chain.pem"), append=True)
        self.authority.cert_pem.write_to_path(self.ca_file)
