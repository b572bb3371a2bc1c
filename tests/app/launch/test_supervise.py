"""A program that restarts itself under the supervisor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alarm_mw.app.launch import supervise

CONFIG = """
[alarms.a]
action = "cmd"
command = "cat >> out.txt"

[[rules]]
pattern = "^TERRIBLE ALARM"
alarms = "a"
"""

PROGRAM = """
import os, sys
import alarm_mw

print("before", os.getpid(), flush=True)
alarm_mw.supervise({arguments})
print("TERRIBLE ALARM", *sys.argv[1:], sys.flags.dev_mode, "ALARM_MW_SOCKET" in os.environ, os.getppid())
sys.exit(7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "alarm-mw.toml").write_text(CONFIG)
    return tmp_path


def run(folder: Path, *arguments: str, typed: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ALARM_MW_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, "XDG_STATE_HOME": str(folder / "xdg"), **environ},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_restarts_under_the_supervisor(folder: Path) -> None:
    """With its own arguments and Python's; the pid is now the supervisor's, the exit status the program's."""
    (folder / "server.py").write_text(PROGRAM.format(arguments=""))
    result = run(folder, "-X", "dev", "server.py", "-b", "a b")
    first, second, line = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (7, "")
    pid = first.removeprefix("before ")
    assert second.startswith("before ")
    assert second != first
    assert line == f"TERRIBLE ALARM -b a b True True {pid}"
    assert (folder / "out.txt").read_text() == f"{line}\n"
    assert [state.name.rpartition("-")[0] for state in (folder / "xdg" / "alarm-mw").iterdir()] == ["dev"]


def test_several_files_and_a_place_for_the_state(folder: Path) -> None:
    """What the function is told counts before what is found."""
    (folder / "alarm-mw.toml").rename(folder / "a.toml")
    (folder / "b.ini").write_text("[uwsgi]\nalarm = b cmd:cat >> b.txt\nlog-alarm = b ^TERRIBLE\n")
    (folder / "server.py").write_text(PROGRAM.format(arguments="['a.toml', 'b.ini'], state_dir='here'"))
    assert run(folder, "server.py", ALARM_MW_CONFIG="missing.toml").returncode == 7
    assert (folder / "out.txt").exists()
    assert (folder / "b.txt").exists()
    assert (folder / "here" / "outbox.db").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("'bad.toml'", "bad.toml:1: alarm 'a': unknown alarm plugin 'cdm'"),
        ("'missing.toml'", "missing.toml: cannot be read"),
        ("state_dir='/proc/state'", "the state directory cannot be used: /proc/state"),
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_alarms_that_cannot_be_had(folder: Path, arguments: str, text: str, required: bool) -> None:
    """The program does not run, and status and text are those of `alarm-mw run`; or it runs, and the text says so."""
    (folder / "bad.toml").write_text("alarms.a = 'cdm:x'\n")
    (folder / "server.py").write_text(PROGRAM.format(arguments=f"{arguments}, required={required}"))
    result = run(folder, "server.py")
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert (result.returncode, "TERRIBLE" in result.stdout) == ((2, False) if required else (7, True))
    assert ("runs without alarms" in result.stderr) is not required


def test_no_configuration_is_a_mistake(folder: Path) -> None:
    """A program that asks for alarms and has none of them configured does not run as if it had; it is told where to."""
    (folder / "alarm-mw.toml").unlink()
    (folder / "server.py").write_text(PROGRAM.format(arguments=""))
    result = run(folder, "server.py")
    assert result.returncode == 2
    for word in ("alarm-mw.toml", "uwsgi.ini", "ALARM_MW_CONFIG", str(folder)):
        assert word in result.stderr


@pytest.mark.parametrize("arguments", [(), ("-",), ("-i",)])
def test_a_program_that_cannot_be_read_twice_is_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    """What came through the standard input, or was typed in, is gone after a new start, which would run nothing."""
    (folder / "alarm-mw.toml").unlink()  # that it could not be read either is not what helps
    text = "\n".join(line for line in PROGRAM.format(arguments="").splitlines() if line)
    result = run(folder, *arguments, typed=text)
    assert (result.returncode, "TERRIBLE" in result.stdout) == (2, False)
    assert "put it into a file, or call alarm_mw.init() instead" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_test_run_is_not_restarted(folder: Path) -> None:
    """A main program that is called by a test runs in the test's process, without alarms."""
    (folder / "server.py").write_text("import alarm_mw\n\ndef main():\n    alarm_mw.supervise('missing.toml')\n")
    (folder / "test_server.py").write_text("import server\n\ndef test_main():\n    server.main()\n")
    result = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_server.py")
    assert "1 passed" in result.stdout, result.stderr


CHILDREN = """
import multiprocessing, os, sys
import alarm_mw

def child():
    alarm_mw.supervise()
    print("child", os.getpid(), "ALARM_MW_SOCKET" in os.environ, flush=True)

if __name__ == "__main__":
    if os.fork() == 0:
        child()
        os._exit(0)
    os.wait()
    for method in ("spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
    sys.modules["uwsgi"] = sys
    child()
"""


def test_a_worker_stays_what_it_is(folder: Path) -> None:
    """In forked processes, in those of `multiprocessing` and in uWSGI nothing is restarted."""
    (folder / "server.py").write_text(CHILDREN)
    result = run(folder, "server.py")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[2] for line in lines] == ["False"] * 4
    assert len({line[1] for line in lines}) == 4


def test_another_thread_cannot_start_the_supervisor(folder: Path) -> None:
    """Signals are the main thread's; a program without alarms is told so, and goes on where they are not required."""
    program = (
        "import alarm_mw, threading; threading.Thread(target=alarm_mw.supervise, kwargs={'required': False}).start()"
    )
    result = run(folder, "-c", program)
    assert (result.returncode, result.stderr.splitlines()) == (
        0,
        ["alarm-mw: only the main thread can start the supervisor", "alarm-mw: this server runs without alarms"],
    )


def test_a_process_that_has_a_master_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a supervisor the call does nothing: not even the configuration is looked at."""
    monkeypatch.delitem(sys.modules, "alarm_mw.pytest_plugin")
    monkeypatch.setenv("ALARM_MW_SOCKET", "/somewhere")
    supervise.supervise("missing.toml")


def test_the_module_is_the_command(folder: Path) -> None:
    """``python -m alarm_mw`` does what ``alarm-mw`` does, and finds a configuration where none is given."""
    arguments = ("-m", "alarm_mw", "run", "--", sys.executable, "-c", "print('TERRIBLE ALARM')")
    assert run(folder, *arguments).stdout == "TERRIBLE ALARM\n"
    assert (folder / "out.txt").read_text() == "TERRIBLE ALARM\n"
    help_text: Any = run(folder, "-m", "alarm_mw", "--help").stdout
    assert help_text.startswith("Usage: alarm-mw ")
