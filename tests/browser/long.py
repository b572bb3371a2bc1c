"""What takes minutes: a flood of incidents before an open page, and a page that stays open. Run it by hand.

``PYTHONPATH=tests/services python tests/browser/long.py flood 60`` has 200 incidents a second begin for a minute, and
prints the longest task of the page's thread. ``… open 600`` leaves a page open on a busy server for ten minutes, and
prints how much it has grown.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chromium import Chromium, Visitor
from playwright.sync_api import expect, sync_playwright
from ports import free_port
from web_configuration import ALARMS, configuration
from web_server import Server

RULE = """
[[rules]]
name = "payments"
pattern = 'payment (?P<order>\\S+) failed'
key = ["order"]
resolve_after = "1h"
max_keys = 100000
alarms = ["mail"]
"""

#: Incidents that begin each second of a flood.
RATE = 200

_LONG_TASKS = """
window.longest = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) window.longest.push(Math.round(each.duration));
}).observe({type: "longtask", buffered: true});
"""


@contextmanager
def visiting() -> Iterator[tuple[Server, Visitor]]:
    """Give a server and somebody at its page."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(Path(folder), configuration(ALARMS, RULE, port=free_port()))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            with Chromium(browser).visit(server.login_url()) as visitor:
                yield server, visitor
        finally:
            browser.close()
            server.stop()


def flood(seconds: int) -> None:
    """Begin incidents, and print the page's longest tasks."""
    with visiting() as (server, visitor):
        visitor.page.evaluate(_LONG_TASKS)
        began = time.monotonic()
        for second in range(seconds):
            server.line(*(f"payment {second * RATE + n} failed: card declined" for n in range(RATE)))
            visitor.page.wait_for_timeout(max(began + second + 1 - time.monotonic(), 0.0) * 1000)
        expect(visitor.page).to_have_title(re.compile(rf"\({seconds * RATE}\) "), timeout=120_000)
        late = time.monotonic() - began - seconds
        tasks = sorted(visitor.page.evaluate("window.longest"), reverse=True)
        print(f"{seconds * RATE} incidents in {seconds} s; all shown {late:.1f} s later")
        print(f"long tasks (over 50 ms): {len(tasks)}, the longest: {tasks[:10]} ms; rows: {len(visitor.rows())}")


def stay_open(seconds: int) -> None:
    """Leave a page open while counts change twice a second, and print what it takes."""
    with visiting() as (server, visitor):
        session = visitor.page.context.new_cdp_session(visitor.page)
        session.send("Performance.enable")
        server.line(*(f"payment {n} failed" for n in range(50)))
        visitor.wait_for_rows(50)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            print(f"{passed:6.0f} s: {_taken(session, visitor)}", flush=True)
            until = time.monotonic() + seconds / 10
            while time.monotonic() < until:
                server.line(*(f"payment {n} failed" for n in range(50)))
                visitor.page.wait_for_timeout(500)
        print(f"{seconds:6} s: {_taken(session, visitor)}")


def _taken(session: object, visitor: Visitor) -> str:
    session.send("HeapProfiler.collectGarbage")  # type: ignore[attr-defined]  # CDPSession
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}  # type: ignore[attr-defined]
    heap = metrics["JSHeapUsedSize"] / 2**20
    nodes, listeners = int(metrics["Nodes"]), int(metrics["JSEventListeners"])
    return f"heap {heap:.1f} MiB, {nodes} nodes, {listeners} listeners, {len(visitor.rows())} rows"


if __name__ == "__main__":
    {"flood": flood, "open": stay_open}[sys.argv[1]](int(sys.argv[2]))
