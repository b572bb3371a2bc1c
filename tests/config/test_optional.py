"""Alarms with ``optional = true``, where what they need is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import examine, from_keywords
from alarm_mw.config.report import Examined
from alarm_mw.config.sources import Sources
from alarm_mw.model.errors import ConfigError, MissingError
from alarm_mw.model.interfaces import Action, PluginOptions
from alarm_mw.model.types import Reason, Record
from alarm_mw.testing.recorder import RecordingAction

REMEDY = "speech needs the program 'espeak-ng', which is not installed: apt-get install espeak-ng"


class VoiceOptions(PluginOptions, frozen=True, kw_only=True):
    loud: bool = False

    def __post_init__(self) -> None:
        if self.loud:
            raise MissingError(REMEDY)


class VoiceAction(RecordingAction):
    Options = VoiceOptions

    @classmethod
    def from_uwsgi(cls, args: str) -> PluginOptions:
        return VoiceOptions(loud=bool(args))


def find(name: str) -> type[Action]:
    if name == "jabber":
        raise MissingError("alarm plugin 'jabber' needs the package 'slixmpp', which is not installed: …")
    return cast("type[Action]", VoiceAction)


CONFIG = """
[alarms.say]
action = "speech"
loud = true
optional = {optional}
[alarms.log]
action = "speech"
[[rules]]
pattern = "ERR"
alarms = ["say", "log"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Examined]:
    """Provide a function that reads a configuration."""
    file = tmp_path / "a.toml"

    def read(text: str) -> Examined:
        file.write_text(text, encoding="utf-8")
        return examine(Sources((str(file),)), {}, find_action=find)

    return read


def test_what_is_missing_is_an_error(config: Callable[[str], Examined]) -> None:
    """Without `optional = true` the configuration is refused, and the message says what to install."""
    examined = config(CONFIG.format(optional="false"))
    assert [problem.text for problem in examined.problems] == [f"alarm 'say': {REMEDY}"]


def test_an_optional_alarm_is_left_out_with_a_warning(config: Callable[[str], Examined]) -> None:
    """Everything else works, rules may name it, and the warning says what to install."""
    examined = config(CONFIG.format(optional="true"))
    assert examined.problems == ()
    assert [warning.text for warning in examined.warnings] == [f"alarm 'say' is optional and is left out: {REMEDY}"]
    assert [alarm.name for alarm in examined.settings.alarms] == ["log"]
    assert examined.settings.left_out == ("say",)


def test_a_plugin_that_cannot_be_loaded_may_be_optional(config: Callable[[str], Examined]) -> None:
    """A package that the whole plugin needs counts as well."""
    examined = config('[alarms.say]\naction = "jabber"\noptional = true\nsecond = 1\n')
    assert examined.problems == ()
    assert examined.settings.left_out == ("say",)


def test_optional_excuses_no_mistake(config: Callable[[str], Examined]) -> None:
    """What is wrong in the configuration stays an error; so does a value that is no boolean."""
    examined = config('[alarms.say]\naction = "speech"\noptional = true\nlod = true\n')
    assert "unknown key 'lod'" in examined.problems[0].text
    examined = config('[alarms.say]\naction = "speech"\noptional = "yes"\n')
    assert "optional: expected true or false, got a string" in examined.problems[0].text


def test_an_optional_alarm_that_can_be_had_is_one_like_others(config: Callable[[str], Examined]) -> None:
    """Where everything is installed, `optional` means nothing."""
    examined = config('[alarms.say]\naction = "speech"\noptional = true\n')
    assert [alarm.name for alarm in examined.settings.alarms] == ["say"]
    assert examined.settings.left_out == ()


def test_the_short_form_is_never_optional() -> None:
    """In uWSGI's syntax there is no word for it."""
    with pytest.raises(ConfigError, match="apt-get install espeak-ng"):
        from_keywords(alarms={"say": "speech:loud"}, find_action=find)


def test_firings_of_what_was_left_out_are_counted() -> None:
    """A match of a rule and a call of `alarm()` are held back as unavailable; the other alarms fire."""
    settings = from_keywords(
        alarms={"say": {"action": "jabber", "optional": True}, "log": "speech:"},
        log_alarms=["say,log ERR"],
        find_action=find,
    )
    engine = engine_of(settings)
    verdict = engine.evaluate(Record(b"ERR\n", "stdout", 1.0, "k"), 1.0)
    assert [firing.alarm for firing in verdict.firings] == ["log"]
    assert [(held.alarm, held.reason) for held in verdict.held] == [("say", Reason.UNAVAILABLE)]
    verdict = engine.fire("say", Record(b"x\n", "api", 1.0, "k2"), 2.0)
    assert [(held.alarm, held.reason) for held in verdict.held] == [("say", Reason.UNAVAILABLE)]
