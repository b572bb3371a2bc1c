"""Configurations that are small, and would become large: each is refused, with its place, in little time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: Prints what is wrong, and by how many bytes the memory grew at most.
READ = """
import resource, sys
from alarm_mw.config.load import examine
from alarm_mw.config.sources import Sources
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
examined = examine(Sources.of_files(sys.argv[1:]), {"LONG": "x" * 100_000})
print(peak() - before, *examined.problems, sep="\\n")
"""

#: Seconds of the processor after which the kernel kills what still reads, and KiB that the reading may take.
CPU_LIMIT, MEMORY_LIMIT = 10, 100 * 1024


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))


def _includes(folder: Path) -> str:
    for n in range(12):
        (folder / f"{n}.ini").write_text("[uwsgi]\n" + f"ini = {n + 1}.ini\n" * 10)
    (folder / "12.ini").write_text("[uwsgi]\nalarm = a log:\n")
    return "0.ini"


def _chain(folder: Path) -> str:
    for n in range(900):
        (folder / f"{n}.ini").write_text(f"[uwsgi]\nini = {n + 1}.ini\n")
    return "0.ini"


def _ini(text: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "a.ini").write_text(f"[uwsgi]\n{text}")
        return "a.ini"

    return write


def _toml(text: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "a.toml").write_text(text)
        (folder / "big").write_text("x" * 2**21)
        os.mkfifo(folder / "fifo")
        return "a.toml"

    return write


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo.toml")
    return "fifo.toml"


def _zero(folder: Path) -> str:
    (folder / "zero.toml").symlink_to("/dev/zero")
    return "zero.toml"


TOO_LONG = "the configuration with its includes, loops and references exceeds 8 MiB of text"
TOO_MANY = "the configuration with its includes, loops and references exceeds 50000 keys"
REFERENCES = "a0 = xxxxxxxxxxxxxxxx\n" + "".join(f"a{n + 1} = {f'%(a{n})' * 50}\n" for n in range(8))

BOMBS: dict[str, tuple[Callable[[Path], str], str]] = {
    "includes": (
        _includes,
        "11.ini:3: the configuration with its includes, loops and references exceeds 1000 files",
    ),
    "a chain of includes": (_chain, "49.ini:2: 50.ini is included by 50 files, one inside of the other"),
    "references": (_ini(REFERENCES), f"a.ini:6: a4: {TOO_LONG}"),
    "a sum of values": (_ini(f"a = {'x' * 10_000}\nb = %({'a ' * 2000})"), f"a.ini:3: b: {TOO_LONG}"),
    "loops": (_ini("for-times = 100000\n" + "alarm = a%(_) log:\n" * 1000 + "endfor ="), f"a.ini:3: {TOO_MANY}"),
    "a loop over long texts": (_ini(f"for = {'x' * 10**6}\n" + "a = %(_)%(_)%(_)\n" * 9), f"a.ini:4: {TOO_LONG}"),
    "magic variables": (_ini("%p" * 500_000), f"a.ini: {TOO_LONG}"),
    "variables in ini": (_ini("a = $(LONG)\n" * 1000), f"a.ini:85: a: {TOO_LONG}"),
    "an endless file in ini": (
        _ini("alarm = a log:@(/dev/zero)"),
        "a.ini:2: alarm: @(/dev/zero): it has more than 4 MiB",
    ),
    "a long key": (_toml(f"[{'a.' * 100_000}a]\nb = 1"), "a.toml:1: a key of more than 100 parts"),
    "a long key in a table": (_toml(f"x = 1\nb = {{ {'a.' * 9999}a = 1 }}"), "a.toml:2: a key of more than 100 parts"),
    "deep arrays": (_toml("a = " + "[" * 100_000), "a.toml: tables or arrays are nested too deeply"),
    "variables in TOML": (_toml(f'\na = "{"${LONG}" * 1000}"'), f"a.toml:2: {TOO_LONG}"),
    "files in TOML": (_toml(f'a = "{"${file:big}" * 1000}"'), f"a.toml:1: {TOO_LONG}"),
    "a pipe in TOML": (
        _toml('alarms.a = "${file:fifo}"'),
        "a.toml:1: alarm 'a': ${file:fifo} cannot be read: it has no end within 1 second",
    ),
    "an endless file in TOML": (
        _toml('alarms.a = "${file:/dev/zero}"'),
        "a.toml:1: alarm 'a': ${file:/dev/zero} cannot be read: it has more than 4 MiB",
    ),
    "a pipe": (_fifo, "fifo.toml: cannot be read: it has no end within 1 second"),
    "an endless file": (_zero, "zero.toml: cannot be read: it has more than 4 MiB"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_with_its_place(bomb: str, tmp_path: Path) -> None:
    """It costs a bounded time and less than 100 MiB."""
    write, problem = BOMBS[bomb]
    command = [sys.executable, "-c", READ, write(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=_limit)
    grown, *problems = done.stdout.splitlines() or ["0", f"status {done.returncode}: {done.stderr[-500:]}"]
    assert problem in problems
    assert len(problems) < 5
    assert int(grown) < MEMORY_LIMIT


@pytest.mark.parametrize("verb", [("check", "a.ini"), ("run", "--ini", "a.ini", "--", "true")])
def test_no_verb_is_held_up_by_a_bomb(verb: tuple[str, ...], tmp_path: Path) -> None:
    """`check` and the start of a server say what is wrong, and end."""
    _ini(REFERENCES)(tmp_path)
    command = [sys.executable, "-m", "alarm_mw", *verb]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=_limit)
    assert done.returncode == 2
    assert TOO_LONG in done.stdout + done.stderr


def test_the_output_of_a_command_is_read_to_its_end(tmp_path: Path) -> None:
    """A shell's `<(command)` is a configuration, though it comes a moment later and in parts."""
    script = "exec alarm-mw run --config <(echo 'alarms.a = \"log:\"'; echo 'alarms.b = \"none:\"') -- true"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, check=False)
    assert b":2: alarm 'b': unknown alarm plugin 'none'" in done.stderr
