"""A page of a real runtime, and browsers that know nothing but HTTP."""

from __future__ import annotations

import functools
import re
import threading
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from web_configuration import ALARMS, DISK, PAYMENTS, TOKENS, configuration

from alarm_mw.config.load import read
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import Sources
from alarm_mw.master.control.prometheus import exposition
from alarm_mw.master.control.status import InForce, figures, status
from alarm_mw.master.control.web_master import web_master
from alarm_mw.master.runtime.runtime import Runtime
from alarm_mw.master.worker.batch import Batch, Item
from alarm_mw.transports.records import RecordMaker
from alarm_mw.web.app import make_app
from alarm_mw.web.security.passwords import hash_password
from alarm_mw.web.site import Site
from alarm_mw.web.store import Session, Store

PEOPLE = """
[[web.users]]
name = "kim"
password = "{password}"
[web.proxy]
addresses = ["10.0.0.0/8"]
act = ["sam"]
"""

PLAIN = """
[[rules]]
pattern = "TERRIBLE"
alarms = ["mail"]
"""

#: Keys of ``[web]`` for browsers that know nothing but HTTP.
HOSTS = 'base_url = "http://alarms.example.org"\nallowed_hosts = ["testserver"]'

CONFIGURATION = configuration(PEOPLE, TOKENS, ALARMS, PAYMENTS, DISK, PLAIN, more=HOSTS, name="shop")

PASSWORD = "correct horse"


@functools.cache
def hashed() -> str:
    return hash_password(PASSWORD)


class Page:
    """A site that shows a running master, in this process."""

    def __init__(self, folder: Path, configuration: str) -> None:
        file = folder / "alarm-mw.toml"
        file.write_text(configuration)
        _, loaded = read(Sources.of_files([str(file)]), {}, 0.0)
        self.settings: Settings = loaded.settings
        self.runtime = Runtime(self.settings, outbox=folder / "outbox.db", write_log=lambda _: None, name="shop")
        self.runtime.start()
        self._records = RecordMaker()
        self.store = Store(folder / "web.db")
        in_force: InForce = {"generation": 0, "read_at": 0.0, "files": {str(file): True}, "refused": []}
        state = functools.partial(status, self.runtime, str(folder), None, in_force, ())
        metrics = lambda: exposition(figures(self.runtime, loaded, ()))  # noqa: E731
        self.master = web_master(self.runtime, folder, state, lambda: self.settings, metrics)
        self.site = Site.of(self.master, self.settings.web, self.store)
        self.app = make_app(self.site)

    def line(self, *texts: str | bytes) -> None:
        """Have the rules judge printed lines, and wait until that is done."""
        done = threading.Event()
        lines = [text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape") for text in texts]
        items = [Item(self._records.make(line + b"\n", source="stdout")) for line in lines]
        self.runtime.worker.submit(Batch(items, done=done.set))
        assert done.wait(10)

    def record(self, text: str, **facts: Any) -> None:
        """Have the rules judge a log record, and wait until that is done."""
        done = threading.Event()
        item = Item(self._records.make(text.encode(), source="logging", **facts))
        self.runtime.worker.submit(Batch([item], done=done.set))
        assert done.wait(10)

    def client(self, **options: Any) -> TestClient:
        """Return a browser that nobody has logged in with."""
        return TestClient(self.app, base_url="http://testserver", follow_redirects=False, **options)

    def logged_in(self, role: str = "act") -> TestClient:
        """Return a browser with a session."""
        client = self.client()
        client.cookies.set(self.site.authenticator.cookie, self.store.begin_session(Session("kay", role)))
        return client

    def csrf(self, client: TestClient) -> str:
        """Return what the forms of a page bring back."""
        found = re.search(r'name="csrf" value="(\w+)"', client.get("/").text)
        assert found is not None
        return found[1]

    def close(self) -> None:
        self.runtime.stop(5.0)
        self.store.close()
