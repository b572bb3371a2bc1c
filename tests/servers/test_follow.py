"""``alarm-mw follow``, whole: added lines become alarms, each once, whatever is killed and rotated."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from waiting import wait_until

CONFIG = """
alarm_freq = 0
[alarms.a]
action = "cmd"
command = "cat >> out.txt"
[[rules]]
pattern = "ERROR"
alarms = ["a"]
"""


def start(installation: Any, *logs: str, **keywords: Any) -> subprocess.Popen[bytes]:
    """Start to follow logs, and wait until they are followed."""
    (installation.directory / "logs.toml").write_text(CONFIG)
    process: subprocess.Popen[bytes] = installation.start_verb("follow", ("--config", "logs.toml"), *logs, **keywords)
    wait_until(lambda: (followed(installation) or {}).get("files") is not None)
    return process


def followed(installation: Any) -> dict[str, Any] | None:
    found: dict[str, Any] | None = installation.status().get("followed")
    return found


def alarms(directory: Path) -> list[str]:
    file = directory / "out.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_for(installation: Any, lines: list[str]) -> None:
    """Wait until each of these has been delivered, and nothing else."""
    wait_until(lambda: set(lines) <= set(alarms(installation.directory)))
    assert set(lines) == set(alarms(installation.directory))


def append(file: Path, text: str) -> None:
    with file.open("a") as log:
        log.write(text)


def test_each_line_fires_once_over_kills_and_rotations(installation: Any) -> None:
    """The master is killed and the log rotated again and again; then all of it is stopped and started again."""
    log = installation.directory / "app.log"
    log.write_text("ERROR old\n")
    process = start(installation, "app.log")
    wanted = []
    for n in range(8):
        wanted += [f"ERROR {n} early", f"ERROR {n} late"]
        append(log, f"fine\nERROR {n} early\n")
        master = installation.status().get("pid")
        if n % 2 and master:
            os.kill(master, signal.SIGKILL)
        log.rename(installation.directory / f"app.log.{n}")
        append(installation.directory / f"app.log.{n}", f"ERROR {n} late\n")
        wait_for(installation, wanted)
    process.terminate()
    assert process.wait(60) == 0
    append(log, "ERROR meanwhile\n")
    wanted.append("ERROR meanwhile")
    process = start(installation, "app.log")
    wait_for(installation, wanted)
    answer = installation.status()
    process.terminate()
    assert process.wait(60) == 0
    assert answer["imbalances"] == []
    # What a killed master was delivering may come again; it is not fired again.
    assert answer["alarms"]["a"]["fired"] == len(wanted)
    assert (answer["sources"]["file"]["lines"], answer["sources"]["file"]["matched"]) == (25, 17)


def test_the_standard_input_is_passed_on(installation: Any) -> None:
    """As in a pipe between two programs; the end of the input is the end."""
    (installation.directory / "logs.toml").write_text(CONFIG)
    process = installation.start_verb(
        "follow", ("--config", "logs.toml"), "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = process.communicate(b"fine\nERROR 1\n", 60)
    assert (process.returncode, output) == (0, b"fine\nERROR 1\n")
    assert alarms(installation.directory) == ["ERROR 1"]


def test_logs_are_followed_beside_a_server(installation: Any) -> None:
    """Under ``alarm-mw run``, and a reload follows others; the server's own output file is not followed."""
    directory = installation.directory
    config = CONFIG + f'[[follow]]\npath = "{directory}/*.log"\n'
    (directory / "alarm-mw.toml").write_text(config)
    with (directory / "server.log").open("wb") as output:
        process = installation.start(
            ("--config", "alarm-mw.toml"), "sh", "-c", "echo ERROR own; exec sleep 100", stdout=output
        )
        wait_until(lambda: (followed(installation) or {}).get("files"))
        append(directory / "other.log", "ERROR other\n")
        wait_until(lambda: sorted(alarms(directory)) == ["ERROR other", "ERROR own"])
        (directory / "alarm-mw.toml").write_text(config.replace("*.log", "*.txt2"))
        assert installation.start_verb("reload", ()).wait(60) == 0
        append(directory / "other.txt2", "ERROR reloaded\n")
        wait_until(lambda: len(alarms(directory)) == 3)
        process.terminate()
        process.wait(60)
    assert sorted(alarms(directory)) == ["ERROR other", "ERROR own", "ERROR reloaded"]


def test_without_a_log_it_says_so(installation: Any) -> None:
    """The exit status is that of a mistake on the command line."""
    (installation.directory / "logs.toml").write_text(CONFIG)
    process = installation.start_verb("follow", ("--config", "logs.toml"), stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == b"alarm-mw: no log to follow: name one, or configure [[follow]]\n"


def test_a_wrong_name_is_a_mistake(installation: Any) -> None:
    """As with ``alarm-mw run``."""
    process = installation.start_verb("follow", ("--name", "a/b"), "x.log", stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith(b"alarm-mw: --name: expected letters")


def test_rules_may_require_a_path(installation: Any) -> None:
    """A rule with a condition on the path fires for lines of such files alone, with a regexp or without."""
    directory = installation.directory
    (directory / "logs.toml").write_text(
        CONFIG + f"where = {{ path = '~^{directory}/nginx' }}\n"
        f"[[rules]]\nalarms = ['a']\nwhere = {{ path = '{directory}/all.log' }}\n"
    )
    process: subprocess.Popen[bytes] = installation.start_verb("follow", ("--config", "logs.toml"), "*.log")
    wait_until(lambda: (followed(installation) or {}).get("files") is not None)
    for name in ("nginx.log", "other.log", "all.log"):
        append(directory / name, f"fine {name}\nERROR {name}\n")
    wait_for(installation, ["ERROR nginx.log", "fine all.log", "ERROR all.log"])
    wait_until(lambda: installation.status()["sources"].get("file", {}).get("lines") == 6)
    assert installation.status()["alarms"]["a"]["matched"] == 3
    process.terminate()
    assert process.wait(60) == 0


def test_a_directory_is_refused(installation: Any) -> None:
    """Nothing in it would be followed; the message shows the pattern that means its files."""
    (installation.directory / "logs.toml").write_text(CONFIG)
    (installation.directory / "logs").mkdir()
    process = installation.start_verb("follow", ("--config", "logs.toml"), "logs", stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    place = installation.directory / "logs"
    assert said.decode() == f'alarm-mw: follow: {place} is a directory; name its files: "{place}/*.log"\n'


def test_files_that_are_not_there_are_named(installation: Any) -> None:
    """They may come, so it is one warning; the end of the input ends the command all the same."""
    (installation.directory / "logs.toml").write_text(CONFIG)
    (installation.directory / "here.log").touch()
    files = ("here.log", "gone.log", "none/*.log", "-")
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = installation.start_verb("follow", ("--config", "logs.toml"), *files, **pipes)
    _, said = process.communicate(b"", timeout=60)
    place = installation.directory
    assert process.returncode == 0
    warning = "alarm-mw: follow: warning: no such file yet, it is followed once it appears:"
    [line] = [line for line in said.decode().splitlines() if line.startswith("alarm-mw: follow:")]
    assert line == f"{warning} {place}/gone.log, {place}/none/*.log"
