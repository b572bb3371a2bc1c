"""One exception of a Flask application, told by print, logging and middleware, in six receivers side by side."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alertmanager_server
import httpx
import pytest
import receivers
import smtp_server
from aiosmtpd.smtp import SMTP, Envelope, Session
from waiting import LIMIT, wait_until

#: What the application prints, what it logs, and what reaches the server.
KINDS = ("printed", "logged", "raised")

APP = """
import logging
import traceback

import alarm_mw
from alarm_mw.wsgi import AlarmMiddleware
from flask import Flask
from werkzeug.test import Client

flask = Flask(__name__)
flask.config["PROPAGATE_EXCEPTIONS"] = True
log = logging.getLogger("shop.pay")
log.addHandler(alarm_mw.AlarmHandler())


def charge(kind):
    raise LookupError(f"{kind}: card declined <!channel> @everyone")


@flask.route("/pay/<kind>")
def pay(kind):
    try:
        charge(kind)
    except LookupError as error:
        if kind == "printed":
            print("PAYMENT", error, flush=True)
        elif kind == "logged":
            log.exception("PAYMENT %s", error, extra={"order": "4211"})
        else:
            raise
    return "ok"


client = Client(AlarmMiddleware(flask.wsgi_app))
for kind in ("printed", "logged", "raised"):
    try:
        client.get(f"/pay/{kind}")
    except LookupError:
        pass
"""

CHATS = ("slack", "teams", "discord", "pagerduty")


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert envelope.original_content is not None
        self.mails.append(envelope.original_content)
        return "250 OK"


def config(services: str, alertmanager: str, smtp: int) -> str:
    alarms = {name: f"url = '{services}/{name}'\nformat = '{name}'\n" for name in CHATS}
    alarms["pagerduty"] += f"key = '{'0' * 32}'\n"
    alarms["prometheus"] = f"url = '{alertmanager}/api/v2/alerts'\nformat = 'alertmanager'\n"
    alarms["mail"] = f"url = 'smtp://127.0.0.1:{smtp}'\nmail_to = ['me@example.org']\n"
    # What is logged and what is raised has the same traceback, so that people would be told of it once.
    every = "action = 'curl'\nlimits = { repeat_after = 0 }\n"
    tables = "".join(f"[alarms.{name}]\n{every}{options}" for name, options in alarms.items())
    rule = f"alarms = {[*alarms]}\nlabels = {{ severity = 'critical' }}\n"
    return (
        f"alarm_freq = 0\nname = 'shop'\n{tables}"
        f"[[rules]]\nname = 'payments'\npattern = '^PAYMENT'\n{rule}"
        f"[[rules]]\nname = 'exceptions'\nrequest = {{ exception = true }}\n{rule}"
    )


@contextmanager
def all_receivers(folder: Path) -> Iterator[tuple[receivers.Services, str, int, Mailbox]]:
    """Run chat services, an Alertmanager and an SMTP server: give the services, URL, port, and the server's mails."""
    (folder / "alertmanager").mkdir()
    box = Mailbox()
    with (
        receivers.serving() as services,
        alertmanager_server.serving(folder / "alertmanager") as alertmanager,
        smtp_server.serving(lambda: SMTP(box, hostname="mx")) as smtp,
    ):
        yield services, alertmanager, smtp, box


@pytest.fixture
def told(installation: Any, tmp_path: Path) -> Iterator[dict[str, list[str]]]:
    """Run the application once, and provide what each receiver got, as text."""
    with all_receivers(tmp_path) as (services, alertmanager, smtp, box):
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "alarms.toml").write_text(config(services.url, alertmanager, smtp))
        done = installation.run(["--config", "alarms.toml"], sys.executable, "app.py")
        assert done.returncode == 0, done.stderr.decode()
        wait_until(lambda: all(len(services.taken[name]) == len(KINDS) for name in CHATS))
        alerts = httpx.get(f"{alertmanager}/api/v2/alerts", timeout=5).json()
        yield {
            **{name: [json.dumps(body, ensure_ascii=False) for _, body in services.taken[name]] for name in CHATS},
            "prometheus": [json.dumps(alert, ensure_ascii=False) for alert in alerts],
            "mail": [_shown(mail) for mail in box.mails],
        }


