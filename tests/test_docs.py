"""The documentation: complete, true, and built without a warning."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import blinker
import click
import msgspec
import pytest
from matrix_rows import PROGRAMS, SERVERS
from once import once
from waiting import LIMIT

import alarm_mw
from alarm_mw import actions, monitors, signals
from alarm_mw.cli.main import main
from alarm_mw.config.parts import NUMBERS
from alarm_mw.config.settings import MetricsListener, Notify
from alarm_mw.config.tables import rules, tables
from alarm_mw.config.tables.incidents import EscalationKeys, StepKeys
from alarm_mw.config.tables.monitors import MONITOR_KEYS
from alarm_mw.config.tables.routes import RouteKeys
from alarm_mw.config.tables.web import WebOptions, WebProxy, WebToken, WebUser
from alarm_mw.config.uwsgi import options
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.engine.incidents.incident import Status
from alarm_mw.engine.ledger import AlarmRow, RuleRow, SourceRow
from alarm_mw.master.control.prometheus import OF_ALARMS, OF_FLEET, OF_MASTER, OF_RULES, OF_SOURCES
from alarm_mw.model.types import Reason

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if "_build" not in page.parts)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module("listings")


def build(form: str, folder: Path) -> None:
    """Build the documentation in one form; what was read for another is used again."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", form, "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [*command, str(DOCS), str(folder / form)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the pages as a reader sees them, by name."""
    text = once(tmp_path_factory, "docs", lambda folder: build("text", folder)) / "text"
    return {
        str(page.relative_to(text).with_suffix("")): page.read_text(encoding="utf-8") for page in text.rglob("*.txt")
    }


