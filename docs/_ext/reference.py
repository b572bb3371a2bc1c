"""Directives that write the reference from the code: actions, monitors, options, reasons, commands, modules.

Each one makes Markdown and has it parsed where it stands, so that it looks like the page around it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import alarm_mw
from alarm_mw import actions, monitors
from alarm_mw.cli.main import main
from alarm_mw.cli.plugins import describe
from alarm_mw.config.parts import NUMBERS
from alarm_mw.config.rule_sets import RULE_SETS
from alarm_mw.config.settings import MetricsListener, Notify, Settings, StreamRecords, Upkeep
from alarm_mw.config.tables.conditions.requests import RequestKeys
from alarm_mw.config.tables.fleet import FleetOptions
from alarm_mw.config.tables.follow import FollowTable
from alarm_mw.config.tables.incidents import EscalationKeys, IncidentKeys
from alarm_mw.config.tables.marks import InhibitRuleKeys, TimeIntervalKeys
from alarm_mw.config.tables.measures import MeasureKeys
from alarm_mw.config.tables.routes import RouteKeys
from alarm_mw.config.tables.web import WebOptions, WebProxy, WebToken, WebUser
from alarm_mw.delivery.outbox.limits import IN_MEMORY, MIB, ON_DISK, Amount, OutboxOptions, State
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.engine.flood_control.fingerprint import MASKS, PARTS
from alarm_mw.engine.flood_control.limits import Limits
from alarm_mw.master.control import prometheus
from alarm_mw.model.interfaces import Action, Execution, Monitor
from alarm_mw.model.types import FieldNames, Reason
from alarm_mw.texts import templates
from alarm_mw.web.api.v1.handlers import OPERATIONS


class Generated(SphinxDirective):
    """Writes the Markdown that `lines` makes."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        """Return the page's nodes."""
        return self.parse_text_to_nodes("\n".join(self.lines()))

    def lines(self) -> Iterable[str]:
        """Return lines of Markdown."""
        raise NotImplementedError


class PluginOptionsTable(Generated):
    """What a plugin is, and its options."""

    required_arguments = 1

    def find(self, name: str) -> type[Action | Monitor]:
        """Return the plugin of that name."""
        raise NotImplementedError

    def lines(self) -> Iterator[str]:
        """Return the class's docstring and a table of its options."""
        name = self.arguments[0]
        facts = describe(name, self.find)
        if "error" in facts:
            raise self.error(facts["error"])
        yield from inspect.cleandoc(self.find(name).__doc__ or "").splitlines()
        yield ""
        yield from table(("option", "type", "default", "meaning"), map(_option, facts["options"]))


class ActionOptions(PluginOptionsTable):
    """``{action} NAME``: what an action is, and its options."""

    def find(self, name: str) -> type[Action | Monitor]:
        """Return the action."""
        return actions.find(name)


class MonitorOptions(PluginOptionsTable):
    """``{monitor} NAME``: what a monitor is, and its options."""

    def find(self, name: str) -> type[Action | Monitor]:
        """Return the monitor."""
        return monitors.find(name)


def _option(option: Mapping[str, Any]) -> tuple[str, ...]:
    default = option["default"]
    shown = f"`{default.removeprefix('default ')}`" if default.startswith("default ") else default
    meaning = f"{option['help']}; masked wherever it is shown" if option["secret"] else option["help"]
    return f"`{option['name']}`", option["type"], shown, meaning


class LimitKeys(Generated):
    """``{limits}``: the keys of an alarm's ``limits`` table."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `Limits`."""
        info = msgspec.inspect.type_info(Limits)
        assert isinstance(info, msgspec.inspect.StructType)
        return table(("key", "meaning"), ((f"`{field.name}`", _help(field.type)) for field in info.fields))


class Masks(Generated):
    """``{masks}``: what fingerprints do not depend on."""

    def lines(self) -> Iterator[str]:
        """Return a table of `MASKS`."""
        rows = (
            (f"`<{mask.name}>`", mask.description, ", ".join(f"`{text}`" for text in mask.examples)) for mask in MASKS
        )
        return table(("in its place", "masked", "examples"), rows)


class FingerprintParts(Generated):
    """``{fingerprint-parts}``: what fingerprints can be made of."""

    def lines(self) -> Iterator[str]:
        """Return a table of `PARTS`."""
        return table(("part", "meaning"), ((f"`{name}`", meaning) for name, meaning in PARTS.items()))


