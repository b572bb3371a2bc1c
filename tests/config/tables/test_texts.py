"""Labels, names and templates in TOML, and what an alarm of each kind of configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from alarm_mw.config.load import examine, from_keywords
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import Settings, from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import Texts

HOOK = "[alarms.a]\naction = 'curl'\nurl = 'https://example.org/'\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Examined]:
    """Provide a function that reads TOML with the actions that ship."""

    def check(toml: str) -> Examined:
        file = tmp_path / "alarm-mw.toml"
        file.write_text(toml)
        return examine(Sources.of_files([str(file)]), {})

    return check


Read = Callable[[str], Examined]


def problems(examined: Examined) -> list[str]:
    return [problem.text for problem in examined.problems]


def test_labels_are_united(read: Read) -> None:
    """Those of the top are under those of an alarm; a rule keeps its own, which win when it fires."""
    toml = f"[labels]\napp = 'shop'\ntier = '1'\n{HOOK}labels = {{ tier = '2' }}\n"
    toml += "[[rules]]\nname = 'payments'\npattern = 'x'\nalarms = 'a'\nlabels = { severity = 'critical' }\n"
    settings = read(toml).settings
    assert dict(settings.alarms[0].labels) == {"app": "shop", "tier": "2"}
    assert (settings.rules[0].name, settings.rules[0].labels) == ("payments", (("severity", "critical"),))


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        (
            "name = 'a b'",
            "name: expected letters, digits, '_', '-' and '.', at most 64, a letter or digit first, got 'a b'",
        ),
        ("[labels]\n'a-b' = 'x'", "labels: 'a-b': a label's name is made of letters, digits and _"),
        ("[labels]\na = 1", "labels: a: expected a string, got an integer"),
        ('[labels]\na = "x\\n"', "labels: a: expected text without line ends and control characters"),
        ("labels = 'x'", "labels: expected a table, got a string"),
        ("name = 'a b'", "name: expected letters, digits, '_', '-' and '.'"),
        ("name = '../x'", "name: expected letters, digits, '_', '-' and '.'"),
        ("name = 3", "name: expected a string, got an integer"),
        ("messages = 'html'", "messages: expected 'human' or 'uwsgi', got 'html'"),
        ("[[rules]]\nname = \"a\\n\"\nexclude = 'x'", "rule 1: name: expected text without line ends"),
        ("[[rules]]\nname = 3\nexclude = 'x'", "rule 1: name: expected a string, got an integer"),
        (f"{HOOK}title = '{{hots}}'", "alarm 'a': title: unknown name 'hots' (did you mean 'host'?)"),
        (f"{HOOK}text = '{{host|uper}}'", "alarm 'a': text: unknown filter 'uper' (did you mean 'upper'?)"),
        (f"{HOOK}text = 3", "alarm 'a': text: expected a string, got an integer"),
        (f"{HOOK}subject = '{{mesage}}'", "alarm 'a': subject: unknown name 'mesage' (did you mean 'message'?)"),
        (f"{HOOK}json = {{ a = '{{hots}}' }}", "alarm 'a': json: '{hots}': unknown name 'hots'"),
        (
            "[alarms.m]\naction = 'signal'\nsignal = 1\ntext = 'x'",
            "alarm 'm': text: this action has no text for people",
        ),
        (f"{HOOK}labels = {{ a = '${{NO}}' }}", "alarm 'a': labels: a: the environment variable NO is not set"),
    ],
)
def test_what_is_wrong_is_told(read: Read, toml: str, problem: str) -> None:
    """Each mistake with its place, and the nearest known name."""
    assert problems(read(toml))[0].startswith(problem)


def test_all_mistakes_in_one_alarm_are_told_at_once(read: Read) -> None:
    """Title, text, subject and JSON are looked at, whatever is wrong with the others."""
    toml = f"{HOOK}title = '{{a}}'\ntext = '{{b}}'\nsubject = '{{c}}'\njson = {{ x = '{{d}}', y = ['{{e}}'] }}\n"
    found = "\n".join(problems(read(toml)))
    assert all(f"unknown name '{name}'" in found for name in "abcde")


@pytest.mark.parametrize("toml", [HOOK, "alarms.a = 'curl:https://example.org/'\n"])
def test_alarms_in_toml_speak_to_people(read: Read, toml: str) -> None:
    """Both ways of writing one, unless the file asks for uWSGI's messages; a template speaks all the same."""
    assert read(toml).settings.alarms[0].texts == Texts()
    assert read(f"messages = 'human'\n{toml}").settings.alarms[0].texts == Texts()
    assert read(f"messages = 'uwsgi'\n{toml}").settings.alarms[0].texts is None
    assert read(f"messages = 'uwsgi'\n{HOOK}text = '{{host}}'").settings.alarms[0].texts == Texts("", "{host}")


def test_a_subject_is_a_template_only_where_people_are_spoken_to(read: Read) -> None:
    """With uWSGI's messages braces are braces; in the short form a mistake is told as well."""
    mail = "alarms.a = 'curl:smtp://127.0.0.1;mail_to=a@example.org;subject={'\n"
    assert problems(read(f"messages = 'uwsgi'\n{HOOK}subject = '{{'\n")) == []
    assert problems(read(f"messages = 'uwsgi'\n{mail}")) == []
    assert problems(read(mail)) == ["alarm 'a': subject: '{' at character 1 has no '}'; write '{{' for a brace"]


def test_alarms_of_the_python_api_speak_to_people() -> None:
    """`init(alarms=…)` is like TOML."""
    settings = from_keywords(
        alarms={"a": "cmd:cat", "b": {"action": "cmd", "command": "cat", "title": "x"}}, environ={}
    )
    assert [alarm.texts for alarm in settings.alarms] == [Texts(), Texts("x")]


def test_alarms_of_uwsgi_say_what_uwsgi_says(tmp_path: Path) -> None:
    """An ini file and flags keep its messages byte for byte; braces in a subject are braces."""
    ini = tmp_path / "uwsgi.ini"
    ini.write_text("[uwsgi]\nalarm = a curl:smtp://h;mail_to=a@example.org;subject={what}\n")
    found = examine(Sources((), (str(ini),), (("alarm", "b cmd:cat"),)), {})
    assert problems(found) == []
    assert [alarm.texts for alarm in found.settings.alarms] == [None, None]


def test_all_of_it_reaches_the_next_master(read: Read) -> None:
    """Settings as JSON and back are the same."""
    toml = f"name = 'shop'\n[labels]\napp = 'x'\n{HOOK}title = '{{host}}'\njson = {{ a = ['{{host}}', 1] }}\n"
    settings: Settings = read(toml).settings
    assert settings.name == "shop"
    assert from_json(to_json(settings)) == settings
