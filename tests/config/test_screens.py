"""Compiled rules from one start to the next."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from alarm_mw.config import screens
from alarm_mw.config.load import from_keywords
from alarm_mw.config.screens import KEPT, Screens
from alarm_mw.model.errors import ConfigError
from alarm_mw.model.types import Rule, Syntax, Where
from alarm_mw.patterns.screen import Screen


def rules(word: str = "failed", number: int = 20) -> list[Rule]:
    return [Rule(rf"^{word} {n} [a-c]+\b(?!x)", ("a",), where=Where("x", n)) for n in range(number)]


def kept(directory: Path) -> list[Path]:
    return sorted((directory / "alarm-mw").glob("*"))


@pytest.fixture
def of_user(tmp_path: Path) -> Screens:
    return Screens.of_user({"XDG_CACHE_HOME": str(tmp_path)})


def answers(screens: Screens, some: Sequence[Rule]) -> list[tuple[int, ...]]:
    """Return which rules match each of some lines, by screen and verdict."""
    compiled, screen = screens.of_rules(some)
    lines = (b"failed 3 abc\n", b"failed 3 abcx\n", b"failed 19 a\n", b"nothing\n")
    return [tuple(n for n in screen.candidates(line) if compiled[n].search(line)) for line in lines]


def test_rules_are_compiled_once_for_all_starts(of_user: Screens, tmp_path: Path) -> None:
    """The second start finds what the first one compiled, and it means the same."""
    assert not of_user.know(rules())
    first = answers(of_user, rules())
    assert first == [(3,), (), (19,), ()]
    assert of_user.know(rules())
    assert answers(of_user, rules()) == first
    assert len(kept(tmp_path)) == 1


def test_other_rules_are_other_screens(of_user: Screens) -> None:
    """What makes a regexp mean something else makes another screen; what it fires does not."""
    of_user.of_rules(rules())
    assert not of_user.know(rules("fallen"))
    assert not of_user.know([Rule(rule.pattern, rule.alarms, Syntax.PCRE) for rule in rules()])
    assert of_user.know([Rule(rule.pattern, ("b",)) for rule in rules()])


def test_no_rules_leave_no_file(of_user: Screens, tmp_path: Path) -> None:
    """One rule is worth a file: without it Hyperscan is tried, and compiles, at each start."""
    of_user.of_rules([])
    assert not of_user.know([])
    assert kept(tmp_path) == []
    of_user.of_rules(rules(number=1))
    assert of_user.know(rules(number=1))


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"x" + data, lambda _: b""])
def test_a_damaged_file_is_made_anew(of_user: Screens, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """What was cut off or changed is not used, and the next start finds a good one."""
    of_user.of_rules(rules())
    (file,) = kept(tmp_path)
    good = file.read_bytes()
    file.write_bytes(spoil(good))
    assert not of_user.know(rules())
    of_user.of_rules(rules())
    assert file.read_bytes() == good


def test_what_is_no_screen_of_this_version_is_made_anew(of_user: Screens, tmp_path: Path) -> None:
    """Whole as it is, it is not used."""
    of_user.of_rules(rules())
    (file,) = kept(tmp_path)
    file.write_bytes(hashlib.sha256(b"other").digest() + b"other")
    assert answers(of_user, rules())[0] == (3,)


def test_a_screen_for_other_processes_is_the_one_that_is_kept(of_user: Screens) -> None:
    """It is compiled for the first who asks; the next one reads it."""
    first = of_user.saved(rules())
    assert of_user.know(rules())
    assert of_user.saved(rules()) == first
    assert Screen.loads(first).candidates(b"failed 3 abc\n") == (3,)
    assert Screen.loads(of_user.saved([])).candidates(b"failed 3 abc\n") == ()


def test_a_file_that_others_can_write_is_not_used(of_user: Screens, tmp_path: Path) -> None:
    """Nobody else can make us run a database that they compiled."""
    of_user.of_rules(rules())
    (file,) = kept(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.chmod(0o620)
    assert not of_user.know(rules())


def test_a_newer_compiler_compiles_anew(of_user: Screens, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update nothing is used that the former version compiled."""
    of_user.of_rules(rules())
    monkeypatch.setattr(screens, "_compilers", lambda: ("a newer one",))
    assert not of_user.know(rules())


def test_screens_that_nobody_uses_go(of_user: Screens, tmp_path: Path) -> None:
    """The directory does not grow: those that were used last stay."""
    of_user.of_rules(rules())
    (first,) = kept(tmp_path)
    for n in range(KEPT):
        other = first.with_name(f"{n}.screen")
        other.touch()
        os.utime(other, (n, n))
    of_user.of_rules(rules("fallen"))
    assert len(kept(tmp_path)) == KEPT
    assert first.exists()


@pytest.mark.parametrize("environ", [{}, {"HOME": "relative"}, {"XDG_CACHE_HOME": "/dev/null"}])
def test_without_a_place_rules_are_compiled_at_each_start(environ: dict[str, str]) -> None:
    """No home and a directory that cannot be made are no reason to fail."""
    screens = Screens.of_user(environ)
    assert answers(screens, rules())[0] == (3,)
    assert not screens.know(rules())


def test_the_home_directory_is_the_default(tmp_path: Path) -> None:
    """Without XDG_CACHE_HOME, screens lie in ~/.cache."""
    Screens.of_user({"HOME": str(tmp_path)}).of_rules(rules())
    assert len(kept(tmp_path / ".cache")) == 1


def test_a_full_disk_leaves_nothing_half(of_user: Screens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    Screens.of_user(environ).of_rules(settings.rules)
    assert from_keywords(alarms={"a": "log:"}, log_alarms=texts, environ=environ) == settings