class KeysOf(Generated):
    """The keys of a table that becomes a struct."""

    kind: type[msgspec.Struct]

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `kind`."""
        info = msgspec.inspect.type_info(self.kind)
        assert isinstance(info, msgspec.inspect.StructType)
        return table(("key", "meaning"), ((f"`{field.encode_name}`", _help(field.type)) for field in info.fields))


class IncidentKeyTable(KeysOf):
    """``{incidents}``: the keys of a rule that are about its incidents."""

    kind = IncidentKeys


class MeasureKeyTable(KeysOf):
    """``{measures}``: the keys of a rule about what it measures."""

    kind = MeasureKeys


class NotifyKeys(KeysOf):
    """``{notify}``: the keys of an alarm's ``notify`` table."""

    kind = Notify


class EscalationKeyTable(KeysOf):
    """``{escalations}``: the keys of ``[escalations.NAME]``."""

    kind = EscalationKeys


class TimeIntervalKeyTable(KeysOf):
    """``{time-intervals}``: the keys of ``[time_intervals.NAME]``."""

    kind = TimeIntervalKeys


class RouteKeyTable(KeysOf):
    """``{routes}``: the keys of ``[[routes]]``."""

    kind = RouteKeys


class InhibitRuleKeyTable(KeysOf):
    """``{inhibit-rules}``: the keys of ``[[inhibit_rules]]``."""

    kind = InhibitRuleKeys


class RequestConditionKeys(Generated):
    """``{requests}``: the keys of a rule's ``request`` table."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `RequestKeys`."""
        info = msgspec.inspect.type_info(RequestKeys)
        assert isinstance(info, msgspec.inspect.StructType)
        return table(("key", "condition"), ((f"`{field.name}`", _help(field.type)) for field in info.fields))


class DeliveryKeys(Generated):
    """``{delivery}``: the keys of an alarm's ``delivery`` table."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `DeliveryPolicy`."""
        info = msgspec.inspect.type_info(DeliveryPolicy)
        assert isinstance(info, msgspec.inspect.StructType)
        rows = ((f"`{field.name}`", _number(field.default), _help(field.type)) for field in info.fields)
        return table(("key", "default", "meaning"), rows)


class ExecutionKeys(Generated):
    """``{execution}``: the keys of the table ``[execution]``."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `Execution`."""
        rows = ((f"`{field.name}`", _help(field.type)) for field in _fields(Execution))
        return table(("key", "meaning"), rows)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else ""


def _help(kind: msgspec.inspect.Type) -> str:
    assert isinstance(kind, msgspec.inspect.Metadata)
    return str((kind.extra_json_schema or {})["description"])


class UpkeepKeys(Generated):
    """``{upkeep}``: the keys that say how a master looks after itself."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `Upkeep`, and of the table ``[metrics]``."""
        fields = [(field.name, field) for field in _fields(Upkeep)]
        fields += [(f"metrics.{field.name}", field) for field in _fields(MetricsListener)]
        rows = ((f"`{name}`", f"`{msgspec.json.encode(f.default).decode()}`", _help(f.type)) for name, f in fields)
        return table(("key", "default", "meaning"), rows)


class WebKeys(Generated):
    """``{web}``: the keys of ``[web]``, and of the tables in it."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `WebOptions` and its tables."""
        rows: list[tuple[str, ...]] = []
        kinds: tuple[tuple[str, type[msgspec.Struct]], ...] = (
            ("", WebOptions),
            ("users.", WebUser),
            ("tokens.", WebToken),
            ("proxy.", WebProxy),
        )
        for prefix, kind in kinds:
            for field in _fields(kind):
                if isinstance(field.type, msgspec.inspect.Metadata):
                    default = "" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
                    rows.append((f"`{prefix}{field.name}`", default, _help(field.type)))
        return table(("key", "default", "meaning"), rows)


class FleetKeys(Generated):
    """``{fleet}``: the keys of ``[fleet]``."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `FleetOptions`."""
        rows = [
            (
                f"`{field.name}`",
                "" if field.required else f"`{msgspec.json.encode(field.default).decode()}`",
                _help(field.type),
            )
            for field in _fields(FleetOptions)
            if isinstance(field.type, msgspec.inspect.Metadata)
        ]
        own = (
            ("`labels`", "", "table of names and values that `alarm-mw fleet` shows with the machine"),
            ("`alarms`", "", "the alarms that fire when a machine falls silent; by default `own_alarms`"),
        )
        return table(("key", "default", "meaning"), [*rows, *own])


