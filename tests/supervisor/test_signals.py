"""Signals reach the server, each once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from alarm_mw.supervisor.signals import is_sent_to_us_alone
from alarm_mw.system.linux import Arrived

SI_USER, SI_QUEUE, SI_TKILL, SI_KERNEL = 0, -1, -6, 0x80

# Writes the number of each signal that arrives; ends at SIGTERM.
REPORTER = """
import os, signal, sys
caught = [n for n in signal.valid_signals() if n not in (9, 15, 17, 19)]
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
for number in caught:
    signal.signal(number, lambda number, frame: None)
print("up", os.getppid())
while True:
    for number in os.read(reading, 1):
        print(number)
"""


def waiting_for_the_end(status: str) -> str:
    """Return a server that exits at SIGTERM. It waits with the signal blocked: none comes between two instructions."""
    return (
        "import signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {15})\n"
        "print('up')\n"
        f"signal.sigwait({{15}}) and sys.exit({status})"
    )


@pytest.mark.parametrize("code", [SI_USER, SI_QUEUE, SI_TKILL])
def test_sent_by_process(code: int) -> None:
    """What a process sent, it sent to us alone."""
    assert is_sent_to_us_alone(Arrived(signal.SIGTERM, code), leads_session=False)


def test_sent_by_terminal() -> None:
    """What a terminal sends reaches the whole job; only of its hang-up the leader of the session must tell."""
    assert not is_sent_to_us_alone(Arrived(signal.SIGINT, SI_KERNEL), leads_session=True)
    assert not is_sent_to_us_alone(Arrived(signal.SIGHUP, SI_KERNEL), leads_session=False)
    assert is_sent_to_us_alone(Arrived(signal.SIGHUP, SI_KERNEL), leads_session=True)


FORWARDED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGCONT,
    signal.SIGTTIN,
    signal.SIGRTMIN,
    signal.SIGRTMAX,
]


def test_forwarding(supervise_python: Any) -> None:
    """Every signal that is sent to the supervisor reaches the server, once."""
    # In a process group of its own, whose parent is of the same session: a group without one is never stopped.
    run = supervise_python(REPORTER, process_group=0)
    run.output.until("up")
    for number in FORWARDED:
        run.send(number)
        assert run.output.next() == str(int(number))
        if number == signal.SIGTTIN:  # it stops the job, too
            assert os.waitid(os.P_PID, run.process.pid, os.WSTOPPED | os.WNOWAIT)
            run.send(signal.SIGCONT)
            assert run.output.next() == str(int(signal.SIGCONT))
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def test_reload_is_not_an_end(supervise_python: Any) -> None:
    """A server that handles SIGTERM decides itself when it ends, and with which status."""
    run = supervise_python(waiting_for_the_end("9"))
    run.output.until("up")
    run.send(signal.SIGTERM)
    assert run.end() == 9


def test_supervisor_killed(supervise_python: Any) -> None:
    """Killing the supervisor ends the server as SIGTERM would; its last output arrives, and nothing is left behind."""
    run = supervise_python(waiting_for_the_end("'last words'"))
    run.output.until("up")
    run.heard.until("heard server")
    run.send(signal.SIGKILL)
    assert run.results() == (b"", b"last words\n")
    run.heard.until("heard nothing more")
    run.wait_until_all_are_gone()


def test_heirs(supervise_python: Any) -> None:
    """A process that has taken the server's place, its child, is waited for and gets the signals."""
    run = supervise_python("""
import os, signal, sys
if os.fork():
    sys.exit(7)
signal.pthread_sigmask(signal.SIG_BLOCK, {10, 15})
print("heir", os.getpid(), file=sys.stderr)
while signal.sigwait({10, 15}) == 10:
    print("heir hears")
sys.exit("heir ends")
""")
    errors = run.errors()
    heir = errors.until("heir").split()[1]
    run.heard.until("heard exited 7")
    run.heard.until(f"heard server {heir}")
    run.send(signal.SIGUSR1)
    assert run.output.next() == "heir hears"
    run.send(signal.SIGTERM)
    errors.until("heir ends")
    assert run.end() == 7


#: Starts a shell in a shell, of which the inner one prints "ready" and then waits for a command; both go on after it.
SHELLS = ("sh", "-c", "sh -c 'echo ready; sleep 600; echo inner'; echo outer")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_shell_leaves(supervise: Any, number: signal.Signals) -> None:
    """A signal that ends a shell ends the commands that it leaves behind as well, and what these leave."""
    run = supervise(*SHELLS)
    run.output.until("ready")
    run.send(number)
    assert run.end() == -number
    assert run.results() == (b"", b"")


def test_what_a_shell_leaves_in_a_terminal(supervise_in_terminal: Terminal) -> None:
    """That is so where the output is a terminal, too."""
    run = supervise_in_terminal(f"import os; os.execvp('sh', {SHELLS!r})")
    run.output.until("ready")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


