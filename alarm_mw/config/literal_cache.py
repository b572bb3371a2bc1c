"""A cache of the literals that rules require, in the user's cache directory.

Parsing a thousand regexps takes a tenth of a second or more at each start of a master, while the server's output waits.
The key is a hash of the rules and of the code that parses them.
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

import msgspec

from alarm_mw.engine.rules import CompiledRule, compile_rule, is_conditional
from alarm_mw.model.types import Rule
from alarm_mw.patterns.literals import Literals
from alarm_mw.system.permissions import is_trusted

log = logging.getLogger(__name__)

#: Maximum number of cached rule sets.
KEPT = 20

_HASH_SIZE = hashlib.sha256().digest_size
#: What a rule requires: `CompiledRule.literals` and `CompiledRule.keys`.
_Required = tuple[Literals | None, tuple[str, ...] | None]
_decode = msgspec.msgpack.Decoder(list[_Required]).decode


class LiteralCache:
    """The cache in a directory; empty if the directory is None or not usable. Blocks for disk access."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> Self:
        """Return this user's (XDG base directory specification)."""
        base = environ.get("XDG_CACHE_HOME", "")
        if os.path.isabs(base):
            return cls(Path(base) / "alarm-mw")
        home = environ.get("HOME", "")
        return cls(Path(home) / ".cache" / "alarm-mw" if os.path.isabs(home) else None)

    def knows(self, rules: Sequence[Rule]) -> bool:
        """Return whether these very rules were read before, so that nothing is wrong with any of them."""
        return self._load(rules) is not None

    def compiled(self, rules: Sequence[Rule]) -> list[CompiledRule]:
        """Return the rules ready for use; raise `PatternError` where a regexp is wrong."""
        known = self._load(rules)
        if known is None:
            compiled = [compile_rule(rule) for rule in rules]
            self.keep(compiled)
            # The few that are asked are read again: the trees of a thousand take 25 MB.
            known = [(each.literals, each.keys) for each in compiled]
        return [CompiledRule(rule, *required) for rule, required in zip(rules, known, strict=True)]

    def keep(self, compiled: Sequence[CompiledRule]) -> None:
        """Keep what was read."""
        rules = [each.rule for each in compiled]
        if self._directory is None or not rules:
            return
        path = self._path(self._directory, rules)
        data = msgspec.msgpack.encode([(each.literals, each.keys) for each in compiled])
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_whole(path, hashlib.sha256(data).digest() + data)
            _prune(self._directory)
        except OSError as error:
            log.debug("the literals are not kept: %s", error)

    def _load(self, rules: Sequence[Rule]) -> list[_Required] | None:
        try:
            known = None if (saved := self._read(rules)) is None else _decode(saved)
        except ValueError as error:  # `msgspec.ValidationError` among them
            log.debug("literals that are none: %s", error)
            return None
        return known if known is not None and len(known) == len(rules) else None

    def _read(self, rules: Sequence[Rule]) -> bytes | None:
        if self._directory is None or not rules:
            return None
        path = self._path(self._directory, rules)
        try:
            saved = _read_own(path)
        except (OSError, ValueError) as error:
            log.debug("no literals from %s: %s", path, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used are evicted first
        return saved

    @staticmethod
    def _path(directory: Path, rules: Sequence[Rule]) -> Path:
        read = [f"{rule.syntax} {rule.multiline} {rule.request} {_conditions(rule)}{rule.pattern!r}" for rule in rules]
        key = hashlib.sha256("\n".join([*_readers(), *read]).encode("utf-8", "surrogatepass"))
        return directory / f"{key.hexdigest()}.literals"


def _conditions(rule: Rule) -> str:
    return f"{rule.level} {rule.logger} {rule.fields} {rule.names} " if is_conditional(rule) else ""


@cache
def _readers() -> tuple[str, ...]:
    """Return what literals depend on beside the rules: Python's version, and the very files that read."""
    files = sorted((Path(__file__).parent.parent / "patterns").rglob("*.py"))
    return (sys.version, *(f"{file} {file.stat().st_mtime_ns}" for file in files))


def _read_own(path: Path) -> bytes:
    """Return what `LiteralCache` wrote into a file that nobody else could have; raise `OSError` or `ValueError`."""
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
    by_use = sorted(directory.glob("*.literals*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in by_use[KEPT:]:
        path.unlink(missing_ok=True)
