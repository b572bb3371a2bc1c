"""What the command line shows while it reads a configuration."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner

from alarm_mw.cli.main import main
from alarm_mw.cli.options import RuleProgress


class Terminal(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def shown(seconds_a_rule: float, rules: int, *, is_terminal: bool = True) -> str:
    """Return what is shown while rules are read that take so long each."""
    now = [0.0]
    stream = Terminal(is_terminal=is_terminal)
    progress = RuleProgress(stream, lambda: now[0])
    for done in range(rules):
        progress(done, rules)
        now[0] += seconds_a_rule
    progress(rules, rules)
    return stream.getvalue()


def test_a_long_reading_of_rules_shows_its_progress() -> None:
    """After a second a terminal shows how many rules have been read; the line is removed at the end."""
    text = shown(0.001, 1_500)
    assert text.startswith("\rreading rules: 1,000 of 1,500\rreading rules: 1,2")
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize(("seconds", "is_terminal"), [(0.0001, True), (0.01, False)], ids=["fast", "no terminal"])
def test_nothing_is_shown_without_need(seconds: float, is_terminal: bool) -> None:
    """A short reading, and one without a terminal, shows nothing."""
    assert shown(seconds, 1_000, is_terminal=is_terminal) == ""


def test_a_hub_has_no_options_about_a_server() -> None:
    """The flags of monitors that watch a server are not offered where there is none."""
    shown = CliRunner().invoke(main, ["hub", "--help"]).stdout
    assert "--alarm-freq" in shown
    assert "--alarm-backlog" not in shown
    assert "--alarm-segfault" not in shown


def test_a_misspelled_verb_is_suggested() -> None:
    """The verb that is probably meant is named."""
    result = CliRunner().invoke(main, ["chek"])
    assert result.exit_code == 2
    assert "No such command 'chek' (did you mean 'check'?)." in result.output
