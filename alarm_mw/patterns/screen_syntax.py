r"""A widened tree written as a pattern on bytes, in what Hyperscan and RE2 have in common.

Both are to compile it so that ``^`` and ``$`` mean every line's start and end.
"""

from __future__ import annotations

from alarm_mw.patterns.tree import Anchor, At, Chars, Choice, Node, Repeat, Sequence, codes

_BEYOND = r"\x80-\xff"
#: What a character beyond ASCII takes: its UTF-8, or one byte that is none.
_ONE_BEYOND = r"[\x80-\xff]{1,4}"
_PLACES = {
    Anchor.START: "^",
    Anchor.LINE_START: "^",
    Anchor.INNER_LINE_START: "^",
    Anchor.END: "$",
    Anchor.LINE_END: "$",
    Anchor.VERY_END: r"\z",
    Anchor.BOUNDARY: r"\b",
    Anchor.NOT_BOUNDARY: r"\B",
}


def write(node: Node) -> str:
    """Return the pattern, in ASCII."""
    match node:
        case Chars():
            return _chars(node)
        case Sequence(items):
            return "".join(f"(?:{write(item)})" if isinstance(item, Choice) else write(item) for item in items)
        case Choice(branches):
            return "|".join(map(write, branches))
        case Repeat():
            return _repeat(node)
    assert isinstance(node, At)
    return _PLACES[node.anchor]


def _repeat(node: Repeat) -> str:
    item, counts = node.item, _counts(node.least, node.most)
    if isinstance(item, Chars) and item.wide and node.most is None and node.least <= 1:
        return f"[{_ranges(item.members)}{_BEYOND}]{counts}"
    return f"{write(item) if isinstance(item, Chars) else f'(?:{write(item)})'}{counts}"


def _counts(least: int, most: int | None) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    if short:
        return short
    return f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"


def _chars(node: Chars) -> str:
    parts = [_class(node.members)] if node.members else []
    if node.wide:
        parts.append(_ONE_BEYOND)
    else:
        parts.extend(_bytes(other.encode("utf-8", "surrogateescape")) for other in node.others)
    return parts[0] if len(parts) == 1 and not node.wide and node.members else f"(?:{'|'.join(parts)})"


def _bytes(data: bytes) -> str:
    return "".join(map(_byte, data))


def _byte(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\x{code:02x}"


def _class(members: int) -> str:
    return _byte(members.bit_length() - 1) if members.bit_count() == 1 else f"[{_ranges(members)}]"


def _ranges(members: int) -> str:
    parts: list[str] = []
    while members:
        first = (members & -members).bit_length() - 1
        last = first + ((members >> first) ^ ((members >> first) + 1)).bit_length() - 2
        parts.append(_byte(first) if first == last else f"{_byte(first)}-{_byte(last)}")
        members &= ~((2 << last) - 1)
    return "".join(parts)


def required(node: Node) -> bytes:
    """Return the longest run of known bytes that every match holds; empty where there is none."""
    return max(_runs(node), key=len, default=b"")


def _runs(node: Node) -> list[bytes]:
    items = node.items if isinstance(node, Sequence) else (node,)
    runs, run = [], b""
    for item in items:
        known = _known(item)
        if known is None:
            runs.append(run)
            run = b""
            if isinstance(item, Repeat) and item.least:
                runs.append(required(item.item))
        else:
            run += known
    return [*runs, run]


def _known(node: Node) -> bytes | None:
    """Return the bytes that the node stands for, where there is no other way."""
    match node:
        case Chars(members, others, None) if members.bit_count() + len(others) == 1:
            return bytes(codes(members)) or others[0].encode("utf-8", "surrogateescape")
        case Sequence(items):
            parts = [_known(item) for item in items]
            return None if None in parts else b"".join(part for part in parts if part is not None)
        case Repeat(item, least, most) if least == most and least > 0:
            known = _known(item)
            return None if known is None else known * least
        case At():
            return b""
    return None