def _shown(mail: bytes) -> str:
    message = email.message_from_bytes(mail, policy=email.policy.default)
    return f"{message['Subject']}\n{message.get_content()}"


def test_six_receivers_are_told_of_the_same_exception(told: dict[str, list[str]]) -> None:
    """Each takes all three, with application, rule, what happened, and the traceback of what was logged and raised."""
    assert sorted(told) == sorted([*CHATS, "prometheus", "mail"])
    for receiver, messages in told.items():
        text = "\n".join(messages).replace("\\\\", "")
        assert [kind for kind in KINDS if f"{kind}: card declined" not in text] == [], receiver
        assert "CRITICAL shop@" in text, receiver
        assert "payments" in text, receiver
        assert "in charge" in text, receiver
    assert len(told["mail"]) == len(KINDS)


LIFE = """
import sys

for line in ("PAYMENT processor unreachable", "PAYMENT processor unreachable", "processor is back"):
    print(line, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def lived(installation: Any, tmp_path: Path) -> Iterator[dict[str, list[Any]]]:
    """Run a program whose incident begins and ends, and provide what each receiver got."""
    with all_receivers(tmp_path) as (services, alertmanager, smtp, box):
        (tmp_path / "life.py").write_text(LIFE)
        rule = "[[rules]]\nname = 'payments'\npattern = '^PAYMENT'"
        text = config(services.url, alertmanager, smtp).replace(rule, f"{rule}\nresolve = 'is back'", 1)
        (tmp_path / "alarms.toml").write_text(text)
        process = installation.start(["--config", "alarms.toml"], sys.executable, "life.py", stdin=subprocess.PIPE)

        def step(n: int) -> None:
            process.stdin.write(b"\n")
            process.stdin.flush()
            wait_until(lambda: all(len(services.taken[name]) == n for name in CHATS) and len(box.mails) == n)

        wait_until(lambda: len(box.mails) == 1)
        wait_until(lambda: _active(alertmanager) == ["payments"])
        step(1)
        step(2)
        wait_until(lambda: _active(alertmanager) == [])
        process.stdin.close()
        process.wait(LIMIT)
        mails = [email.message_from_bytes(mail, policy=email.policy.default) for mail in box.mails]
        yield {**{name: [body for _, body in services.taken[name]] for name in CHATS}, "mail": mails}


def _active(alertmanager: str) -> list[str]:
    return [alert["labels"]["alertname"] for alert in httpx.get(f"{alertmanager}/api/v2/alerts", timeout=5).json()]


def test_each_receiver_is_told_of_the_end(lived: dict[str, list[Any]]) -> None:
    """An incident is one message at its beginning and one at its end, in the form that each receiver wants."""
    begun, ended = lived["mail"]
    assert begun["Subject"].startswith("CRITICAL shop@")
    assert ended["Subject"].startswith("[RESOLVED] shop@")
    assert begun["References"] == ended["References"]
    assert begun["Message-ID"] != ended["Message-ID"]
    assert 'ended by "processor is back"' in ended.get_content()
    triggered, resolved = lived["pagerduty"]
    assert (triggered["event_action"], resolved["event_action"]) == ("trigger", "resolve")
    assert triggered["dedup_key"] == resolved["dedup_key"]
    for name, text in (("slack", "RESOLVED shop@"), ("teams", "RESOLVED shop@"), ("discord", "RESOLVED shop@")):
        assert text in json.dumps(lived[name][1]), name
    assert [body["attachments"][0]["color"] for body in lived["slack"]] == ["#c62828", "#2e9e4f"]
