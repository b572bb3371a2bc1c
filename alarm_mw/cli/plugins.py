"""``alarm-mw plugins``: the actions, with each one's options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from alarm_mw.actions import registry
from alarm_mw.errors import OptionError
from alarm_mw.interfaces import PluginOptions, secrets

#: What TOML calls the plain types.
TOML_TYPES: dict[type[msgspec.inspect.Type], str] = {
    msgspec.inspect.StrType: "string",
    msgspec.inspect.BoolType: "boolean",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.FloatType: "number",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plugins(as_json: bool) -> None:
    """List the alarm plugins with their options."""
    found = {name: describe(name) for name in registry.names()}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, facts in found.items():
        click.echo(f"{name}: {facts.get('summary') or facts['error']}")
        for option in facts.get("options", ()):
            secret = ", secret" if option["secret"] else ""
            click.echo(f"    {option['name']} ({option['type']}, {option['default']}{secret}): {option['help']}")


def describe(name: str) -> dict[str, Any]:
    """Return a plugin's summary and options, or why it cannot be used."""
    try:
        action = registry.find(name)
    except OptionError as error:
        return {"error": str(error)}
    summary = (action.__doc__ or "").strip().partition("\n")[0]
    return {"summary": summary, "options": list(_options(action.Options))}


def _options(options: type[PluginOptions]) -> Iterator[dict[str, Any]]:
    info = msgspec.inspect.type_info(options)
    assert isinstance(info, msgspec.inspect.StructType)
    masked = secrets(options)
    for field in info.fields:
        kind, text = _kind(field.type)
        facts = {"name": field.name, "type": kind, "default": _default(field), "help": text}
        yield {**facts, "secret": field.name in masked}


def _kind(kind: msgspec.inspect.Type) -> tuple[str, str]:
    """Return what TOML calls a type, and what its metadata says of it."""
    match kind:
        case msgspec.inspect.Metadata():
            return _kind(kind.type)[0], str((kind.extra_json_schema or {}).get("description", ""))
        case msgspec.inspect.UnionType():
            names = [_kind(each)[0] for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
            return " or ".join(names), ""
        case msgspec.inspect.LiteralType():
            return " or ".join(map(json.dumps, kind.values)), ""
        case msgspec.inspect.VarTupleType():
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