class RecordKeys(Generated):
    """``{records}``: the keys of the tables of ``[records]``."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `StreamRecords`."""
        fields = [(field.encode_name, field) for field in _fields(StreamRecords)]
        rows = ((f"`{name}`", f"`{msgspec.json.encode(f.default).decode()}`", _help(f.type)) for name, f in fields)
        return table(("key", "default", "meaning"), rows)


class FieldNameKeys(Generated):
    """``{field-names}``: the keys of the table ``[records.names]``."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `FieldNames`."""
        rows = (
            (f"`{field.name}`", _help(field.type), ", ".join(f"`{name}`" for name in field.default))
            for field in _fields(FieldNames)
        )
        return table(("key", "fact", "names by default, the first that a line has counts"), rows)


class FollowKeys(Generated):
    """``{follow}``: the keys of the tables ``[[follow]]``."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `FollowTable`."""
        rows = (
            (f"`{field.name}`", "" if field.default is None else f"`{field.default}`", _help(field.type))
            for field in _fields(FollowTable)
        )
        return table(("key", "default", "meaning"), rows)


def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.inspect.Field, ...]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return info.fields


class Numbers(Generated):
    """``{numbers}``: the keys at the top of a TOML file that are numbers."""

    def lines(self) -> Iterator[str]:
        """Return a table of the numbers in `Settings`."""
        comments = _comments("alarm_mw.config.settings", "Settings")
        rows = (
            (f"`{name}`", f"{getattr(Settings(), name):g}", f"{comments[name]} Accepted: {expected}.")
            for name, (_, expected) in NUMBERS.items()
        )
        return table(("key", "default", "meaning"), rows)


class PrometheusMetrics(Generated):
    """``{prometheus}``: every metric that Prometheus is shown."""

    def lines(self) -> Iterator[str]:
        """Return a table of the metrics with their labels."""
        rows = [(*facts, "source", column) for column, facts in prometheus.OF_SOURCES.items()]
        rows += [(*facts, "alarm", column) for column, facts in prometheus.OF_ALARMS.items()]
        rows += [(*facts, "rule", column) for column, facts in prometheus.OF_RULES.items()]
        shown = [(f"`{name}`", f"`{{{_labels(label, column)}}}`", text) for name, text, label, column in rows]
        yield from table(("metric", "labels", "meaning"), shown)
        yield ""
        yield from (f"- `{name}`: {text}" for name, text in prometheus.OF_MASTER.items())
        yield from (f"- `{name}`, in a fleet: {text}" for name, text in prometheus.OF_FLEET.items())
        yield from (f"- `{name}`, where logs are followed: {text}" for name, text in prometheus.OF_FOLLOWED.items())


class HttpApi(Generated):
    """``{http-api}``: the operations of the HTTP API."""

    def lines(self) -> Iterator[str]:
        """Return a table of the operations."""
        rows = ((f"`{each.method} {each.path}`", each.text.partition("\n\n")[0], str(each.role)) for each in OPERATIONS)
        return table(("operation", "meaning", "role"), rows)


def _labels(label: str, column: str) -> str:
    if label == "rule":
        return "rule, reason" if column == "resolved" else label
    return f"{label}, reason" if column in ("skipped", "held_back", "dead", "dropped") else label


class OutboxKeys(Generated):
    """``{outbox-keys}``: the keys of the table ``[outbox]``, with what is meant where they are missing."""

    def lines(self) -> Iterator[str]:
        """Return a table of the fields of `OutboxOptions`."""
        states = {"waiting": State.WAITING, "dead": State.DEAD, "history": State.DELIVERED}
        rows = []
        for field in _fields(OutboxOptions):
            name, _, unit = field.name.partition("_")
            disk, memory = (_default(bounds[states[name]], unit) for bounds in (ON_DISK, IN_MEMORY))
            rows.append((f"`{field.name}`", disk, memory, _help(field.type)))
        return table(("key", "on disk", "in memory", "meaning"), rows)


def _default(bound: Amount, unit: str) -> str:
    return {"": f"{bound.count:,}", "mib": f"{bound.size // MIB}"}.get(unit, "")


