"""What a rule measures over a time, from its table: ratios, quantiles, spikes, numbers of values, new values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import structs

from alarm_mw.config.tables.tree import Table, kind_of, read_struct
from alarm_mw.engine.flood_control.limits import MOST, read_duration
from alarm_mw.model.measures import Cardinality, Measure, New, Quantile, Ratio, Spike

Duration = str | float
Fraction = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
Factor = Annotated[float, msgspec.Meta(gt=1.0, le=1e6)]
Records = Annotated[int, msgspec.Meta(ge=1, le=10**9)]

_PERCENT = r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%"
_NUMBER = r"[0-9]{1,9}"


class MeasureKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a rule about what it measures; one of the first five says what that is."""

    ratio: Annotated[
        str | None,
        msgspec.Meta(description='`">5%"`: fires when this share of the records that `of` matches match the rule'),
    ] = None
    quantile: Annotated[
        Fraction | None,
        msgspec.Meta(description="`0.95`: fires when the value that 95 % of `field` do not exceed is above `above`"),
    ] = None
    spike: Annotated[
        Factor | None,
        msgspec.Meta(description="fires at this many times as many matches `within` a time as in the time before"),
    ] = None
    cardinality: Annotated[
        str | None, msgspec.Meta(description='`">20"`: fires when `field` has more different values `within` a time')
    ] = None
    new: Annotated[
        Duration | None, msgspec.Meta(description="only values of `key` count that were not seen for this time: `30d`")
    ] = None
    of: Annotated[
        dict[str, object] | None,
        msgspec.Meta(
            description="of `ratio`: a table with the keys `pattern`, `request`, `where`, `level` or `logger`. Without "
            "it, a rule with `request` is compared with all requests"
        ),
    ] = None
    field: Annotated[
        str | None,
        msgspec.Meta(
            description="of `quantile` and `cardinality`: a field of the record, or a named group of the regexp"
        ),
    ] = None
    above: Annotated[
        Duration | None,
        msgspec.Meta(description="of `quantile`: a number, or a time such as `2s` for a field in seconds"),
    ] = None
    at_least: Annotated[
        Records | None,
        msgspec.Meta(description="of `ratio`, `quantile` and `spike`: the fewest records `within` the time that count"),
    ] = None
    resolve_below: Annotated[
        Duration | None,
        msgspec.Meta(
            description="of `ratio`, `quantile` and `cardinality`: the value at which the incident ends, such as "
            '`"3%"`, `"1.5s"` or `15`; by default the one above which it begins'
        ),
    ] = None
    learn_for: Annotated[
        Duration | None,
        msgspec.Meta(
            description="of `new`: the time after the rule's first start during which values are only learned"
        ),
    ] = None


MEASURE_KEYS = MeasureKeys.__struct_fields__

#: The keys that say what is measured.
KINDS = ("ratio", "quantile", "spike", "cardinality", "new")

#: For each kind the other keys that it needs, and those that it may have.
_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ratio": ("within", "at_least"),
        "quantile": ("within", "at_least", "field", "above"),
        "spike": ("within", "at_least"),
        "cardinality": ("within", "field"),
        "new": ("key",),
    }
)
_POSSIBLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ratio": ("of", "resolve_below"),
        "quantile": ("resolve_below",),
        "spike": (),
        "cardinality": ("resolve_below",),
        "new": ("learn_for",),
    }
)


def kind_of_measure(table: Table) -> str:
    """Return what a rule measures; empty: nothing."""
    return next((kind for kind in KINDS if kind in table.values), "")


def read_measure(table: Table) -> Measure | None:
    """Return what a rule measures; None where that is nothing, or wrong, which is reported."""
    values = {key: value for key, value in table.values.items() if key in MEASURE_KEYS}
    kind = kind_of_measure(table)
    if not kind:
        for key in values:
            table.wrong(f"{key!r} without what it is about, expected one of {', '.join(map(repr, KINDS))}", key)
        return None
    keys = read_struct(MeasureKeys, structs.replace(table, values=values))
    if keys is None or not _is_whole(table, kind, values):
        return None
    try:
        return _READERS[kind](keys, _within(table, kind))
    except _WrongError as error:
        table.wrong(f"{error.key}: {error}", error.key)
        return None


def _is_whole(table: Table, kind: str, values: Mapping[str, object]) -> bool:
    """Return whether the table has the keys that belong together, and report others."""
    others = [key for key in values if key not in {kind, *_NEEDED[kind], *_POSSIBLE[kind]}]
    for key in others:
        table.wrong(f"{key!r} beside {kind!r}, which has no use for it", key)
    for key in ("count", "absent_for", "schedule"):
        if key in table.values:
            table.wrong(f"{key!r} beside {kind!r}: expected one of them", key)
    missing = [key for key in _NEEDED[kind] if key not in table.values]
    for key in missing:
        table.wrong(f"{kind!r} without {key!r}", kind)
    return not others and not missing


