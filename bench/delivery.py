"""Webhooks a second: through the durable outbox of ``alarm-mw run``, and by those who keep nothing.

``python bench/delivery.py``, with the options of `harness`. Ours is measured from the moment at which the application
begins to print its burst, one line for each, until the last of them has been received; what each says is written to
the disk before, and its success after. Nobody else's survives a kill.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from corpus import NEEDLE, configuration
from harness import Case, Metric, Options, Section, run
from hooks import Hook, receiving
from pipeline import Writing, until

METRICS = {
    "hooks": Metric("webhooks/s", more=True),
    "seconds": Metric("until the last is received, s"),
    "processor": Metric("processor, µs each"),
}
#: How many requests of those who can are under way at a time.
ABREAST = 16


def sections(options: Options) -> Iterator[Section]:
    """Measure a burst."""
    burst = options.pick(full=1000, quick=1000, tiny=20)
    with tempfile.TemporaryDirectory(prefix="bench-") as name, receiving() as hook:
        folder = Path(name)
        lines = folder / "lines"
        lines.write_text("".join(f"{NEEDLE}: order {n}\n" for n in range(burst)), encoding="utf-8")
        config = configuration(
            folder, [NEEDLE], f'action = "curl"\nurl = "{hook.url}"\nlimits = {{ repeat_after = 0 }}', "alarm_freq = 0"
        )
        contestants: dict[str, tuple[str, Callable[[Hook, int], None]]] = {
            "http.client, one connection kept": ("http", one_at_a_time),
            f"aiohttp, {ABREAST} at a time": ("aiohttp", many_at_a_time),
            "Apprise, json://": ("apprise", by_apprise),
        }
        cases = [
            Case(name, partial(timed, send, hook, burst))
            for name, (module, send) in contestants.items()
            if importlib.util.find_spec(module)
        ]
        cases.append(Case("alarm-mw run, durable outbox", partial(ours, config, Writing(lines, 1), folder, hook)))
        notes = [
            f"{module} is not installed" for module, _ in contestants.values() if not importlib.util.find_spec(module)
        ]
        peer = "http.client, one connection kept"
        yield Section(f"A burst of {burst:,} webhooks", METRICS, cases, peer=peer, notes=notes, warm_up=1)


def ours(config: Path, writing: Writing, folder: Path, hook: Hook) -> dict[str, float | None]:
    """Print the burst, and wait until all is received."""
    flow = until(lambda size: hook.expect(writing.lines * size // writing.size), config, writing, folder)
    return _figures(writing.lines, flow.seconds, flow.processor)


def timed(send: Callable[[Hook, int], None], hook: Hook, burst: int) -> dict[str, float | None]:
    """Send all of them, in this process."""
    before, began = time.process_time(), time.perf_counter()
    send(hook, burst)
    hook.expect(burst)
    return _figures(burst, time.perf_counter() - began, time.process_time() - before)


def _figures(burst: int, seconds: float, processor: float) -> dict[str, float | None]:
    return {"hooks": burst / seconds, "seconds": seconds, "processor": processor / burst * 1e6}


def one_at_a_time(hook: Hook, burst: int) -> None:
    """Send over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", hook.port)
    for number in range(burst):
        connection.request("POST", "/hook", body=f"{NEEDLE}: order {number}".encode())
        connection.getresponse().read()
    connection.close()


def many_at_a_time(hook: Hook, burst: int) -> None:
    """Send by aiohttp."""
    aiohttp: Any = importlib.import_module("aiohttp")

    async def send_all() -> None:
        places = asyncio.Semaphore(ABREAST)
        async with aiohttp.ClientSession() as session:

            async def send(number: int) -> None:
                async with places, session.post(hook.url, data=f"{NEEDLE}: order {number}".encode()) as answer:
                    await answer.read()

            await asyncio.gather(*(send(number) for number in range(burst)))

    asyncio.run(send_all())


def by_apprise(hook: Hook, burst: int) -> None:
    """Send by Apprise."""
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    apprise: Any = importlib.import_module("apprise")
    sender = apprise.Apprise()
    sender.add(f"json://127.0.0.1:{hook.port}/hook")
    for number in range(burst):
        sender.notify(body=f"{NEEDLE}: order {number}")


if __name__ == "__main__":
    run("delivery", sections, packages=["httpx", "aiohttp", "apprise"])
