"""The server starts as it would without us, and its end is the supervisor's end."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.supervisor import __main__ as main

SIGNALS = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
IGNORING = ["sh", "-c", 'trap "" HUP USR1 INT; exec "$@"', "sh"]


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_exit_status(supervise: Any, status: int) -> None:
    """The server's exit status is passed through."""
    assert supervise("sh", "-c", f"exit {status}").end() == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_death_by_signal(supervise: Any, number: int) -> None:
    """When a signal has killed the server, the same signal has killed the supervisor, for whoever looks."""
    assert supervise("sh", "-c", f"kill -{number} $$").end() == -number


def test_no_core_of_our_own(supervise_python: Any, tmp_path: Path) -> None:
    """A server that is killed with a core dump leaves at most its own."""
    run = supervise_python(
        "import os; os.kill(os.getpid(), 3)", prefix=["sh", "-c", 'cd "$0"; exec "$@"', str(tmp_path)]
    )
    assert run.end() == -signal.SIGQUIT
    assert len(list(tmp_path.glob("core*"))) <= 1


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/command", "/etc/passwd/command"])
def test_command_not_found(supervise: Any, name: str) -> None:
    """A command that does not exist is reported as a shell does, and nothing is started."""
    run = supervise(name)
    assert run.results() == (b"", f"alarm-mw: {name}: command not found\n".encode())
    assert run.end() == 127
    assert not run.socket.exists()


def test_command_not_executable(supervise: Any, tmp_path: Path) -> None:
    """A command that cannot be executed is reported with the cause."""
    file = tmp_path / "file"
    file.write_text("")
    run = supervise(str(file))
    assert run.results() == (b"", f"alarm-mw: {file}: Permission denied\n".encode())
    assert run.end() == 126


def test_no_interpreter(supervise: Any) -> None:
    """Where no supervisor can be had for the server that runs already, the server is ended, and the cause told."""
    run = supervise("sleep", "1000", before="import sys; sys.executable = '/no/python'\n")
    assert run.results() == (b"", b"alarm-mw: /no/python: No such file or directory\n")
    assert run.end() == 1
    assert not run.socket.exists()


def test_what_cannot_be_opened(supervise: Any) -> None:
    """Whatever goes wrong on the way is told, and nobody goes on as if it were the server's own process."""
    before = "from alarm_mw.supervisor import start as s\ndef fail(_): raise OSError(24, 'Too many')\n"
    before += "s.open_streams = fail\n"
    run = supervise("sleep", "1000", before=before)
    assert run.results() == (b"", b"alarm-mw: the server cannot be supervised: [Errno 24] Too many\n")
    assert run.end() == 1


#: Does something first when the process is to become the supervisor: the server runs then.
BEFORE_SUPERVISOR = """
import os, signal
execv = os.execv
def execute(*arguments):
    {}
    execv(*arguments)
os.execv = execute
"""


def test_early_end(supervise: Any) -> None:
    """What a server says, and how it ends, is not lost where it is faster than its supervisor."""
    before = BEFORE_SUPERVISOR.format("os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)")
    run = supervise("sh", "-c", "echo up; exit 5", before=before)
    assert run.results() == (b"up\n", b"")
    assert run.end() == 5


def test_early_end_that_another_thread_was_told_of(supervise: Any) -> None:
    """The program that becomes the supervisor may have threads, which do not block what it blocks."""
    thread = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    before = BEFORE_SUPERVISOR.format("os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)")
    assert supervise("sh", "-c", "exit 5", before=thread + before).end() == 5


def test_early_signal(supervise: Any) -> None:
    """A signal that comes before the supervisor is there reaches the server through it."""
    before = BEFORE_SUPERVISOR.format("os.kill(os.getpid(), signal.SIGTERM)")
    assert supervise("sleep", "1000", before=before).end() == -signal.SIGTERM


def test_own_file_in_a_gap(supervise: Any) -> None:
    """What the starting process has opened in the place of a closed descriptor is not the server's."""
    before = "import os; os.close(1); os.open('/dev/null', os.O_WRONLY)\n"
    run = supervise("sh", "-c", "[ -e /proc/self/fd/1 ] || echo closed >&2", before=before)
    assert run.results() == (b"", b"closed\n")


def test_socket_in_use(supervise: Any) -> None:
    """A socket that another supervisor listens to is not taken from it."""
    first = supervise("sh", "-c", "echo up; read line")
    first.output.until("up")
    second = supervise("echo", "never", settings={"socket": first.socket})
    assert second.results() == (b"", f"alarm-mw: {first.socket}: Address already in use\n".encode())
    assert second.end() == 1
    first.say("\n")
    assert first.end() == 0


def test_lock(supervise: Any, tmp_path: Path) -> None:
    """The state directory stays locked while supervisor or master lives, even the latter alone; the server has no part.

    Processes that a server leaves behind would else keep the next one from starting.
    """
    file = tmp_path / "lock"
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    run = supervise("sh", "-c", "trap '' TERM; read line", settings={"lock": lock}, pass_fds=[lock])
    os.close(lock)
    master = int(run.heard.until("master").split()[1])
    server = int(run.heard.until("heard server").split()[2])
    assert [has_open(pid, file) for pid in (run.process.pid, master, server)] == [True, True, False]
    run.send(signal.SIGKILL)
    assert run.end() == -signal.SIGKILL
    with file.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    run.say("\n")
    run.wait_until_all_are_gone()
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # a process that ends has no environment any more before its files are closed


