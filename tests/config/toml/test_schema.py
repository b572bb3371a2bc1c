"""The JSON schema of TOML files."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from alarm_mw.cli.main import main
from alarm_mw.config.parts import NUMBERS
from alarm_mw.config.tables.monitors import MONITOR_KEYS
from alarm_mw.config.tables.rules import RULE_KEYS
from alarm_mw.config.tables.tables import ALARM_KEYS, ROOT_KEYS
from alarm_mw.config.toml.schema import schema

ROOT = Path(__file__).parents[3]
SCHEMA = schema()
VALIDATOR = Draft7Validator(SCHEMA)

#: Every configuration that the documentation shows, and every one of the examples.
SHOWN = {
    **{
        f"{page.name}-{number}": text
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    },
    **{str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "examples").rglob("alarm-mw.toml"))},
}
#: Shows what a wrong one is answered.
WRONG = SHOWN.pop("troubleshooting.md-0")


def mistakes(text: str) -> list[str]:
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}" for error in VALIDATOR.iter_errors(tomllib.loads(text))
    ]


def test_it_is_a_schema() -> None:
    """Editors can read it, and `alarm-mw schema` prints it."""
    Draft7Validator.check_schema(SCHEMA)
    printed = CliRunner().invoke(main, ["schema"])
    assert json.loads(printed.output) == json.loads(json.dumps(SCHEMA))


def test_the_file_in_the_package_is_up_to_date() -> None:
    """`alarm-mw schema --own > alarm_mw/config/toml/schema.json` makes it, and `--path` says where it is installed."""
    printed = CliRunner().invoke(main, ["schema", "--path"]).output.strip()
    assert Path(printed) == ROOT / "alarm_mw" / "config" / "toml" / "schema.json"
    assert CliRunner().invoke(main, ["schema", "--own"]).output == Path(printed).read_text()


@pytest.mark.parametrize("name", SHOWN)
def test_it_takes_every_configuration_that_is_shown(name: str) -> None:
    """What the documentation and the examples show is right by it."""
    assert mistakes(SHOWN[name]) == []


def keys_of(part: dict[str, Any]) -> set[str]:
    return {key for each in part.get("anyOf", [part]) for key in each.get("properties", ())}


def test_it_knows_every_key() -> None:
    """No key of a file, a rule, an alarm or a monitor is missing."""
    properties = SCHEMA["properties"]
    assert {*ROOT_KEYS, *NUMBERS} == properties.keys()
    assert {*RULE_KEYS} <= keys_of(properties["rules"]["items"])
    assert keys_of(properties["alarms"]["additionalProperties"]) >= ALARM_KEYS
    assert keys_of(properties["monitors"]["items"]) >= MONITOR_KEYS


@pytest.mark.parametrize(
    "text",
    [
        WRONG,
        "recipients = 3",
        "alarm_freq = 'often'",
        "[alarms.a]\naction = 'curl'\nurls = 'http://localhost/'",
        "[alarms.a]\naction = 'cmd'",
        "[alarms.a]\nurl = 'http://localhost/'",
        "[[rules]]\npatern = 'x'\nalarms = 'a'",
        "[[rules]]\npattern = 'x'\ncount = 'many'",
        "[[monitors]]\nmonitor = 'backlog'\nnonsense = 1",
        "[web]\nlisten = 8420",
    ],
)
def test_it_finds_mistakes(text: str) -> None:
    """A wrong key, a wrong type and a missing option are marked."""
    assert mistakes(text)


@pytest.mark.parametrize("text", ["alarm_freq = '${FREQUENCY}'", "outbox.waiting = '${file:/x}'"])
def test_what_comes_from_elsewhere_may_be_anything(text: str) -> None:
    """In the place of a number there may be a variable or a file."""
    assert mistakes(text) == []


def test_an_action_that_cannot_be_used_here_may_have_any_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package that an action needs is missing, its options are not known, and none is marked as wrong."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "slixmpp" else find(name))
    config = tomllib.loads("[alarms.a]\naction = 'xmpp'\nwhatever = 1")
    assert list(Draft7Validator(schema()).iter_errors(config)) == []
    assert list(VALIDATOR.iter_errors(config)) != []
