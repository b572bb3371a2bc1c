"""Warns about configuration files that other users may write, or may read although they contain secrets."""

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
_RANDOM_WORD = r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{16,}"

#: Names of headers that contain secrets.
_SENSITIVE = r"(?i)auth|key|token|cookie|secret"


def warn_of_exposed(settings: Settings, files: Iterable[str], report: Report) -> None:
    """Warn about each of these files that contains a secret and is readable by others. Reads them."""
    fleet = () if settings.fleet is None else (settings.fleet,)
    holders = (*(alarm.options for alarm in settings.alarms), *settings.web.users, *settings.web.tokens, *fleet)
    known = {secret for holder in holders for secret in _held(holder)}
    for file in files:
        if known and _is_open(file) and _holds(file, known):
            fix = f"chmod go-rwx {shlex.quote(file)}"
            ways = "$(VARIABLE) or @(/path)" if is_ini(file) else "${VARIABLE} or ${file:/path}"
            text = f"others may read this file, and it contains secrets: {fix}, or write them as {ways}"
            report.warn(Where(file), text)


def refuse_foreign(file: str, report: Report) -> bool:
    """Return whether others may write a file that was found, not named; if so, add the mistake to `report`.

    Its commands run with this user's rights, so users who can write to the directory could run anything.
    """
    path = os.path.abspath(file)
    if writers := _other_writers(path) or _other_writers(os.path.dirname(path)):
        named = shlex.quote(path)
        how = f"to use it all the same, name it: --config {named} or {CONFIG_VARIABLE}={named}"
        report.wrong(Where(file), f"found, but not used, since {writers}; {how}")
    return bool(writers)


def warn_of_foreign(files: Iterable[str], report: Report) -> None:
    """Warn about each of these files that others may write or replace."""
    for file in files:
        if not os.path.isfile(file):
            continue
        path = os.path.abspath(file)
        if writers := _other_writers(path) or _other_writers(os.path.dirname(path), is_named=True):
            report.warn(Where(file), f"{writers}, and so decide what is run with this user's rights")


def _other_writers(path: str, *, is_named: bool = False) -> str:
    """Return who else may write to `path`, as a clause; empty if nobody may, or if the path is not accessible.

    In a sticky directory such as ``/tmp``, others can add files, but cannot replace a file that was named.
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
    """Yield the secrets in the options; an address alone is not a secret."""
    for name in secrets(type(options)):
        value = getattr(options, name)
        if isinstance(value, str):
            is_url = name == "url" or "://" in value
            yield from _in_url(value) if is_url else [value] if value else []
        elif isinstance(value, dict):
            yield from (
                text for key, text in value.items() if re.search(_SENSITIVE, key) or re.search(_RANDOM_WORD, text)
            )


def _in_url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.password:
        yield parts.password
        yield unquote(parts.password)
    yield from re.findall(_RANDOM_WORD, f"{parts.path}?{parts.query}")


def _is_open(file: str) -> bool:
    """Return whether others may read a file. The group may, if another user owns the file."""
    try:
        facts = Path(file).stat()
    except (OSError, ValueError):
        return False
    by_group = facts.st_mode & stat.S_IRGRP and facts.st_uid == os.geteuid()
    return stat.S_ISREG(facts.st_mode) and bool(facts.st_mode & stat.S_IROTH or by_group)


def _holds(file: str, known: Iterable[str]) -> bool:
    """Return whether a file contains a secret beside other text; a file that is only a secret was mounted as one."""
    text = Path(file).read_bytes().decode("utf-8", "surrogateescape")
    return any(
        (secret in text or json.dumps(secret)[1:-1] in text) and text.strip() != secret.strip() for secret in known
    )
