"""Files of a configuration that hold secrets and can be read by others."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alarm_mw.config.problems import Report
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import is_ini
from alarm_mw.model.interfaces import PluginOptions, secrets
from alarm_mw.model.types import Where

#: A word in a URL or a header that looks like a token: letters and digits, and long.
_TOKEN = re.compile(r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{16,}")

#: The names of headers that hold secrets.
_TELLING = re.compile(r"auth|key|token|cookie|secret", re.IGNORECASE)


def warn_of_exposed(settings: Settings, files: Iterable[str], report: Report) -> None:
    """Warn of each of these files that others may read, where a secret stands in it. Reads them."""
    known = {secret for alarm in settings.alarms for secret in _held(alarm.options)}
    for file in files:
        if known and _is_open(file) and _holds(file, known):
            text = f"others may read this file, and it holds secrets: chmod go-rwx {shlex.quote(file)}, or name them as"
            ways = "$(VARIABLE) or @(/path)" if is_ini(file) else "${VARIABLE} or ${file:/path}"
            report.warn(Where(file), f"{text} {ways}")


def _held(options: PluginOptions) -> Iterator[str]:
    """Yield what must be kept from others; an address alone is no secret."""
    for name in secrets(type(options)):
        value = getattr(options, name)
        if isinstance(value, str):
            is_url = name == "url" or "://" in value
            yield from _in_url(value) if is_url else [value] if value else []
        elif isinstance(value, dict):
            yield from (text for key, text in value.items() if _TELLING.search(key) or _TOKEN.search(text))


def _in_url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    yield from _TOKEN.findall(f"{parts.path}?{parts.query}")


def _is_open(file: str) -> bool:
    """Return whether others may read a file. Its group may where somebody else has given it to us by the group."""
    try:
        facts = Path(file).stat()
    except (OSError, ValueError):
        return False
    by_group = facts.st_mode & stat.S_IRGRP and facts.st_uid == os.geteuid()
    return stat.S_ISREG(facts.st_mode) and bool(facts.st_mode & stat.S_IROTH or by_group)


def _holds(file: str, known: Iterable[str]) -> bool:
    """Return whether a secret stands in a file, rather than being all of it: such are mounted, and guarded, so."""
    text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
    return any(
        (secret in text or json.dumps(secret)[1:-1] in text) and text.strip() != secret.strip() for secret in known
    )
