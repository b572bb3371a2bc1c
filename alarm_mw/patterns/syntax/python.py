"""Python's own parse of a pattern, as a `Tree`: what `re` understands is what the rules mean."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import cache

# What a pattern means is what Python's parser says; the standard library has no public door to it.
from re import _compiler, _parser  # type: ignore[attr-defined]  # noqa: PLC2701  # private, and not in typeshed
from typing import Any

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.tree import (
    NOTHING,
    Anchor,
    At,
    Atomic,
    BackReference,
    Chars,
    Condition,
    Group,
    Look,
    Mood,
    Node,
    Repeat,
    Source,
    Tree,
    choice,
    sequence,
)

#: What `re` gives for an item of its parse tree: the name of an operation and its argument.
Item = tuple[Any, Any]

_ASCII = "".join(map(chr, range(128)))
#: The only characters beyond ASCII that are the same as ASCII letters when case is ignored: İ ı ſ K.  # noqa: RUF003 - these are the characters meant
TWINS = "\u0130\u0131\u017f\u212a"
_TYPES = re.ASCII | re.UNICODE | re.LOCALE
#: At most this many members beyond ASCII are listed one by one.
_FEW = 8
_BEYOND_ASCII = 128


#: Constructs of which only compiling shows whether they are valid, such as a lookbehind without a fixed length.
_DOUBTFUL = re.compile(r"\(\?[<(PR&0-9]|\(\*|\\[1-9gk]|\{[0-9,]{5}")
#: From this many groups on, they may be nested too deeply.
_MANY_GROUPS = 30


def is_doubtful(pattern: str) -> bool:
    """Return whether a pattern that was parsed may still be refused by Python's compiler."""
    return _DOUBTFUL.search(pattern) is not None or pattern.count("(") > _MANY_GROUPS


def understood(pattern: str) -> tuple[re.Pattern[str], Tree]:
    """Return a pattern compiled, and its tree; raise `PatternError` where it is wrong."""
    tree, compiled = read(pattern)
    return compiled or re.compile(pattern), tree


def read(pattern: str) -> tuple[Tree, re.Pattern[str] | None]:
    """Return a pattern's tree, and the pattern compiled where its validity took that.

    Raises `PatternError` where it is wrong.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            # What Python may read otherwise one day is what this Python says today.
            warnings.simplefilter("always")
            tree = parse(pattern)
            return tree, re.compile(pattern) if warned or is_doubtful(pattern) else None
    except re.error as error:
        raise PatternError(error.msg, error.pos) from None
    except (OverflowError, ValueError):  # Python reads no decimal number of more than some thousand digits
        raise PatternError("a number is too high") from None
    except RecursionError:
        raise PatternError("groups are nested too deeply") from None


def parse(pattern: str) -> Tree:
    """Return the tree of a pattern in Python's syntax; raise `re.error`."""
    parsed = _parser.parse(pattern)
    return Tree(_sequence(parsed, re.RegexFlag(parsed.state.flags)), text=True)


def _sequence(items: Iterable[Item], flags: re.RegexFlag) -> Node:
    return sequence(*(to_node(str(name), argument, flags) for name, argument in items))


def to_node(name: str, argument: Any, flags: re.RegexFlag) -> Node:  # noqa: ANN401, PLR0911  # re's trees have no types
    """Return the node for an operation of `re`'s parser, by its name; ``FAILURE`` is new in Python 3.12."""
    match name:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "RANGE" | "CATEGORY":
            return _chars(name, argument, flags)
        case "AT":
            return _at(str(argument), flags)
        case "BRANCH":
            return choice(*(_sequence(branch, flags) for branch in argument[1]))
        case "SUBPATTERN":
            number, add, remove, items = argument
            return _group(number, _sequence(items, _scoped(flags, add, remove)))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return _repeat(name, argument, flags)
        case "ATOMIC_GROUP":
            return Atomic(_sequence(argument, flags))
        case "ASSERT" | "ASSERT_NOT":
            direction, items = argument
            return Look(_sequence(items, flags), ahead=direction > 0, negative=name == "ASSERT_NOT")
        case "GROUPREF":
            return BackReference(argument, ignore_case=bool(flags & re.IGNORECASE))
        case "GROUPREF_EXISTS":
            number, yes, no = argument
            return Condition(number, _sequence(yes, flags), _sequence(no or (), flags))
    assert name == "FAILURE", name
    return NOTHING


def _scoped(flags: re.RegexFlag, add: int, remove: int) -> re.RegexFlag:
    if add & _TYPES:
        flags &= ~_TYPES
    return (flags | re.RegexFlag(add)) & ~re.RegexFlag(remove)


