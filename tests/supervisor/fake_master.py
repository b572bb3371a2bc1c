"""A master that speaks the control protocol and copies output, as little as the supervisor needs; a test's own process.

What it heard and was handed is written down, a line each, in the file that the plan's settings name under ``heard``.
The setting ``habit`` makes it misbehave: ``silent`` on "stop", ``deaf`` on "ping"; or say what it ``knows`` of masters
before it. While the file that ``dies_while``
names exists, it dies at once.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

PLAN_FD = int(os.environ["ALARM_MW_PLAN_FD"])
HANDED = json.loads(os.environ["ALARM_MW_FDS"])
PLAN = json.loads(os.pread(PLAN_FD, os.fstat(PLAN_FD).st_size, 0))
SETTINGS = PLAN["settings"]
CHUNK = 65536


class FakeMaster:
    def __init__(self) -> None:
        self.control = socket.socket(fileno=HANDED["control"])
        self.listening = socket.socket(fileno=HANDED["listen"])
        self.listening.setblocking(False)
        self.streams: list[dict[str, Any]] = HANDED["streams"]
        self.workers: dict[str, socket.socket] = {}
        self.log = Path(SETTINGS["heard"]).open("a", buffering=1)  # noqa: SIM115  # open as long as the process
        self.has_to_stop = False
        self.is_orphan = False

    def write_down(self, *words: object) -> None:
        print(*words, file=self.log)

    def run(self) -> None:
        self.write_down("master", os.getpid(), *sorted(stream["name"] for stream in self.streams))
        if SETTINGS.get("habit") == "knows":
            self.write_down("replaced", HANDED["replaced"], HANDED["last_end"])
        for fd in PLAN["master_fds"]:
            self.write_down("handed", fd, os.fstat(fd).st_ino)
        for token, fd in HANDED["connections"].items():
            self.write_down("inherited", token)
            self.workers[token] = socket.socket(fileno=fd)
        self.control.send(b"ready")
        while not self.has_to_stop and (self.streams or not self.is_orphan):
            self.turn()

    def turn(self) -> None:
        waiting = select.poll()
        for fd in [*([] if self.is_orphan else [self.control]), self.listening, *self.workers.values()]:
            waiting.register(fd, select.POLLIN)
        for stream in self.streams:
            waiting.register(stream["source"], select.POLLIN)
        ready = {fd for fd, _events in waiting.poll()}
        if self.control.fileno() in ready:
            self.hear()
        if self.listening.fileno() in ready:
            self.accept()
        for token, worker in list(self.workers.items()):
            if worker.fileno() in ready:
                self.take_record(token, worker)
        for stream in list(self.streams):
            if stream["source"] in ready:
                self.pass_on(stream)

    def hear(self) -> None:
        try:
            message = self.control.recv(4096)
        except ConnectionResetError:  # the supervisor was killed with messages of ours unread
            message = b""
        if message == b"ping":
            if SETTINGS.get("habit") != "deaf":
                self.tell("pong")
            return
        self.write_down("heard", message.decode() or "nothing more")
        self.has_to_stop = message == b"stop" and SETTINGS.get("habit") != "silent"
        self.is_orphan = message == b""

    def tell(self, message: str) -> None:
        with suppress(BrokenPipeError):  # the supervisor was killed
            self.control.send(message.encode())

    def accept(self) -> None:
        worker, _ = self.listening.accept()
        token = str(worker.fileno())
        self.workers[token] = worker
        socket.send_fds(self.control, [f"keep {token}".encode()], [worker.fileno()])

    def take_record(self, token: str, worker: socket.socket) -> None:
        record = worker.recv(4096)
        if record == b"die":
            os._exit(1)
        if record.startswith(b"tell "):
            self.tell(record.decode().removeprefix("tell "))
        if record:
            self.write_down("record", record.decode())
            return
        worker.close()
        del self.workers[token]
        self.tell(f"drop {token}")

    def pass_on(self, stream: dict[str, Any]) -> None:
        moved = self.copy(stream) if stream["terminal"] else self.splice(stream)
        if moved is None or moved == 0:
            how = "broken" if moved is None else "eof"
            self.streams.remove(stream)
            os.close(stream["source"])
            os.close(stream["sink"])
            self.tell(f"{how} {stream['name']}")

    def splice(self, stream: dict[str, Any]) -> int | None:
        try:
            return os.splice(stream["source"], stream["sink"], CHUNK)
        except BrokenPipeError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file that was opened for append
                raise
            return self.copy(stream)

    def copy(self, stream: dict[str, Any]) -> int | None:
        try:
            data = os.read(stream["source"], CHUNK)
        except OSError:  # a terminal that nobody has open any more
            return 0
        length = len(data)
        try:
            while data:
                data = data[os.write(stream["sink"], data) :]
        except OSError:
            return None
        return length


if Path(SETTINGS["dies_while"]).exists():
    sys.exit(1)
FakeMaster().run()