class _WrongError(Exception):
    """A value is wrong; the text says why."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _within(table: Table, kind: str) -> float:
    return 0.0 if kind == "new" else _seconds("within", table.values["within"])


def _seconds(key: str, value: object) -> float:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise _WrongError(key, f"expected seconds, or a time such as '1m', got {kind_of(value)}")
    try:
        return read_duration(value)
    except ValueError as error:
        raise _WrongError(key, str(error)) from None


def _share(key: str, value: Duration | None) -> float:
    found = re.fullmatch(_PERCENT, value) if isinstance(value, str) else None
    if found is None or not 0 <= float(found[1]) < 100:  # noqa: PLR2004  # percent
        sign = ">" if key == "ratio" else ""
        raise _WrongError(key, f"expected a share such as '{sign}5%', below 100 %")
    return float(found[1]) / 100


def _above(key: str, value: str | None) -> str:
    """Return what stands behind the sign of a bound."""
    if value is None or not value.startswith(">"):
        example = ">5%" if key == "ratio" else ">20"
        raise _WrongError(key, f"expected {example!r}, with the sign, got {value!r}")
    return value[1:].strip()


def _ordered(lower: float, upper: float) -> float:
    """Return the bound at which an incident ends; it must not be above the one at which it begins."""
    if lower > upper:
        raise _WrongError("resolve_below", "it is above the value at which the incident begins")
    return lower


def _ratio(keys: MeasureKeys, within: float) -> Measure:
    above = _share("ratio", _above("ratio", keys.ratio))
    below = above if keys.resolve_below is None else _share("resolve_below", keys.resolve_below)
    return Ratio(above, _ordered(below, above), keys.at_least or 1, within)


def _quantile(keys: MeasureKeys, within: float) -> Measure:
    is_time = isinstance(keys.above, str)
    above = _value("above", keys.above)
    below = above if keys.resolve_below is None else _value("resolve_below", keys.resolve_below)
    bounds = (above, _ordered(below, above))
    return Quantile(keys.quantile or 0.0, keys.field or "", *bounds, keys.at_least or 1, within, is_time)


def _value(key: str, value: Duration | None) -> float:
    """Return a number, or the seconds of a time."""
    return _seconds(key, value) if isinstance(value, str) else float(value or 0.0)


def _spike(keys: MeasureKeys, within: float) -> Measure:
    return Spike(keys.spike or 0.0, keys.at_least or 1, within)


def _cardinality(keys: MeasureKeys, within: float) -> Measure:
    above = _number("cardinality", _above("cardinality", keys.cardinality))
    below = above if keys.resolve_below is None else _number("resolve_below", keys.resolve_below)
    return Cardinality(keys.field or "", above, int(_ordered(below, above)), within)


def _number(key: str, value: Duration) -> int:
    text = value if isinstance(value, str) else f"{value:g}"
    if not re.fullmatch(_NUMBER, text) or not 1 <= int(text) <= MOST:
        raise _WrongError(key, f"expected a whole number from 1 to {MOST}, got {value!r}")
    return int(text)


def _new(keys: MeasureKeys, _: float) -> Measure:
    learn_for = 0.0 if keys.learn_for is None else _seconds("learn_for", keys.learn_for)
    return New(_seconds("new", keys.new), learn_for)


_READERS: Mapping[str, Callable[[MeasureKeys, float], Measure]] = MappingProxyType(
    {"ratio": _ratio, "quantile": _quantile, "spike": _spike, "cardinality": _cardinality, "new": _new}
)


def keys_of(measure: Measure | None) -> dict[str, object]:
    """Return the keys of a table that say what is measured, apart from `of`."""
    match measure:
        case Ratio():
            end = _end(measure, f"{100 * measure.below:g}%")
            times = {"at_least": measure.at_least, "within": _written(measure.within)}
            return {"ratio": f">{100 * measure.above:g}%", **end, **times}
        case Quantile():
            shown: Callable[[float], object] = _written if measure.is_time else float
            kind = {"quantile": measure.quantile, "field": measure.field, "above": shown(measure.above)}
            end = _end(measure, shown(measure.below))
            return {**kind, **end, "at_least": measure.at_least, "within": _written(measure.within)}
        case Spike():
            return {"spike": measure.times, "at_least": measure.at_least, "within": _written(measure.within)}
        case Cardinality():
            kind = {"cardinality": f">{measure.above}", "field": measure.field}
            return {**kind, **_end(measure, str(measure.below)), "within": _written(measure.within)}
        case New():
            learn = {"learn_for": _written(measure.learn_for)} if measure.learn_for else {}
            key = {"key": measure.key} if measure.key else {}
            return {**key, "new": _written(measure.unseen_for), **learn}
    return {}


def _end(measure: Ratio | Quantile | Cardinality, written: object) -> dict[str, object]:
    return {} if measure.below == measure.above else {"resolve_below": written}


def _written(seconds: float) -> str:
    """Return a time as it is written in a table, in the largest unit that divides it."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds % size == 0), ("s", 1))
    return f"{seconds / size:.12g}{unit}"


_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))