class Reasons(Generated):
    """``{reasons}``: every reason and what it says."""

    def lines(self) -> Iterator[str]:
        """Return a table of the members of `Reason`."""
        comments = _comments("alarm_mw.model.types", "Reason")
        return table(("reason", "meaning"), ((f"`{reason}`", comments[reason.name]) for reason in Reason))


class CommandHelp(Generated):
    """``{command-help} VERB``: what ``alarm-mw VERB --help`` prints; the same without a verb, or with a second one."""

    optional_arguments = 2

    def lines(self) -> Iterator[str]:
        """Return the help text as a block."""
        runner = CliRunner()
        shown = runner.invoke(main, [*self.arguments, "--help"], prog_name="alarm-mw", terminal_width=100)
        yield "```text"
        yield from shown.stdout.splitlines()
        yield "```"


class RuleSets(Generated):
    """``{rule-sets}``: every rule of every set, with what it means."""

    def lines(self) -> Iterator[str]:
        """Return a table of the rules."""
        rows = ((f"`{name}.{rule.name}`", rule.meaning) for name, rules in RULE_SETS.items() for rule in rules)
        return table(("rule", "event"), rows)


def _comments(module: str, scope: str) -> dict[str, str]:
    """Return what the ``#:`` comments of a class say, by attribute."""
    found = ModuleAnalyzer.for_module(module).find_attr_docs()
    return {name: " ".join(lines).strip() for (owner, name), lines in found.items() if owner == scope}


class TemplateNames(Generated):
    """``{template-names}``: what can stand in the braces of a template."""

    def lines(self) -> Iterator[str]:
        """Return a table of the names."""
        rows = [(f"`{{{name}}}`", meaning) for name, (meaning, _) in templates.NAMES.items()]
        rows += [(f"`{{{group}.NAME}}`", meaning) for group, (meaning, _) in templates.GROUPS.items()]
        return table(("name", "value"), rows)


class TemplateFilters(Generated):
    """``{template-filters}``: what can stand behind a name."""

    def lines(self) -> Iterator[str]:
        """Return a table of the filters."""
        rows = [(f"`{name}`", meaning) for name, (meaning, _) in templates.FILTERS.items()]
        rows += [
            (f"`{name}:{'80' if is_number else 'TEXT'}`", meaning)
            for name, (meaning, is_number, _) in templates.FILTERS_WITH.items()
        ]
        return table(("filter", "result"), rows)


class Modules(Generated):
    """``{modules}``: a table of the modules of each folder, with what each says of itself."""

    def lines(self) -> Iterator[str]:
        """Return a heading, a sentence and a table for each folder."""
        root = Path(alarm_mw.__file__).parent
        for folder in sorted({file.parent for file in root.rglob("*.py")}):
            yield from ("", f"**{folder.relative_to(root.parent)}/**: {_first_line(folder / '__init__.py')}", "")
            files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
            yield from table(("module", "subject"), ((f"`{file.name}`", _first_line(file)) for file in files))


def _first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Return a Markdown table."""
    yield _row(head)
    yield _row(("---",) * len(head))
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


DIRECTIVES: dict[str, type[Directive]] = {
    "action": ActionOptions,
    "monitor": MonitorOptions,
    "delivery": DeliveryKeys,
    "execution": ExecutionKeys,
    "follow": FollowKeys,
    "requests": RequestConditionKeys,
    "limits": LimitKeys,
    "masks": Masks,
    "fingerprint-parts": FingerprintParts,
    "incidents": IncidentKeyTable,
    "measures": MeasureKeyTable,
    "notify": NotifyKeys,
    "escalations": EscalationKeyTable,
    "time-intervals": TimeIntervalKeyTable,
    "inhibit-rules": InhibitRuleKeyTable,
    "routes": RouteKeyTable,
    "numbers": Numbers,
    "outbox-keys": OutboxKeys,
    "records": RecordKeys,
    "field-names": FieldNameKeys,
    "upkeep": UpkeepKeys,
    "web": WebKeys,
    "fleet": FleetKeys,
    "prometheus": PrometheusMetrics,
    "http-api": HttpApi,
    "reasons": Reasons,
    "command-help": CommandHelp,
    "rule-sets": RuleSets,
    "modules": Modules,
    "template-names": TemplateNames,
    "template-filters": TemplateFilters,
}


def setup(app: Sphinx) -> dict[str, object]:
    """Add the directives (Sphinx's extension interface)."""
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
