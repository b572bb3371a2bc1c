"""The states of all rules that measure something: deadlines, bounds, and what is written down."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from alarm_mw.engine.incidents.incident import Key
from alarm_mw.engine.incidents.measures.judgement import Sample
from alarm_mw.engine.incidents.measures.measures import MeasuredRule, Measures, Row
from alarm_mw.model.measures import Cardinality, Heartbeat, Measure, New, Quantile, Ratio, Spike

EVERY_MINUTE = Heartbeat(60.0, 10.0)


def key(name: str) -> Key:
    return (("heartbeat", name),)


class Stage:
    """The measures of the rule ``r``, and which of its incidents are open."""

    def __init__(self, measure: Heartbeat = EVERY_MINUTE, max_keys: int = 10, rows: Iterable[Row] = ()) -> None:
        self.open: set[Key] = set()
        self.measures = Measures({"r": MeasuredRule(measure, max_keys)})
        self.measures.start(rows, 0.0, 0.0, self.is_open)

    def is_open(self, rule: str, key: Key) -> bool:
        return rule == "r" and key in self.open

    def beat(self, name: str, now: float, **fields: str) -> bool:
        """Take a heartbeat in; return whether there was room for it."""
        judgement = self.measures.add("r", key(name), Sample(fields=fields), now, self.is_open)
        if judgement is not None:
            self.measures.settle("r", key(name), now, self.is_open)
        return judgement is not None

    def overdue(self, now: float) -> list[str]:
        """Let the time pass, and return whose incidents begin."""
        begun = []
        for rule, found, judgement in self.measures.tick(now, self.is_open):
            if judgement.begins:
                self.open.add(found)
                begun.append(found[0][1])
            self.measures.settle(rule, found, now, self.is_open)
        return begun

    def written(self) -> dict[str, Row]:
        """Return what has to be written down, by the names of the heartbeats."""
        return {row.id: row for row in self.measures.take_changes(0.0, is_urgent=True)}


def test_each_key_has_its_deadline() -> None:
    """Those that are heard of in time move theirs; an incident begins for each of the others."""
    stage = Stage()
    for name in "abc":
        stage.beat(name, 0.0)
    assert stage.measures.due() == 70.0
    stage.beat("b", 60.0)
    assert stage.overdue(69.0) == []
    assert stage.overdue(70.0) == ["a", "c"]
    assert stage.measures.due() == 130.0
    stage.beat("b", 71.0, failed="")
    stage.open.add(key("b"))
    stage.measures.settle("r", key("b"), 71.0, stage.is_open)
    assert stage.measures.due() is None


def test_many_heartbeats_take_no_memory() -> None:
    """However often one comes, it has one deadline: a later one is found out when the earlier one is due."""
    stage = Stage()
    for number in range(1000):
        stage.beat("a", number / 100)
    assert stage.overdue(70.0) == []
    assert stage.measures.due() == pytest.approx(79.99)


def test_names_are_expected_from_the_start() -> None:
    """Those in the configuration, also after a change of it; patterns wait for the first heartbeat of each name."""
    stage = Stage(Heartbeat(60.0, 10.0, ("backup", "worker-*")))
    assert [name for name in ("backup", "worker-1", "other") if stage.measures.heartbeat_rules(name)] == [
        "backup",
        "worker-1",
    ]
    assert len(stage.measures) == 1
    assert stage.overdue(70.0) == ["backup"]


def test_too_many_keys() -> None:
    """The one that was unused for longest makes room, unless its incident is open; where all are, there is no room."""
    stage = Stage(max_keys=2)
    for name in "aba":
        assert stage.beat(name, 0.0)
    assert stage.beat("c", 1.0)
    stage.open |= {key("a"), key("c")}
    assert not stage.beat("d", 2.0)
    stage.open.remove(key("a"))
    assert stage.beat("d", 3.0)
    assert stage.overdue(80.0) == ["c", "d"]
    assert len(stage.measures) == 2


def test_what_is_forgotten_begins_anew() -> None:
    """It has no deadline any more, and is not written down again."""
    stage = Stage()
    stage.beat("a", 0.0)
    stage.written()
    stage.measures.forget("r", key("a"))
    stage.measures.forget("r", key("a"))
    stage.measures.forget("unknown", key("a"))
    stage.measures.settle("r", key("a"), 0.0, stage.is_open)
    assert stage.measures.due() is None
    (row,) = stage.written().values()
    assert row.data is None


def test_changes_are_written_now_and_then() -> None:
    """Once in a second, unless that is urgent; and all of them where what was written is lost."""
    measures = Stage().measures
    assert measures.take_changes(0.0, is_urgent=True) == ()
    stage = Stage()
    stage.beat("a", 0.0)
    assert len(stage.measures.take_changes(10.0, is_urgent=False)) == 1
    assert stage.measures.write_due() is None
    stage.beat("a", 10.5)
    assert stage.measures.write_due() == 11.0
    assert stage.measures.take_changes(10.9, is_urgent=False) == ()
    assert len(stage.measures.take_changes(10.9, is_urgent=True)) == 1
    assert stage.measures.take_changes(20.0, is_urgent=True) == ()
    stage.measures.note_all()
    assert len(stage.measures.take_changes(20.0, is_urgent=True)) == 1


def test_a_later_process_goes_on() -> None:
    """Deadlines go on; rows of rules that are gone, and what cannot be read, are forgotten."""
    first = Stage()
    first.beat("a", 0.0)
    (row,) = first.written().values()
    strange = [Row("gone", "1", row.data), Row("r", "2", b"\xc1"), Row("r", "3", None)]
    second = Stage(rows=[row, *strange])
    assert second.overdue(70.0) == ["a"]
    assert {name: each.data is None for name, each in second.written().items()} == {
        "1": True,
        "2": True,
        "3": True,
        row.id: False,
    }


def test_downtime_moves_deadlines() -> None:
    """Time in which nothing could be observed is no silence."""
    first = Stage()
    first.beat("a", 0.0)
    second = Stage()
    second.measures.start(first.written().values(), 500.0, 500.0, second.is_open)
    assert second.measures.due() == 570.0


def test_a_changed_configuration_goes_on() -> None:
    """A rule of the same kind keeps its states, with its new times; those of a rule that goes are forgotten."""
    first = Stage()
    first.beat("a", 0.0)
    first.written()
    second = Measures({"r": MeasuredRule(Heartbeat(5.0, 1.0, ("b", "a")))})
    second.go_on(first.measures, 1.0, first.is_open)
    assert second.due() == 6.0
    assert len(second) == 2
    third = Measures({"other": MeasuredRule(EVERY_MINUTE)})
    third.go_on(second, 2.0, first.is_open)
    assert len(third) == 0
    assert [row.data for row in third.take_changes(9.0, is_urgent=True)] == [None, None]


MEASURES: dict[str, Measure] = {
    "heartbeat": EVERY_MINUTE,
    "ratio": Ratio(0.5, 0.5, 1, 60.0),
    "quantile": Quantile(0.5, "size", 10.0, 10.0, 1, 60.0),
    "spike": Spike(2.0, 1, 60.0),
    "cardinality": Cardinality("size", 1, 1, 60.0),
    "new": New(3600.0, 0.0, ("heartbeat",)),
}


@pytest.mark.parametrize("kind", MEASURES)
def test_each_kind_goes_on_in_another_process(kind: str) -> None:
    """What was measured is known to the next process, and what is wrong is forgotten."""

    def never(_rule: str, _key: Key) -> bool:
        return False

    def started(rows: Iterable[Row]) -> Measures:
        measures = Measures({"r": MeasuredRule(MEASURES[kind])})
        measures.start(rows, 1000.0, 0.0, never)
        return measures

    first = started(())
    for size in ("1", "20", "300"):
        assert first.add("r", key("w"), Sample(fields={"size": size}), 1000.0, never) is not None
    rows = first.take_changes(1000.0, is_urgent=True)
    second = started(rows)
    assert second.take_changes(1000.0, is_urgent=True) == ()
    second.note_all()
    assert {row for row in second.take_changes(1000.0, is_urgent=True) if row.id} == {row for row in rows if row.id}
    damaged = started(row._replace(data=msgspec.msgpack.encode([_shape(row), [], "x"])) for row in rows)
    assert len(damaged) == 0


def _shape(row: Row) -> str:
    assert row.data is not None
    shape, _, _ = msgspec.msgpack.decode(row.data)
    return str(shape)


def test_another_measure_begins_anew() -> None:
    """A rule that measures something else, or over another time, keeps nothing of what was measured before."""
    first = Measures({"r": MeasuredRule(Ratio(0.5, 0.5, 1, 60.0))})
    first.start((), 0.0, 0.0, lambda *_: False)
    first.add("r", (), Sample(), 0.0, lambda *_: False)
    rows = first.take_changes(0.0, is_urgent=True)
    others: list[tuple[Measure, int]] = [
        (Ratio(0.1, 0.1, 9, 60.0), 1),
        (Ratio(0.5, 0.5, 1, 30.0), 0),
        (Spike(2.0, 1, 60.0), 0),
    ]
    for measure, kept in others:
        after_reload, after_restart = (Measures({"r": MeasuredRule(measure)}) for _ in range(2))
        after_reload.go_on(first, 1.0, lambda *_: False)
        after_restart.start(rows, 1.0, 1.0, lambda *_: False)
        assert (len(after_reload), len(after_restart)) == (kept, kept)
