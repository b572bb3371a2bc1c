"""Values as TOML writes them; what TOML cannot hold raises `ValueError` with a sentence for the user."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: What a string in single quotes may hold: it has no escapes, so that regexps stay as they are.
_LITERAL = re.compile(r"[^'\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def write_value(value: object) -> str:
    """Return a string, number, boolean, array or table as the right side of ``key = value``.

    Strings read back as they are, ``${`` included, which TOML files here write as ``$${``.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value.replace("${", "$${"))
        case list() | tuple():
            return f"[{', '.join(map(write_value, value))}]"
        case Mapping():
            return f"{{ {', '.join(f'{write_key(key)} = {write_value(inner)}' for key, inner in value.items())} }}"
    raise ValueError(f"TOML has no value for {value!r}")


def write_key(key: str) -> str:
    """Return a key, in quotes where it must be."""
    return key if _BARE.fullmatch(key) else _basic(key)


def _string(text: str) -> str:
    return f"'{text}'" if "\\" in text and _LITERAL.fullmatch(text) else _basic(text)


def _basic(text: str) -> str:
    if found := _SURROGATE.search(text):
        byte = ord(found[0]) & 0xFF
        raise ValueError(f"the byte 0x{byte:02x} is no UTF-8 there, and TOML holds nothing else")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
