"""The smallest application that can raise an alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Raise an alarm at ``/terrible``."""
    if environ["PATH_INFO"] == "/terrible":
        print("TERRIBLE ALARM! The world exploded!!!", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
