"""uWSGI's configuration in YAML, JSON and XML."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from alarm_mw.cli.check import check
from alarm_mw.cli.migrate import migrate
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.sources import Sources
from alarm_mw.model.types import Where

YAML = """\
# A comment.
uwsgi:
  master: true
  word: xx
  alarm:
    - a log:%n %(word)
    - b log:x
  log-alarm: a ^one
  log-alarm: b two  # twice, as uWSGI takes it
  enable-threads:
other:
  log-alarm: b three
"""
JSON = """\
{"uwsgi": {"master": true, "word": "xx",
  "alarm": ["a log:%n %(word)", "b log:x"],
  "log-alarm": ["a ^one",
                "b two"]}}
"""


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str, text: str) -> Examined:
    Path(name).write_text(text)
    return examine(Sources.of_files([name]), {})


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [("a.yaml", YAML, [8, 9]), ("a.yml", YAML, [8, 9]), ("a.json", JSON, [3, 4])],
)
def test_yaml_and_json_are_read(name: str, text: str, lines: list[int]) -> None:
    """As the ini file that says the same, with variables and places; items of a list are keys of their own."""
    found = read(name, text)
    assert found.problems == ()
    assert [(alarm.name, getattr(alarm.options, "prefix", None)) for alarm in found.settings.alarms] == [
        ("a", "a xx"),
        ("b", "x"),
    ]
    assert [rule.pattern for rule in found.settings.rules] == ["^one", "two"]
    assert [rule.where.line for rule in found.settings.rules] == lines


def test_a_section_can_be_named() -> None:
    """As in ini files."""
    assert [rule.pattern for rule in read("a.yaml", YAML).settings.rules] == ["^one", "two"]
    found = examine(Sources(ini_files=("a.yaml:other",)), {})
    assert [str(warning) for warning in found.warnings] == ["a.yaml:12: unknown alarm 'b'; no alarm is configured"]


def test_an_ini_file_may_include_them() -> None:
    """By `yaml`, `json` and `include`."""
    Path("b.yaml").write_text(YAML)
    Path("c.json").write_text('{"uwsgi": {"log-alarm": "a four"}}')
    found = read("a.ini", "[uwsgi]\nyaml = b.yaml\ninclude = c.json\n")
    assert [rule.pattern for rule in found.settings.rules] == ["^one", "two", "four"]
    assert found.settings.rules[2].where == Where("c.json", 1)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "a.xml",
            "<uwsgi><alarm>a log:</alarm></uwsgi>",
            "a.xml: this is XML, which is not supported; write it as",
        ),
        ("a.conf", "  <uwsgi/>", "a.conf: this is XML"),
        ("a.conf", '{"uwsgi": 1', "a.conf:1: this is no JSON: "),
        ("a.conf", "uwsgi:\n  a: [", "a.conf:2: this is no YAML: "),
        ("a.yaml", "uwsgi:\n  alarm: a\n b: c", "a.yaml:3: this is no YAML: "),
        ("a.yaml", "uwsgi:\n  alarm:\n    a: log", "a.yaml:3: alarm: expected a text or a list of texts"),
        ("a.yaml", "uwsgi: \x07", "a.yaml: this is no YAML: "),
        (
            "a.yaml",
            f"uwsgi:\n  a: &a [{'a,' * 99}]\n" + "  a: *a\n" * 999,
            "a.yaml:84: its aliases amount to more entries than it has characters",
        ),
        ("a.yaml", "", "a.yaml: there is no section [uwsgi] with keys in it, so nothing was read"),
        ("a.yaml", "- uwsgi", "a.yaml: there is no section [uwsgi]"),
        ("a.yaml", "uwsgi: 1", "a.yaml: there is no section [uwsgi]"),
    ],
)
def test_what_cannot_be_read_starts_nothing(name: str, text: str, problem: str) -> None:
    """No server runs without the alarms that its configuration has."""
    Path(name).write_text(text)
    (found,) = examine(Sources(ini_files=(name,)), {}).problems
    assert str(found).startswith(problem)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to install it, and how to do without."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    (problem,) = read("a.yaml", YAML).problems
    assert "this is YAML, which needs the package 'pyyaml': pip install 'alarm-mw[yaml]'; or write it" in str(problem)


def test_an_ini_file_without_the_section_is_a_mistake_where_it_is_checked() -> None:
    """A server starts with it, as uWSGI does."""
    Path("a.ini").write_text("alarm = a log:\n")
    tolerant, strict = (examine(Sources(ini_files=("a.ini",), is_strict=strict), {}) for strict in (False, True))
    assert (tolerant.problems, len(tolerant.warnings)) == ((), 1)
    assert [str(problem) for problem in strict.problems] == [
        "a.ini: there is no section [uwsgi] with keys in it, so nothing was read"
    ]


def test_check_and_migrate_read_them_too() -> None:
    """What is refused ends with 2."""
    Path("a.yaml").write_text(YAML)
    assert CliRunner().invoke(check, ["a.yaml"]).output.endswith("ok: 2 alarms, 2 rules, 1 warning\n")
    assert '[alarms.a]\naction = "log"' in CliRunner().invoke(migrate, ["a.yaml"]).output
    Path("a.xml").write_text("<uwsgi/>")
    for command in (check, migrate):
        result = CliRunner().invoke(command, ["a.xml"])
        assert result.exit_code == 2
        assert "this is XML" in result.output