def has_open(pid: int, file: Path) -> bool:
    return str(file) in [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.parametrize("prefix", [[], IGNORING], ids=["default", "ignoring"])
def test_signal_dispositions(supervise: Any, prefix: list[str]) -> None:
    """Signals are blocked and ignored in the server as they would be without us."""
    alone = subprocess.run([*prefix, *SIGNALS], check=True, stdout=subprocess.PIPE).stdout
    assert supervise(*SIGNALS, prefix=prefix).results()[0] == alone


def test_ignored_children(supervise: Any) -> None:
    """A supervisor that was started with SIGCHLD ignored still sees how the server ended."""
    prefix = [
        sys.executable,
        "-c",
        "import os, signal, sys; signal.signal(17, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
    ]
    assert supervise("sh", "-c", "exit 5", prefix=prefix).end() == 5


def test_environment(supervise: Any) -> None:
    """The server's environment is ours and what the plan adds."""
    run = supervise("env", "-0", env={"KEPT": "\udcff"})
    expected = {**os.environ, "KEPT": "\udcff", "ALARM_MW_SOCKET": str(run.socket), "ALARM_MW_TEST_RUN": run.mark}
    seen = dict(os.fsdecode(entry).split("=", 1) for entry in run.results()[0].split(b"\0") if entry)
    assert {name: value for name, value in seen.items() if expected.get(name) != value} == {}
    assert {name for name in expected if name not in seen} == set()


def test_arguments(supervise: Any) -> None:
    """Arguments of any bytes reach the server."""
    assert supervise("printf", "%s|", "", "--", "\udcff\n", "ä").results()[0] == b"|--|\xff\n|\xc3\xa4|"


def test_socket_activation(supervise_python: Any) -> None:
    """What systemd addressed to the supervisor's process is addressed to the server's."""
    program = "import os; print(os.environ['LISTEN_PID'] == str(os.getpid()), os.environ['WATCHDOG_PID'])"
    prefix = ["sh", "-c", 'LISTEN_PID=$$ WATCHDOG_PID=1 exec "$@"', "sh"]
    assert supervise_python(program, prefix=prefix).output.next() == "True 1"


def test_process_group(supervise_python: Any) -> None:
    """The server is in the process group and the session that it would be in without us."""
    run = supervise_python("import os; print(os.getpgrp(), os.getsid(0))", start_new_session=True)
    assert run.output.next() == f"{run.process.pid} {run.process.pid}"


def test_without_package_and_threads(supervise: Any) -> None:
    """The supervisor is lean: below 15 MB, one thread, and nothing loaded from an environment's packages."""
    run = supervise("sh", "-c", "read line")
    run.heard.until("heard server")
    facts = dict(line.split(":", 1) for line in Path(f"/proc/{run.process.pid}/status").read_text().splitlines())
    assert int(facts["VmRSS"].split()[0]) < 15 * 1024
    assert int(facts["Threads"]) == 1
    assert "site-packages" not in Path(f"/proc/{run.process.pid}/maps").read_text()
    run.say("\n")
    assert run.end() == 0


def test_command_line(supervise: Any) -> None:
    """`ps` shows what the supervisor runs, and tells it from a master."""
    run = supervise("sh", "-c", "read line")
    run.heard.until("heard server")
    command_line = Path(f"/proc/{run.process.pid}/cmdline").read_bytes()
    assert command_line.endswith(b"--\0sh\0-c\0read line\0")
    assert b"master" not in command_line
    run.say("\n")
    assert run.end() == 0


def test_standard_library_only() -> None:
    """Importing the supervisor imports nothing but the standard library, itself and modules like it."""
    program = """
import os, runpy, sys
runpy.run_path(sys.argv[1], run_name="imported")["stand_in_for_package"]()
import alarm_mw.supervisor.start, alarm_mw.supervisor.supervisor
ours = os.path.dirname(sys.argv[1])
standard = os.path.dirname(os.__file__)
files = [getattr(m, "__file__", None) or standard for m in sys.modules.values()]
allowed = (ours + "/", os.path.dirname(ours) + "/system/", standard)
print([f for f in files if not f.startswith(allowed) or "site-packages" in f])
"""
    command = [sys.executable, "-I", "-S", "-c", program, main.__file__]
    assert subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout == b"[]\n"


def test_first_process_of_a_container(supervise: Any) -> None:
    """As process 1 the supervisor reaps, and ends with 128 and the signal's number, for it cannot kill itself."""
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system forbids namespaces")
    run = supervise("sh", "-c", "echo $PPID; kill -TERM $$", prefix=container)
    assert run.results() == (b"1\n", b"")
    assert run.end() == 128 + signal.SIGTERM
