"""Compiled rules from one start to the next."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from alarm_mw.config import literal_cache
from alarm_mw.config.literal_cache import KEPT, LiteralCache
from alarm_mw.config.load import from_keywords
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.types import Rule, Syntax, Where
from alarm_mw.patterns.prefilter import Prefilter


def rules(word: str = "failed", number: int = 20) -> list[Rule]:
    return [Rule(rf"^{word} {n} [a-c]+\b(?!x)", ("a",), where=Where("x", n)) for n in range(number)]


def kept(directory: Path) -> list[Path]:
    return sorted((directory / "alarm-mw").glob("*"))


@pytest.fixture
def of_user(tmp_path: Path) -> LiteralCache:
    return LiteralCache.of_user({"XDG_CACHE_HOME": str(tmp_path)})


def answers(cache: LiteralCache, some: Sequence[Rule]) -> list[tuple[int, ...]]:
    """Return which rules match each of some lines, by screen and verdict."""
    compiled = cache.compiled(some)
    prefilter = Prefilter(compiled)
    lines = (b"failed 3 abc\n", b"failed 3 abcx\n", b"failed 19 a\n", b"nothing\n")
    return [tuple(n for n in prefilter.candidates(line) if compiled[n].search(line)) for line in lines]


def test_rules_are_compiled_once_for_all_starts(of_user: LiteralCache, tmp_path: Path) -> None:
    """The second start finds what the first one compiled, and it means the same."""
    assert not of_user.knows(rules())
    first = answers(of_user, rules())
    assert first == [(3,), (), (19,), ()]
    assert of_user.knows(rules())
    assert answers(of_user, rules()) == first
    assert len(kept(tmp_path)) == 1


def test_other_rules_are_other_screens(of_user: LiteralCache) -> None:
    """What makes a regexp mean something else makes another screen; what it fires does not."""
    of_user.compiled(rules())
    assert not of_user.knows(rules("fallen"))
    assert not of_user.knows([Rule(rule.pattern, rule.alarms, Syntax.PCRE) for rule in rules()])
    assert of_user.knows([Rule(rule.pattern, ("b",)) for rule in rules()])


def test_no_rules_leave_no_file(of_user: LiteralCache, tmp_path: Path) -> None:
    """One rule is worth a file: without it Hyperscan is tried, and compiles, at each start."""
    of_user.compiled([])
    assert not of_user.knows([])
    assert kept(tmp_path) == []
    of_user.compiled(rules(number=1))
    assert of_user.knows(rules(number=1))


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"x" + data, lambda _: b""])
def test_a_damaged_file_is_made_again(of_user: LiteralCache, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """What was cut off or changed is not used, and the next start finds a good one."""
    of_user.compiled(rules())
    (file,) = kept(tmp_path)
    good = file.read_bytes()
    file.write_bytes(spoil(good))
    assert not of_user.knows(rules())
    of_user.compiled(rules())
    assert file.read_bytes() == good


def test_what_is_no_screen_of_this_version_is_made_again(of_user: LiteralCache, tmp_path: Path) -> None:
    """Whole as it is, it is not used."""
    of_user.compiled(rules())
    (file,) = kept(tmp_path)
    file.write_bytes(hashlib.sha256(b"other").digest() + b"other")
    assert answers(of_user, rules())[0] == (3,)


def test_a_file_that_others_can_write_is_not_used(of_user: LiteralCache, tmp_path: Path) -> None:
    """Nobody else can make us run a database that they compiled."""
    of_user.compiled(rules())
    (file,) = kept(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.chmod(0o620)
    assert not of_user.knows(rules())


def test_a_newer_compiler_compiles_again(of_user: LiteralCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update nothing is used that the former version compiled."""
    of_user.compiled(rules())
    monkeypatch.setattr(literal_cache, "_readers", lambda: ("a newer one",))
    assert not of_user.knows(rules())


def test_screens_that_nobody_uses_go(of_user: LiteralCache, tmp_path: Path) -> None:
    """The directory does not grow: those that were used last stay."""
    of_user.compiled(rules())
    (first,) = kept(tmp_path)
    for n in range(KEPT):
        other = first.with_name(f"{n}.literals")
        other.touch()
        os.utime(other, (n, n))
    of_user.compiled(rules("fallen"))
    assert len(kept(tmp_path)) == KEPT
    assert first.exists()


@pytest.mark.parametrize("environ", [{}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "/dev/null"}])
def test_without_a_place_rules_are_compiled_at_each_start(environ: dict[str, str]) -> None:
    """No home and a directory that cannot be made are no reason to fail."""
    cache = LiteralCache.of_user(environ)
    assert answers(cache, rules())[0] == (3,)
    assert not cache.knows(rules())


def test_the_home_directory_is_the_default(tmp_path: Path) -> None:
    """Without XDG_CACHE_HOME, screens lie in ~/.cache."""
    LiteralCache.of_user({"HOME": str(tmp_path)}).compiled(rules())
    assert len(kept(tmp_path / ".cache")) == 1


def test_a_full_disk_leaves_nothing_half(
    of_user: LiteralCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written whole is not there."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    assert answers(of_user, rules())[0] == (3,)
    assert kept(tmp_path) == []


def test_a_known_configuration_is_checked_no_more(tmp_path: Path) -> None:
    """A mistake among many rules is found at each start, and rules that were compiled are taken as they are."""
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    texts = [f"a {rule.pattern}" for rule in rules()]
    with pytest.raises(ConfigError, match="breaks at its character"):
        from_keywords(alarms={"a": "log:"}, log_alarms=[*texts, "a ("], environ=environ)
    settings = from_keywords(alarms={"a": "log:"}, log_alarms=texts, environ=environ)
    LiteralCache.of_user(environ).compiled(settings.rules)
    assert from_keywords(alarms={"a": "log:"}, log_alarms=texts, environ=environ) == settings
