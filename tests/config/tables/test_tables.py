"""The keys at the top of a file and of its alarms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from alarm_mw.config.build import engine_of
from alarm_mw.config.load import examine, from_keywords, load
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Alarm, MetricsListener, Upkeep, from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.delivery.outbox.limits import MIB, ON_DISK, Amount, OutboxOptions, State
from alarm_mw.model.errors import ConfigError, MissingError
from alarm_mw.model.interfaces import Action, PluginOptions
from alarm_mw.model.types import Reason, Record
from alarm_mw.testing.recorder import RecordingAction


@pytest.mark.parametrize(("value", "names"), [('"a"', ("a",)), ('["b", "a"]', ("b", "a")), ("[]", ())])
def test_a_name_or_names(tmp_path: Path, value: str, names: tuple[str, ...]) -> None:
    """One name, or an array of names, which may be empty."""
    file = tmp_path / "a.toml"
    file.write_text(f'own_alarms = {value}\n[alarms]\na = "log:"\nb = "log:"\n')
    assert load(Sources((str(file),)), {}).own_alarms == names


def test_a_name_must_be_that_of_an_alarm(tmp_path: Path) -> None:
    """Names without an alarm are told with their place, as is what is no name."""
    file = tmp_path / "a.toml"
    file.write_text('own_alarms = ["mial", 7]\n[alarms]\nmail = "log:"\n')
    with pytest.raises(ConfigError) as caught:
        load(Sources((str(file),)), {})
    assert [problem.text for problem in caught.value.problems] == [
        "own_alarms: expected a name, got an integer",
        "unknown alarm 'mial' (did you mean 'mail'?)",
    ]


def test_it_is_a_name_or_an_array(tmp_path: Path) -> None:
    """Anything else is refused."""
    file = tmp_path / "a.toml"
    file.write_text("own_alarms = 7\n")
    with pytest.raises(ConfigError, match="own_alarms: expected a name or an array of names, got an integer"):
        load(Sources((str(file),)), {})


def sources(tmp_path: Path, *texts: str) -> Sources:
    files = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.toml").write_text(text)
        files.append(str(tmp_path / f"{number}.toml"))
    return Sources(tuple(files))


def test_of_several_files_the_last_that_says_something_counts(tmp_path: Path) -> None:
    """What only one file says stays, whatever stands in the others."""
    texts = ('reload = "auto"\nself_check = 5', 'self_check = 7\n[metrics]\nlisten = "[::1]:99"', "")
    found = sources(tmp_path, *texts)
    settings = examine(found, {}).settings
    assert settings.upkeep == Upkeep(reload="auto", self_check=7.0)
    assert settings.metrics == MetricsListener(listen="[::1]:99")


@pytest.mark.parametrize(
    "text",
    ['reload = "often"', "self_check = -1", 'metrics = "x"', '[metrics]\nlisten = "9464"', "[metrics]\nport = 1"],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str) -> None:
    """Each is refused, once."""
    problems = examine(sources(tmp_path, text), {}).problems
    assert [problem.where.file for problem in problems] == [str(tmp_path / "0.toml")]


def read(tmp_path: Path, *texts: str) -> OutboxOptions:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text)
    settings = load(Sources(tuple(map(str, files))), {})
    assert from_json(to_json(settings)).outbox == settings.outbox
    return settings.outbox


def test_each_bound_can_be_said(tmp_path: Path) -> None:
    """Numbers and sizes are those of the table, the last one of several; what is not said stays."""
    options = read(
        tmp_path,
        "[outbox]\nwaiting = 7\n",
        "[outbox]\nwaiting = 5\ndead_mib = 2\nhistory = 3\nhistory_mib = 1\nhistory_days = 0.5\n",
        "alarm_freq = 1\n",
    )
    bounds = options.bounds(ON_DISK)
    assert bounds[State.WAITING] == Amount(5, ON_DISK[State.WAITING].size)
    assert bounds[State.DEAD] == Amount(ON_DISK[State.DEAD].count, 2 * MIB)
    assert {bounds[state] for state in (State.DELIVERED, State.DROPPED, State.HANDED_OVER)} == {Amount(3, MIB)}
    assert read(tmp_path, "").bounds(ON_DISK) == ON_DISK


@pytest.mark.parametrize(
    ("key", "value"), [("waiting", "0"), ("history_days", "0"), ("dead", '"many"'), ("waitin", "1")]
)
def test_mistakes_in_the_outbox_table_are_reported(tmp_path: Path, key: str, value: str) -> None:
    """No room at all, another kind of value, and an unknown key are refused."""
    with pytest.raises(ConfigError, match=f"outbox: .*{key}"):
        read(tmp_path, f"[outbox]\n{key} = {value}\n")


def test_it_is_a_table(tmp_path: Path) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigError, match="outbox: expected a table"):
        read(tmp_path, "outbox = 7\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.toml"


def table(name: str, *lines: str) -> str:
    return "\n".join([f"[alarms.{name}]", 'action = "log"', *lines, ""])


def alarms(file: Path, *tables: str, environ: dict[str, str] | None = None) -> dict[str, Alarm]:
    file.write_text("".join(tables))
    settings = load(Sources((str(file),)), environ or {})
    assert from_json(to_json(settings)).alarms == settings.alarms
    return {alarm.name: alarm for alarm in settings.alarms}


def complaints(file: Path, *tables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        alarms(file, *tables)
    return [str(problem).rpartition("a.toml:")[2] for problem in caught.value.problems]


def test_another_alarm_is_named(file: Path) -> None:
    """One name or several, and after how many seconds; a chain may go over several alarms."""
    found = alarms(
        file,
        table("jabber", 'fallback = ["mail", "page"]', 'fallback_after = "${AFTER}"'),
        table("mail", 'fallback = "page"'),
        table("page"),
        environ={"AFTER": "5"},
    )
    assert [found[name].fallback for name in ("jabber", "mail", "page")] == [("mail", "page"), ("page",), ()]
    assert [found[name].fallback_after for name in ("jabber", "mail")] == [5.0, 60.0]


def test_it_must_be_there(file: Path) -> None:
    """The name of no alarm is told with its place."""
    assert complaints(file, table("jabber", 'fallback = "mial"'), table("mail")) == [
        "1: alarm 'jabber': fallback: unknown alarm 'mial' (did you mean 'mail'?)"
    ]


@pytest.mark.parametrize(
    ("tables", "way"),
    [
        ([table("a", 'fallback = "a"')], "'a' to 'a'"),
        ([table("a", 'fallback = ["b", "c"]'), table("b"), table("c", 'fallback = "a"')], "'a' to 'c' to 'a'"),
        (
            [table("x", 'fallback = "a"'), table("a", 'fallback = "b"'), table("b", 'fallback = "a"')],
            "'a' to 'b' to 'a'",
        ),
    ],
)
def test_no_way_leads_back(file: Path, tables: list[str], way: str) -> None:
    """A cycle would have a firing go round for ever: it is refused, and shown."""
    (complaint,) = complaints(file, *tables)
    assert complaint.endswith(f"fallback: the way leads from {way}, expected an end")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["fallback = 7"], "3: alarm 'a': fallback: expected a name or an array of names, got an integer"),
        (["fallback = [7]"], "3: alarm 'a': fallback: expected a name, got an integer"),
        (
            ['fallback = "b"', "fallback_after = -1"],
            "4: alarm 'a': fallback_after: expected a number of seconds, 0 or more, got -1",
        ),
        (
            ["fallback_after = 1"],
            "3: alarm 'a': fallback_after without 'fallback', which names the alarm that delivers then",
        ),
    ],
)
def test_mistakes_in_fallbacks_are_reported(file: Path, lines: list[str], complaint: str) -> None:
    """Whatever else stands there is named with its place."""
    assert complaints(file, table("a", *lines), table("b")) == [complaint]


def test_a_variable_that_is_not_set_is_told_once(file: Path) -> None:
    """An invalid number of seconds is the one mistake."""
    (complaint,) = complaints(file, table("a", 'fallback = "b"', 'fallback_after = "${MISSING}"'), table("b"))
    assert "MISSING" in complaint


def test_groups_need_a_time(file: Path) -> None:
    """`group_by` alone would do nothing, and is refused."""
    (complaint,) = complaints(file, table("a", 'delivery = { group_by = ["rule"] }'))
    assert complaint.endswith("group_by without group_wait, which says for how many seconds firings are gathered")


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


def test_times_of_delivery_are_seconds_or_have_a_unit(examined: Callable[..., Examined]) -> None:
    """A number is seconds, as before; a text has a unit, as in other tables."""
    alarm = (
        "alarms.a = { action = 'note', delivery = { give_up_after = '90m', backoff_max = 90, backoff_first = '90' } }\n"
    )
    (problem,) = examined(toml=alarm).problems
    assert problem.text == "alarm 'a': delivery: backoff_first: expected float, got str"
    (found,) = examined(toml=alarm.replace("'90'", "'2s'")).settings.alarms
    assert (found.delivery.give_up_after, found.delivery.backoff_max, found.delivery.backoff_first) == (
        5400.0,
        90.0,
        2.0,
    )
