"""``alarm-mw cron`` in a crontab's line: success, failure, overrun, overlap and absence, each seen at a mail server."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import smtp_server
from aiosmtpd.smtp import SMTP, Envelope, Session
from waiting import wait_until


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert envelope.original_content is not None
        message = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
        assert isinstance(message, email.message.EmailMessage)
        self.mails.append((str(message["Subject"]).strip(), str(message.get_content())))
        return "250 OK"


class Crontab:
    """Runs lines as cron does: by a shell, in an environment that is nearly empty."""

    def __init__(self, installation: Any, box: Mailbox) -> None:
        self.box = box
        self.folder: Path = installation.directory
        self._installation = installation
        self._environ = {
            "HOME": str(self.folder),
            "PATH": f"{Path(installation.command).parent}:/usr/bin:/bin",
            "SHELL": "/bin/sh",
            "LOGNAME": "me",
            "XDG_STATE_HOME": str(self.folder / "xdg"),
        }

    def line(self, options: str, job: str, command: str = "cron") -> str:
        return f"alarm-mw {command} --config {self.folder}/alarms.toml {options} {job}"

    def run(self, options: str, job: str) -> subprocess.CompletedProcess[str]:
        return self.shell(self.line(options, job))

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", line],
            env=self._environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, options: str, job: str) -> subprocess.Popen[bytes]:
        line = f"exec {self.line(options, job)}"
        process = subprocess.Popen(["/bin/sh", "-c", line], env=self._environ, cwd=self.folder)
        self._installation.end_later(process)
        return process

    @property
    def state(self) -> Path:
        return self.folder / "xdg/alarm-mw/cron-backup"

    def age(self, seconds: float) -> None:
        """Let the last start be longer ago."""
        file = self.state / "job.json"
        known = json.loads(file.read_text())
        file.write_text(json.dumps({**known, "started": known["started"] - seconds}))

    def subjects(self) -> list[str]:
        """Return the first lines of what has come, without the machine's name."""
        return [subject.replace("ERROR ", "").partition("cron backup: ")[2] for subject, _ in self.box.mails]


@pytest.fixture
def crontab(installation: Any) -> Iterator[Crontab]:
    box = Mailbox()
    with smtp_server.serving(lambda: SMTP(box, hostname="mx")) as port:
        (installation.directory / "alarms.toml").write_text(
            f"alarm_freq = 0\n[alarms.mail]\naction = 'curl'\nurl = 'smtp://127.0.0.1:{port}'\n"
            "mail_to = ['me@example.org']\n"
        )
        yield Crontab(installation, box)


def test_a_failure_and_its_end_are_mailed(crontab: Crontab) -> None:
    """With the exit status and the end of the output; a second failure says nothing new, and success ends it."""
    failing = "backup -- sh -c 'echo first; echo disk full >&2; exit 3'"
    for _ in range(2):
        done = crontab.run("--tail 1", failing)
        assert (done.returncode, done.stdout, done.stderr) == (3, "first\n", "disk full\n")
    ((subject, text),) = crontab.box.mails
    assert "cron backup: failed with exit status 3 after " in subject
    assert "disk full" in text
    assert "first" not in text
    assert crontab.run("", "backup -- true").returncode == 0
    assert len(crontab.box.mails) == 2
    assert crontab.box.mails[1][0].startswith("[RESOLVED]")
    assert crontab.run("", "backup -- true").returncode == 0
    assert len(crontab.box.mails) == 2


def test_a_success_is_mailed_where_that_is_wanted(crontab: Crontab) -> None:
    """Each of them, with the end of the output."""
    done = crontab.run("--report-success", "backup -- echo 'kept 7 days'")
    assert (done.returncode, done.stdout) == (0, "kept 7 days\n")
    ((subject, text),) = crontab.box.mails
    assert "cron backup: succeeded after " in subject
    assert "kept 7 days" in text


def test_an_overrun_is_mailed_while_the_job_runs(crontab: Crontab) -> None:
    """And that it is over, when the job has succeeded."""
    process = crontab.start("--max-time 0.5s", "backup -- sh -c 'until test -e stop; do sleep 0.1; done'")
    wait_until(crontab.subjects)
    assert process.poll() is None
    assert crontab.subjects() == ["is still running after 500 ms, which is its limit"]
    (crontab.folder / "stop").touch()
    assert process.wait(60) == 0
    assert len(crontab.box.mails) == 2
    assert crontab.box.mails[1][0].startswith("[RESOLVED]")
    assert re.fullmatch(r"ended after [\d.]+ m?s \(limit 500 ms\)", crontab.subjects()[1])


