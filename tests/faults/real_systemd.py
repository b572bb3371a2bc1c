"""The units of ``examples/deploy/systemd`` in a real systemd, started as process 1 of namespaces of its own.

``python tests/faults/real_systemd.py``, run by hand as root: the machine's own files are seen through an overlay, so
nothing of them changes, and the units' paths lead to this Python. Prints what was found as JSON; the exit status is 1
if something is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "examples" / "deploy" / "systemd"

#: Seconds to wait for anything.
LIMIT = 60.0

#: Mounts a root over the machine's and becomes its process 1; {folder} is a directory for it.
START = """
set -e
root={folder}/root
mount --make-rprivate /
mkdir -p $root {folder}/layer
mount -t tmpfs tmpfs {folder}/layer
mkdir -p {folder}/layer/upper {folder}/layer/work
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/layer/upper,workdir={folder}/layer/work $root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys -o ro
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount -t tmpfs tmpfs $root/run
mkdir -p $root/opt/python $root/srv
mount --bind {python} $root/opt/python
mount -t tmpfs tmpfs $root/srv
cp -a {folder}/srv/. $root/srv/
mount -t tmpfs tmpfs $root/tmp
mount --rbind /dev $root/dev
rm -rf $root/etc/systemd/system/*.wants $root/var/log/journal
mkdir -p $root/var/log/journal $root/var/log/nginx $root/var/log/postgresql $root/etc/shop $root/etc/alarm-mw
echo 5f1e0f0e5f1e0f0e5f1e0f0e5f1e0f0e > $root/etc/machine-id
cp $root/srv/units/* $root/etc/systemd/system/
cp $root/srv/shop.toml $root/etc/shop/alarm-mw.toml
cp $root/srv/follow.toml $root/etc/alarm-mw/alarm-mw.toml
touch $root/var/log/nginx/error.log
chgrp -R adm $root/var/log/nginx
ip link set lo up
export container=unshare
exec chroot $root /lib/systemd/systemd --system --unit=tests.target --log-target=null
"""

TARGET = """
[Unit]
Requires=systemd-journald.service systemd-tmpfiles-setup.service
After=systemd-journald.service systemd-tmpfiles-setup.service
"""

APP = """
def app(environ, start_response):
    print("TERRIBLE ALARM from", environ["PATH_INFO"], flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""

CONFIG = """
[drill]
warn_after = "30d"
[alarms.a]
action = "cmd"
command = "cat >> /var/lib/{name}/fired.txt"
[[rules]]
pattern = "TERRIBLE ALARM|upstream timed out"
alarms = ["a"]
"""


#: Prints when the alarm has last delivered a drill, as the server knows it.
DRILLED = """
import sqlite3
print(sqlite3.connect("/var/lib/shop/outbox.db").execute("SELECT drilled FROM deliveries").fetchone())
"""


class Machine:
    """The namespaces, with a systemd in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepare(folder / "srv")
        start = folder / "start.sh"
        start.write_text(START.format(folder=folder, python=Path(sys.base_prefix)))
        self._group = self._make_group()
        spaces = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc", "--net"]
        # From within a group of its own, which is then the root of all groups in there.
        inside = ["bash", "-c", f'echo $$ > {self._group}/cgroup.procs; exec "$@"', "bash", *spaces, "bash", str(start)]
        self._process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @staticmethod
    def _make_group() -> Path:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        group = Path(next(place for _, place, kind, *_ in mounts if kind == "cgroup2")) / f"tests-{os.getpid()}"
        group.mkdir()
        return group

    @staticmethod
    def _prepare(srv: Path) -> None:
        (srv / "units").mkdir(parents=True)
        for unit in UNITS.iterdir():
            shutil.copy(unit, srv / "units")
        (srv / "units" / "tests.target").write_text(TARGET)
        for name, state in (("shop", "shop"), ("follow", "alarm-mw-follow")):
            (srv / f"{name}.toml").write_text(CONFIG.format(name=state))
        scripts = Path(sys.executable).parent
        for place in ("shop", "alarms"):
            venv = srv / place / "venv"
            (venv / "bin").mkdir(parents=True)
            (venv / "lib").symlink_to(scripts.parent / "lib")
            (venv / "bin" / "python").symlink_to(f"/opt/python/bin/python3.{sys.version_info.minor}")
            (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\n")
            for script in ("alarm-mw", "gunicorn"):
                _, _, code = (scripts / script).read_text().partition("\n")
                (venv / "bin" / script).write_text(f"#!/srv/{place}/venv/bin/python\n{code}")
                (venv / "bin" / script).chmod(0o755)
        (srv / "shop" / "app.py").write_text(APP)

    @property
    def pid(self) -> int:
        """The process id of its systemd, out here."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in there."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"]
        environ = {**os.environ, "LD_LIBRARY_PATH": "/opt/python/lib"}
        return subprocess.run([*enter, *words], capture_output=True, text=True, check=False, timeout=LIMIT, env=environ)

    def is_up(self) -> bool:
        """Return whether its systemd has come to its target."""
        try:
            return self.run("systemctl", "is-active", "tests.target").stdout.strip() == "active"
        except (IndexError, FileNotFoundError):
            return False

    def text(self, path: str) -> str:
        """Return the text of a file in there."""
        return self.run("cat", path).stdout

    def kill_master(self, unit: str) -> None:
        """Kill the master of a unit."""
        group = self.run("systemctl", "show", "--property=ControlGroup", "--value", unit).stdout.strip()
        is_master = "grep -q alarm_mw.master /proc/$p/cmdline"
        script = f"for p in $(cat /sys/fs/cgroup{group}/cgroup.procs); do {is_master} && kill -9 $p; done"
        self.run("bash", "-c", script)

    def stop(self) -> None:
        """End everything in there."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        groups = [place for place, _, _ in os.walk(self._group, topdown=False)]
        wait_until(lambda: not (self._group / "cgroup.events").read_text().startswith("populated 1"))
        for group in groups:
            Path(group).rmdir()


def wait_until(condition: Callable[[], object]) -> bool:
    """Return whether a condition comes true in time."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)  # nobody in there tells us, and each look starts a program there
    return True


def examine(machine: Machine) -> dict[str, bool]:
    """Return what holds of the units."""
    shop, follow, drill = "shop.service", "alarm-mw-follow.service", "alarm-mw-drill.service"
    fired, noticed = "/var/lib/shop/fired.txt", "/var/lib/alarm-mw-follow/fired.txt"
    found = {"systemd runs": wait_until(machine.is_up)}
    machine.run("systemctl", "set-environment", "LD_LIBRARY_PATH=/opt/python/lib")
    for unit in (shop, follow):  # started when it says that it is ready
        found[f"{unit} starts"] = machine.run("systemctl", "start", unit).returncode == 0
    get = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/pay')"
    machine.run("/srv/shop/venv/bin/python", "-c", get)
    found["a printed line is delivered"] = wait_until(lambda: "from /pay" in machine.text(fired))
    status = ("/srv/alarms/venv/bin/alarm-mw", "status", "--json", "--state-dir", "/var/lib/alarm-mw-follow")
    found["the log is followed"] = wait_until(lambda: '"path": "/var/log/nginx' in machine.run(*status).stdout)
    machine.run("bash", "-c", "echo upstream timed out 1 >> /var/log/nginx/error.log")
    found["a line of a followed log is delivered"] = wait_until(lambda: "timed out 1" in machine.text(noticed))
    machine.kill_master(follow)
    machine.run("bash", "-c", "echo upstream timed out 2 >> /var/log/nginx/error.log")
    found["and one after its master was killed"] = wait_until(lambda: "timed out 2" in machine.text(noticed))
    found["each once"] = machine.text(noticed).count("timed out") == 2
    found["a reload works"] = machine.run("systemctl", "reload", shop).returncode == 0
    found["the drill is delivered"] = machine.run("systemctl", "start", drill).returncode == 0
    noted = machine.run("/srv/shop/venv/bin/python", "-c", DRILLED).stdout
    found["and the server has taken note"] = noted.startswith("(") and not noted.startswith("(0.0")
    found["the timer starts"] = machine.run("systemctl", "start", "alarm-mw-drill.timer").returncode == 0
    replayed = machine.run(
        "/srv/shop/venv/bin/alarm-mw", "replay", "--config", "/etc/shop/alarm-mw.toml", f"journal:{shop}"
    )
    found["the journal has the output"] = "TERRIBLE ALARM from /pay" in replayed.stdout
    found["a restart works"] = machine.run("systemctl", "restart", shop).returncode == 0
    found["both stop"] = machine.run("systemctl", "stop", shop, follow).returncode == 0
    found["nothing has failed"] = "0 loaded units" in machine.run("systemctl", "--failed", "--no-pager").stdout
    return found


def main() -> None:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="systemd-") as name:
        machine = Machine(Path(name))
        try:
            found = examine(machine)
        finally:
            machine.stop()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.exit(not all(found.values()))


if __name__ == "__main__":
    main()