def test_the_site_is_built(built: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """`make docs` has no warning, and a page for each."""
    folder = once(tmp_path_factory, "docs", lambda folder: build("text", folder))
    build("html", folder)
    assert all((folder / "html" / f"{name}.html").is_file() for name in built)


def _sections(page: str) -> dict[str, str]:
    """Return what stands below each heading of the second level."""
    _, *parts = re.split(r"^(\S.*)\n=+$", page, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_true(page: str, listings: ModuleType, tmp_path: Path) -> None:
    """Programs on a page run, configurations are accepted, commands print what is shown below them."""
    listings.run_page(DOCS / page, tmp_path)


@pytest.mark.parametrize("name", actions.names())
def test_every_action_has_its_page_with_every_option(name: str, built: dict[str, str]) -> None:
    """Each action has a page, which names each of its options."""
    section = built[f"actions/{name}"]
    for option in msgspec.structs.fields(actions.find(name).Options):
        assert f'"{option.encode_name}"' in section


@pytest.mark.parametrize("name", monitors.names())
def test_every_monitor_has_its_page_with_every_option(name: str, built: dict[str, str]) -> None:
    """Each monitor has a page, which names each of its options."""
    section = built[f"monitors/{name}"]
    for option in msgspec.structs.fields(monitors.find(name).Options):
        assert f'"{option.encode_name}"' in section


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason, built: dict[str, str]) -> None:
    """The page on the ledger says of each reason why it is there."""
    row = next(line for line in built["ledger"].splitlines() if f'| "{reason}" ' in line)
    assert row.split("|")[2].strip()


@pytest.mark.parametrize("column", [*SourceRow.__annotations__, *AlarmRow.__annotations__, *RuleRow.__annotations__])
def test_every_column_of_the_ledger_is_explained(column: str, built: dict[str, str]) -> None:
    """The page on the ledger names each of its columns."""
    assert f'"{column}"' in built["ledger"]


METRICS = [
    *(name for name, _ in (*OF_SOURCES.values(), *OF_ALARMS.values(), *OF_RULES.values())),
    *OF_MASTER,
    *OF_FLEET,
    "alarm_mw_build_info",
]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained(metric: str, built: dict[str, str]) -> None:
    """The page on metrics names each that Prometheus is shown."""
    assert f'"{metric}"' in built["metrics"]


VERBS = main.list_commands(click.Context(main))


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_documented(verb: str, built: dict[str, str]) -> None:
    """The page on the command line shows each command with all of its options."""
    section = _sections(built["cli"])[f"alarm-mw {verb}"]
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    for parameter in command.params:
        for option in parameter.opts:
            assert not option.startswith("-") or option in section


@pytest.mark.parametrize("option", sorted({*options.ALARM_OPTIONS}))
def test_every_option_of_uwsgi_is_documented(option: str, built: dict[str, str]) -> None:
    """The page on configuration names each of uWSGI's alarm options and aliases."""
    assert f'"{option}"' in built["configuration"]


@pytest.mark.parametrize(
    "key",
    # In the same order in every process that shares the tests.
    sorted(
        {
            *NUMBERS,
            *rules.RULE_KEYS,
            *tables.ALARM_KEYS,
            *MONITOR_KEYS,
            *DeliveryPolicy.__struct_fields__,
            *tables.ROOT_KEYS,
            *(f"metrics.{name}" for name in MetricsListener.__struct_fields__),
            *(name for name in WebOptions.__struct_fields__ if name not in {"users", "tokens", "proxy"}),
            *(f"users.{name}" for name in WebUser.__struct_fields__),
            *(f"tokens.{name}" for name in WebToken.__struct_fields__),
            *(f"proxy.{name}" for name in WebProxy.__struct_fields__),
            *Limits.__struct_fields__,
        }
    ),
)
def test_every_key_of_toml_is_documented(key: str, built: dict[str, str]) -> None:
    """The page on configuration names each key of a TOML file."""
    assert f'"{key}"' in built["configuration"] or f"[{key}]" in built["configuration"]


SIGNALS = [f"signals.{name}" for name, value in vars(signals).items() if isinstance(value, blinker.Signal)]


@pytest.mark.parametrize("name", [*alarm_mw.__all__, *SIGNALS])
def test_every_public_name_is_documented(name: str, built: dict[str, str]) -> None:
    """The page on the Python API names everything that the package offers."""
    assert f"alarm_mw.{name}" in built["api"]


def test_every_module_can_be_found(built: dict[str, str]) -> None:
    """The page on the architecture has a line for each module, and each says in it what it is."""
    package = Path(alarm_mw.__file__).parent
    for file in package.rglob("*.py"):
        name = f"{file.parent.relative_to(package.parent)}/" if file.name == "__init__.py" else f'"{file.name}"'
        assert name in built["architecture"]
        assert (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").strip()


def test_every_tested_server_is_shown(built: dict[str, str]) -> None:
    """The page on tested servers has a row for each row of their matrix."""
    lines = re.findall(r"^\+-", built["tested-servers"], re.MULTILINE)
    assert len(lines) == len([*SERVERS, *PROGRAMS]) + 1


@pytest.mark.parametrize("word", ["Slack", "email", "webhook", "Template", "Docker", "systemd", "cron", "Kubernetes"])
def test_what_people_search_for_has_a_section(word: str, built: dict[str, str]) -> None:
    """Each word that people search for stands in the heading of a section."""
    heading = re.compile(rf"^.*\b{word}.*\n([=\-~*])\1+$", re.MULTILINE)
    assert any(heading.search(page) for page in built.values())


def _words_of_tables(page: str) -> set[str]:
    """Return the code in the second columns of a page's tables."""
    rows = [line.split("|") for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return {word for _, _, here, *_ in rows for word in re.findall(r"`([^`]+)`", here)}


def _is_there(word: str) -> bool:
    """Return whether a key, a table, a command with its options, a variable of commands or a status exists."""
    if word.startswith("alarm-mw "):
        verb, *options = word.split()[1:]
        command = main.get_command(click.Context(main), verb)
        known = {option for parameter in command.params for option in parameter.opts} if command else set()
        return command is not None and {option for option in options if option.startswith("-")} <= known
    if word.startswith("--"):
        commands = [main.get_command(click.Context(main), verb) for verb in VERBS]
        return any(word in parameter.opts for command in commands if command for parameter in command.params)
    if word.startswith("["):
        return word.strip("[]").partition(".")[0] in tables.ROOT_KEYS
    key = word.partition(" = ")[0].removesuffix("()").rpartition(".")[2]
    return key in {
        *tables.ROOT_KEYS,
        *tables.ALARM_KEYS,
        *rules.RULE_KEYS,
        *monitors.names(),
        *actions.names(),
        *alarm_mw.__all__,
        *(field for keys in _STRUCTS for field in keys.__struct_fields__),
        *Status,
        *(f"ALARM_{name}" for name in ("STATUS", "KEY")),
    }


_STRUCTS: tuple[type[msgspec.Struct], ...] = (
    DeliveryPolicy,
    Limits,
    Notify,
    EscalationKeys,
    StepKeys,
    RouteKeys,
    monitors.find("heartbeat").Options,
)

#: A pattern of names, and a label: what a user chooses.
_EXAMPLES = {"worker-*", "severity"}


def test_the_words_of_other_tools_are_translated_into_ours() -> None:
    """Each key, command and option that the page names exists."""
    words = _words_of_tables("coming-from-others.md") - _EXAMPLES
    assert {word for word in words if not _is_there(word)} == set()