@pytest.mark.parametrize(("overlap", "status"), [("run", 0), ("skip", 75)])
def test_overlapping_runs_are_mailed(crontab: Crontab, overlap: str, status: int) -> None:
    """The second one runs all the same, or is skipped."""
    first = crontab.start("", "backup -- sh -c 'touch begun; until test -e stop; do sleep 0.1; done'")
    wait_until((crontab.folder / "begun").exists)
    done = crontab.run(f"--overlap {overlap}", "backup -- touch second")
    assert done.returncode == status
    assert (crontab.folder / "second").exists() == (status == 0)
    assert "has not ended, and " in crontab.subjects()[0]
    (crontab.folder / "stop").touch()
    assert first.wait(60) == 0
    assert crontab.box.mails[-1][0].startswith("[RESOLVED]")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--every 1d --grace 1h", "(every 1 d, grace 1 h)"),
        ("--schedule '0 3 * * *' --timezone Europe/Berlin --grace 1h", "(schedule 0 3 * * *, grace 1 h)"),
    ],
)
def test_a_start_that_does_not_come_is_mailed_once(crontab: Crontab, options: str, expected: str) -> None:
    """By `alarm-mw deliver` in the crontab; the next success says that it is over."""
    assert crontab.run(options, "backup -- true").returncode == 0
    crontab.shell("alarm-mw deliver")
    assert crontab.box.mails == []
    crontab.age(3 * 86_400)
    for _ in range(2):
        assert crontab.shell("alarm-mw deliver").returncode == 0
    (subject,) = crontab.subjects()
    assert subject.startswith("has not run: it was expected at ")
    assert expected in subject
    assert crontab.run(options, "backup -- true").returncode == 0
    assert len(crontab.box.mails) == 2
    assert crontab.box.mails[1][0].startswith("[RESOLVED]")


def test_another_job_notices_a_start_that_does_not_come(crontab: Crontab) -> None:
    """Nothing but two lines of a crontab is needed."""
    crontab.run("--every 1h", "backup -- true")
    crontab.age(86_400)
    crontab.run("", "other -- true")
    assert crontab.subjects()[0].startswith("has not run")


def test_a_job_that_was_killed_with_its_watcher_is_mailed(crontab: Crontab) -> None:
    """At the next start, that the one before has left no end; it is over with the next success."""
    process = crontab.start("", "backup -- sh -c 'touch begun; exec sleep 1000'")
    wait_until((crontab.folder / "begun").exists)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, int(child)):
        os.kill(pid, signal.SIGKILL)
    process.wait(60)
    assert crontab.run("", "backup -- true").returncode == 0
    first, second = crontab.box.mails
    assert "did not end by itself: it was killed, or the machine was off" in first[0] + first[1]
    assert second[0].startswith("[RESOLVED]")


def test_a_job_that_cannot_be_started_is_a_failure(crontab: Crontab) -> None:
    """The exit status is a shell's, and the message says what is missing."""
    assert crontab.run("", "backup -- no-such-program").returncode == 127
    assert "no-such-program: No such file or directory" in crontab.box.mails[0][1]


def test_signals_reach_the_job(crontab: Crontab) -> None:
    """It ends by them, and that is a failure."""
    process = crontab.start("", "backup -- sh -c 'touch begun; exec sleep 1000'")
    wait_until((crontab.folder / "begun").exists)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert crontab.subjects()[0].startswith("was killed by signal 15")


@pytest.mark.parametrize(
    ("options", "job", "said"),
    [
        ("", "a/b -- true", "expected letters, digits"),
        ("--schedule 'every day'", "backup -- true", "--schedule: expected five fields as in the crontab"),
        ("--schedule '0 3 * * *' --every 1d", "backup -- true", "both --schedule and --every"),
        ("--timezone Mars/Base", "backup -- true", "unknown time zone 'Mars/Base'"),
        ("--alarms nobody", "backup -- true", "--alarms: unknown alarm 'nobody'"),
    ],
)
def test_mistakes_are_named(crontab: Crontab, options: str, job: str, said: str) -> None:
    """Before anything is started."""
    done = crontab.run(options, job)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_master_notices_a_start_that_does_not_come(crontab: Crontab, installation: Any) -> None:
    """A server of the same user looks for it, too."""
    crontab.run("--every 1h", "backup -- true")
    crontab.age(86_400)
    process = installation.start(("--config", "alarms.toml"), "sleep", "1000")
    wait_until(crontab.subjects)
    process.terminate()
    process.wait(60)
    assert crontab.subjects()[0].startswith("has not run")