#: A server that leaves a child behind when it ends: by the signal, or with a status if that is in its arguments. The
#: child tells how many signals it gets until the one that it waits for.
LEAVING = """
import os, signal, sys
if not os.fork():
    signal.pthread_sigmask(signal.SIG_BLOCK, {10, 12, 15})
    while signal.sigwait({10, 12, 15}) != 12:
        print("left hears")
    sys.exit()
signal.pthread_sigmask(signal.SIG_BLOCK, {15})
print("up")
signal.sigwait({15})
if "status" not in sys.argv:
    signal.signal(15, signal.SIG_DFL)
    signal.raise_signal(15)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {15})
"""


def test_what_is_left_is_waited_for(supervise: Any) -> None:
    """What is left gets the signal once, and may take its time; a second one that is sent reaches it, too."""
    run = supervise(sys.executable, "-u", "-c", LEAVING)
    run.output.until("up")
    run.send(signal.SIGTERM)
    run.output.until("left hears")
    run.heard.until("heard exited -15")
    run.send(signal.SIGTERM)
    run.output.until("left hears")
    run.send(signal.SIGUSR2)
    assert run.end() == -signal.SIGTERM
    assert run.results() == (b"", b"")


def test_what_follows_a_server_that_has_ended_itself(supervise: Any) -> None:
    """A server that ends with a status at a signal leaves its place to a process that must not end by the same one."""
    run = supervise(sys.executable, "-u", "-c", LEAVING, "status")
    run.output.until("up")
    run.send(signal.SIGTERM)
    run.heard.until("heard exited 0")
    run.heard.until("heard server")
    run.send(signal.SIGUSR1)
    run.output.until("left hears")
    run.send(signal.SIGUSR2)
    assert run.end() == 0
    assert run.results() == (b"", b""), "it got the first signal as well"


def test_a_daemon_is_left_alone(supervise_python: Any, tmp_path: Path) -> None:
    """A process that has let go of the output does not get the signal that ends the server."""
    file = tmp_path / "alive"
    run = supervise_python(f"""
import os, pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {{12}})
reading, writing = os.pipe()
daemon = os.fork()
if not daemon:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1), os.dup2(null, 2)
    os.write(writing, b"x")
    signal.sigwait({{12}})
    pathlib.Path({str(file)!r}).touch()
    os._exit(0)
os.read(reading, 1)
print("daemon", daemon)
signal.pause()
""")
    daemon = int(run.output.until("daemon").split()[1])
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM
    os.kill(daemon, signal.SIGUSR2)
    wait_until(file.exists)


def test_orphans(supervise_python: Any) -> None:
    """A process that the server's children leave behind is reaped."""
    run = supervise_python("""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {28})
reading, writing = os.pipe()
if not os.fork():
    orphan = os.fork()
    if orphan:
        os.write(writing, b"%d" % orphan)
    os._exit(0)
os.wait()
orphan = int(os.read(reading, 10))
print("up")
while signal.sigwait({28}):
    print("gone" if not os.path.exists(f"/proc/{orphan}") else "there")
""")
    run.output.until("up")
    for _round_trip in range(1000):
        run.send(signal.SIGWINCH)
        if run.output.next() == "gone":
            break
    else:
        pytest.fail("the orphan is still there")
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


Terminal = Callable[..., Any]


def test_interrupt_from_terminal(supervise_in_terminal: Terminal) -> None:
    """A terminal's ^C reaches the server once."""
    run = supervise_in_terminal(REPORTER)
    run.output.until("up")
    os.write(run.keyboard, b"\x03")
    assert run.output.next() == str(int(signal.SIGINT))
    run.send(signal.SIGUSR1)
    assert run.output.next() == str(int(signal.SIGUSR1)), "the interrupt was delivered twice"
    run.send(signal.SIGTERM)
    assert run.end() == -signal.SIGTERM


def test_job_control(supervise_in_terminal: Terminal) -> None:
    """A shell sees the job stop at ^Z and go on with fg."""
    script = '"$@"; echo stopped=$?; fg; echo ended=$?'
    run = supervise_in_terminal(REPORTER.replace("17, 19", "17, 19, 20"), prefix=["bash", "-mc", script, "bash"])
    supervisor = int(run.output.until("up").split()[1])
    os.write(run.keyboard, b"\x1a")
    assert run.output.until("stopped=") == f"stopped={128 + signal.SIGTSTP}"
    run.output.until(str(int(signal.SIGCONT)))
    os.write(run.keyboard, b"\x03")
    run.output.until(str(int(signal.SIGINT)))
    os.kill(supervisor, signal.SIGTERM)
    assert run.output.until("ended=") == f"ended={128 + signal.SIGTERM}"
    assert run.end() == 0
