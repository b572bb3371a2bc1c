"""``alarm-mw plugins``: lists actions and monitors with their options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import msgspec

from alarm_mw import actions, monitors
from alarm_mw.config.rule_sets import RULE_SETS
from alarm_mw.model.errors import OptionError
from alarm_mw.model.interfaces import Action, Monitor, PluginOptions, secrets

#: TOML's names of the plain types.
TOML_TYPES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.CustomType: "value",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plugins(as_json: bool) -> None:
    """List the alarm plugins and the monitors with their options, then the ready rule sets."""
    found = {name: describe(name) for name in actions.names()}
    watching = {name: describe(name, monitors.find) for name in monitors.names()}
    if as_json:
        sets = {name: [rule._asdict() for rule in rules] for name, rules in RULE_SETS.items()}
        click.echo(json.dumps({"actions": found, "monitors": watching, "rule_sets": sets}, indent=2))
        return
    for title, plugins in (("actions", found), ("monitors", watching)):
        click.echo(f"{title}:")
        _show(plugins)
    click.echo("rule sets:")
    for name, rules in RULE_SETS.items():
        click.echo(f"{name}:")
        for rule in rules:
            click.echo(f"    {name}.{rule.name}: {rule.meaning}\n        {rule.pattern}")


@click.command()
@click.option("--own", is_flag=True, help="Leave out the plugins of other packages.")
@click.option("--path", "wants_path", is_flag=True, help="Print where the schema without these is installed.")
def schema(own: bool, wants_path: bool) -> None:
    """Print a JSON schema of TOML files, with which editors complete and check them.

    The first line of a configuration names it. That may be the file that is installed with this program, as --path
    prints it, or a copy beside the configuration, with the plugins of other packages: "#:schema alarm-mw.schema.json".
    """
    from alarm_mw.config.toml.schema import FILE  # noqa: PLC0415  # it imports every plugin
    from alarm_mw.config.toml.schema import schema as make  # noqa: PLC0415

    click.echo(FILE if wants_path else json.dumps(make(is_own=own), indent=1, ensure_ascii=False))


def _show(plugins: Mapping[str, dict[str, Any]]) -> None:
    for name, facts in plugins.items():
        click.echo(f"{name}: {facts.get('summary') or facts['error']}")
        for option in facts.get("options", ()):
            secret = ", secret" if option["secret"] else ""
            click.echo(f"    {option['name']} ({option['type']}, {option['default']}{secret}): {option['help']}")


def describe(name: str, find: Callable[[str], type[Action | Monitor]] = actions.find) -> dict[str, Any]:
    """Return a plugin's summary and options, or why it cannot be used."""
    try:
        plugin = find(name)
    except OptionError as error:
        return {"error": str(error)}
    summary = (plugin.__doc__ or "").strip().partition("\n")[0]
    return {"summary": summary, "options": list(_options(plugin.Options))}


def _options(options: type[PluginOptions]) -> Iterator[dict[str, Any]]:
    info = msgspec.inspect.type_info(options)
    assert isinstance(info, msgspec.inspect.StructType)
    masked = secrets(options)
    for field in info.fields:
        kind, text = _kind(field.type)
        facts = {"name": field.name, "type": kind, "default": _default(field), "help": text}
        yield {**facts, "secret": field.name in masked}


def _kind(kind: msgspec.inspect.Type) -> tuple[str, str]:
    """Return TOML's name of a type, and the description in its metadata."""
    match kind:
        case msgspec.inspect.Metadata():
            return _kind(kind.type)[0], str((kind.extra_json_schema or {}).get("description", ""))
        case msgspec.inspect.UnionType():
            names = [_kind(each)[0] for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
            return " or ".join(names), ""
        case msgspec.inspect.LiteralType():
            return " or ".join(map(json.dumps, kind.values)), ""
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return f"array of {_kind(kind.item_type)[0]}s", ""
        case msgspec.inspect.DictType():
            return f"table of {_kind(kind.value_type)[0]}s", ""
        case _:
            return TOML_TYPES[type(kind)], ""


def _default(field: msgspec.inspect.Field) -> str:
    if field.required:
        return "required"
    if field.default is None or field.default is msgspec.NODEFAULT:
        return "optional"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"default {json.dumps(value)}"
