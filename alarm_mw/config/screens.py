"""Compiled rules from one start to the next: the screen of a configuration lies in the cache directory.

A thousand regexps take a second to be read and compiled, at each start of a master, during which the server's output
would stand still. What was compiled once is found again under a hash of the rules and of all that compiled them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

from msgspec import structs

from alarm_mw.engine.rules import CompiledRule, compile_rule
from alarm_mw.model.types import NOWHERE, Rule
from alarm_mw.patterns.screen import Screen
from alarm_mw.system.permissions import is_trusted

log = logging.getLogger(__name__)

#: How many screens are kept.
KEPT = 20

_HASH_SIZE = hashlib.sha256().digest_size


class Screens:
    """The screens in a directory; one that cannot be used, or None, holds nothing. May block for a disk."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> Self:
        """Return those of this user (XDG base directory specification)."""
        base = environ.get("XDG_CACHE_HOME", "")
        if os.path.isabs(base):
            return cls(Path(base) / "alarm-mw")
        home = environ.get("HOME", "")
        return cls(Path(home) / ".cache" / "alarm-mw" if os.path.isabs(home) else None)

    def know(self, rules: Sequence[Rule]) -> bool:
        """Return whether these very rules were compiled before, so that nothing is wrong with any of them."""
        return self._read(rules) is not None

    def saved(self, rules: Sequence[Rule]) -> bytes:
        """Return the screen of rules as bytes, for other processes; what was compiled before is not loaded here."""
        return self._read(rules) or self.of_rules(rules)[1].dumps()

    def of_rules(self, rules: Sequence[Rule]) -> tuple[list[CompiledRule], Screen]:
        """Return the rules ready for use, and their screen; raise `PatternError` where a regexp is wrong."""
        screen = self._load(rules)
        if screen is not None:
            return [CompiledRule(*each) for each in zip(rules, screen.expressions, strict=True)], screen
        compiled = [compile_rule(rule) for rule in rules]
        screen = Screen.compile(compiled)
        self._store(rules, screen)
        return compiled, screen

    def _load(self, rules: Sequence[Rule]) -> Screen | None:
        try:
            return None if (saved := self._read(rules)) is None else Screen.loads(saved)
        except ValueError as error:
            log.debug("a screen that is none: %s", error)
            return None

    def _read(self, rules: Sequence[Rule]) -> bytes | None:
        if self._directory is None or not rules:
            return None
        path = self._path(self._directory, rules)
        try:
            saved = _read_own(path)
        except (OSError, ValueError) as error:
            log.debug("no screen from %s: %s", path, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # those that nobody uses go first
        return saved

    def _store(self, rules: Sequence[Rule], screen: Screen) -> None:
        if self._directory is None or not rules:
            return
        path = self._path(self._directory, rules)
        data = screen.dumps()
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_whole(path, hashlib.sha256(data).digest() + data)
            _prune(self._directory)
        except OSError as error:
            log.debug("the screen is not kept: %s", error)

    @staticmethod
    def _path(directory: Path, rules: Sequence[Rule]) -> Path:
        looks = repr([structs.replace(rule, alarms=(), where=NOWHERE) for rule in rules])
        key = hashlib.sha256("\n".join([*_compilers(), looks]).encode("utf-8", "surrogatepass"))
        return directory / f"{key.hexdigest()}.screen"


@cache
def _compilers() -> tuple[str, ...]:
    """Return what a screen depends on beside the rules: Python's version, and the very files that compile."""
    patterns = Path(__file__).parent.parent / "patterns"
    finders = [Path(entry) / name for entry in sys.path for name in ("hyperscan", "re2")]
    files = [*sorted(patterns.glob("**/*.py")), *filter(os.path.isdir, finders)]
    return (sys.version, *(f"{file} {file.stat().st_mtime_ns}" for file in files))


def _read_own(path: Path) -> bytes:
    """Return what `Screens` wrote into a file that nobody else could have; raise `OSError` or `ValueError`."""
    with path.open("rb") as file:
        if not is_trusted(os.fstat(file.fileno())):
            raise ValueError("others can write it")
        hashed, saved = file.read(_HASH_SIZE), file.read()
    if hashlib.sha256(saved).digest() != hashed:
        raise ValueError("it is damaged")
    return saved


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _prune(directory: Path) -> None:
    """Remove what was not used for longest."""
    by_use = sorted(directory.glob("*.screen*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in by_use[KEPT:]:
        path.unlink(missing_ok=True)
