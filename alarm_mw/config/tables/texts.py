"""What messages say: labels, names, and the templates of alarms."""

from __future__ import annotations

import re

from alarm_mw.config.tables.tree import Table, kind_of, name_of, read_text
from alarm_mw.model.interfaces import PluginOptions
from alarm_mw.model.types import Texts
from alarm_mw.system.forks import held_off

#: A label's name, as all of Prometheus's tools take it.
_LABEL = "[A-Za-z_][A-Za-z0-9_]*"

#: A server's name becomes that of a directory.
_SERVER = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

#: What would end a line, or could not be shown.
_HIDDEN = "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"

_UWSGI = "uwsgi"
_MESSAGES = ("human", _UWSGI)


def read_labels(table: Table) -> tuple[tuple[str, str], ...]:
    """Return the table under ``labels``."""
    labels = table.table("labels", f"{table.name}: labels" if table.name else "labels")
    if labels is None:
        return ()
    return tuple(label for name, value in labels.values.items() if (label := _label(labels, name, value)) is not None)


def _label(labels: Table, name: str, value: object) -> tuple[str, str] | None:
    if not re.fullmatch(_LABEL, str(name)):
        labels.wrong(f"{name!r}: a label's name is made of letters, digits and _, and begins with no digit", name)
    elif not isinstance(value, str):
        labels.wrong(f"{name}: expected a string, got {kind_of(value)}", name)
    elif re.search(_HIDDEN, value):
        labels.wrong(f"{name}: expected text without line ends and control characters", name)
    elif not labels.is_broken(name):
        return name, value
    return None


def read_server_name(root: Table) -> str:
    """Return the server's name, empty where it has none."""
    name = read_text(root, "name") or ""
    if name and not is_server_name(name):
        root.wrong(f"name: {SERVER_NAME}, got {name!r}", "name")
        return ""
    return name


#: What a server's name is.
SERVER_NAME = "expected letters, digits, '_', '-' and '.', at most 64, a letter or digit first"


def is_server_name(name: str) -> bool:
    """Return whether a server may have this name."""
    return re.fullmatch(_SERVER, name) is not None


def read_rule_name(table: Table) -> str:
    """Return the rule's name, empty where it has none."""
    name = read_text(table, "name") or ""
    if re.search(_HIDDEN, name):
        table.wrong("name: expected text without line ends and control characters", "name")
        return ""
    return name


def read_texts(table: Table, options: type[PluginOptions], default: Texts | None) -> Texts | None:
    """Return what an alarm of this table says to people, `default` without templates; they are checked.

    A key that its action has as an option of its own is the action's.
    """
    texts = {key: read_text(table, key) or "" for key in ("title", "text") if key not in options.__struct_fields__}
    for key, value in texts.items():
        if value and not options.has_texts:
            table.wrong(f"{key}: this action has no text for people", key)
        elif value:
            _check(table, key, value)
    found = Texts(**texts) if any(texts.values()) else default
    for key in options.templates if found is not None else ():
        if isinstance(given := table.values.get(key), str):
            _check(table, key, given)
    return found


def check_options(alarms: Table, options: PluginOptions, name: str) -> None:
    """Note what is wrong in those options of the alarm `name`, in uWSGI's short form, that are templates."""
    for key in options.templates:
        _check(alarms, f"{name_of((*alarms.path, name))}: {key}", getattr(options, key), name)


def is_uwsgi(root: Table) -> bool:
    """Return whether alarms without templates send uWSGI's messages, byte for byte."""
    value = read_text(root, "messages") or ""
    if value not in {"", *_MESSAGES}:
        root.wrong(f"messages: expected 'human' or 'uwsgi', got {value!r}", "messages")
    return value == _UWSGI


def _check(table: Table, key: str, text: str, *path: str) -> None:
    if "{" not in text and "}" not in text:
        return
    with held_off():  # a start without templates need not wait for it
        from alarm_mw.texts.templates import TemplateError, template  # noqa: PLC0415
    try:
        template(text)
    except TemplateError as error:
        table.wrong(f"{key}: {error}", *(path or (key,)))
