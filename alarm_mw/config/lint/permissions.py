"""Files of a configuration that others may read, though they hold secrets, or write."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alarm_mw.config.report import Report
from alarm_mw.config.settings import Settings
from alarm_mw.config.sources import CONFIG_VARIABLE, is_ini
from alarm_mw.model.interfaces import PluginOptions, secrets
from alarm_mw.model.types import Where
from alarm_mw.system.permissions import other_writers

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


def refuse_foreign(file: str, report: Report) -> bool:
    """Return whether others may write a file that nobody has named; that is then a mistake in `report`.

    What it says is run with this user's rights, and whoever can put a file into the directory would decide it.
    """
    path = os.path.abspath(file)
    if writers := _other_writers(path) or _other_writers(os.path.dirname(path)):
        named = shlex.quote(path)
        how = f"to use it all the same, name it: --config {named} or {CONFIG_VARIABLE}={named}"
        report.wrong(Where(file), f"found, but not used, since {writers}; {how}")
    return bool(writers)


def warn_of_foreign(files: Iterable[str], report: Report) -> None:
    """Warn of each of these files that others may write, or replace by another one."""
    for file in files:
        if not os.path.isfile(file):
            continue
        path = os.path.abspath(file)
        if writers := _other_writers(path) or _other_writers(os.path.dirname(path), is_named=True):
            report.warn(Where(file), f"{writers}, and so decide what is run with this user's rights")


def _other_writers(path: str, *, is_named: bool = False) -> str:
    """Return who else may write at `path`, as a clause; empty where nobody may, and of what cannot be looked at.

    In a sticky directory, such as ``/tmp``, others can add files, but not replace one that has been named.
    """
    try:
        for facts in (Path(path).lstat(), Path(path).stat()):  # a link, whose own mode says nothing, and where it leads
            is_harmless = stat.S_ISLNK(facts.st_mode) or (is_named and facts.st_mode & stat.S_ISVTX)
            if writers := other_writers(facts.st_uid, facts.st_gid, 0 if is_harmless else facts.st_mode):
                return f"{writers} may write {path}"
    except (OSError, ValueError):
        pass
    return ""


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