def _group(number: int | None, item: Node) -> Node:
    return item if number is None else Group(item, number)


_MOODS = {"MAX_REPEAT": Mood.GREEDY, "MIN_REPEAT": Mood.LAZY, "POSSESSIVE_REPEAT": Mood.POSSESSIVE}


def _repeat(name: str, argument: tuple[int, int, Any], flags: re.RegexFlag) -> Node:
    least, most, items = argument
    limit = None if most is _parser.MAXREPEAT or most == _parser.MAXREPEAT else int(most)
    return Repeat(_sequence(items, flags), int(least), limit, _MOODS[name])


def _at(name: str, flags: re.RegexFlag) -> Node:
    multiline = flags & re.MULTILINE
    match name:
        case "AT_BEGINNING":
            return At(Anchor.LINE_START if multiline else Anchor.START)
        case "AT_BEGINNING_STRING":
            return At(Anchor.START)
        case "AT_END":
            return At(Anchor.LINE_END if multiline else Anchor.END)
        case "AT_END_STRING":
            return At(Anchor.VERY_END)
    anchor = Anchor.BOUNDARY if name == "AT_BOUNDARY" else Anchor.NOT_BOUNDARY
    return At(anchor, unicode=not flags & re.ASCII)


def _chars(name: str, argument: Any, flags: re.RegexFlag) -> Node:  # noqa: ANN401  # re's trees have no types
    items = argument if name == "IN" else [(name, argument)]
    relevant = flags & (re.IGNORECASE | re.ASCII | re.DOTALL)
    return _set(tuple((str(kind), _value(value)) for kind, value in items), relevant)


def _value(value: object) -> object:
    """Return the argument with the parser's named constants as plain strings."""
    return value if value is None or type(value) in {int, tuple} else str(value)


@cache
def _set(items: tuple[tuple[str, Any], ...], flags: re.RegexFlag) -> Node:
    """Return one character out of a set; Python itself says what its ASCII members are."""
    source = Source(items, ignore_case=bool(flags & re.IGNORECASE), ascii_only=bool(flags & re.ASCII))
    if len(items) == 1 and items[0][0] == "LITERAL" and not source.ignore_case:
        code = items[0][1]
        return Chars(1 << code) if code < _BEYOND_ASCII else Chars(0, (chr(code),))
    members = 0
    matcher = set_pattern(source, dotall=bool(flags & re.DOTALL))
    for character in matcher.findall(_ASCII):
        members |= 1 << ord(character)
    listed = _listed(source, matcher)
    if listed is None:
        return Chars(members, (), Source(_with_dotall(items, flags), source.ignore_case, source.ascii_only))
    return Chars(members, listed)


def _with_dotall(items: tuple[tuple[str, Any], ...], flags: re.RegexFlag) -> tuple[tuple[str, Any], ...]:
    """Return the items, with ``.`` written as what it stands for."""
    if items == (("ANY", None),):
        return (("NEGATE", None),) if flags & re.DOTALL else (("NOT_LITERAL", 10),)
    return items


def _listed(source: Source, matcher: re.Pattern[str]) -> tuple[str, ...] | None:
    """Return the members beyond ASCII, or None where they are many or hard to list."""
    literals: list[str] = []
    for kind, value in source.items:
        match kind, value:
            case "LITERAL", int(code):
                literals.append(chr(code))
            case "RANGE", (int(first), int(last)) if last < _BEYOND_ASCII or last - first < _FEW:
                literals.extend(map(chr, range(first, last + 1)))
            case "CATEGORY", str(name) if source.ascii_only and "NOT" not in name:
                pass
            case _:
                return None
    beyond = sorted({character for character in literals if not character.isascii()})
    if not source.ignore_case or source.ascii_only:
        return tuple(beyond) if len(beyond) <= _FEW else None
    return None if beyond else tuple(matcher.findall(TWINS))


def set_pattern(source: Source, *, dotall: bool = False) -> re.Pattern[str]:
    """Return the compiled pattern of one character out of the set."""
    items = [(getattr(_parser, kind), _argument(value)) for kind, value in source.items]
    single = items[0][0] in {_parser.NOT_LITERAL, _parser.ANY} if items else False
    parsed = _parser.SubPattern(_parser.State(), items if single else [(_parser.IN, items)])
    flags = (source.ignore_case and re.IGNORECASE) | (re.ASCII if source.ascii_only else re.UNICODE)
    compiled: re.Pattern[str] = _compiler.compile(parsed, flags | (re.DOTALL if dotall else 0))
    return compiled


def _argument(value: object) -> object:
    return getattr(_parser, value) if isinstance(value, str) else value
