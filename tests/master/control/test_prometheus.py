"""Figures as Prometheus reads them, read by its own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from alarm_mw.engine.ledger import AlarmRow, Ledger, SourceRow
from alarm_mw.master.control.prometheus import OF_ALARMS, OF_MASTER, OF_SOURCES, Figures, exposition
from alarm_mw.model.types import Reason


def samples(ledger: Ledger, app: dict[str, int] | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the values by the names and labels of the samples."""
    figures = Figures(ledger.books(), dict.fromkeys(OF_MASTER, 7.0), app or {}, "1.2")
    text = exposition(figures).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_every_column_of_the_ledger_has_a_metric() -> None:
    """None is left out, and none is there twice."""
    assert OF_SOURCES.keys() == SourceRow.__annotations__.keys()
    assert OF_ALARMS.keys() == AlarmRow.__annotations__.keys()
    names = [name for name, _ in (*OF_SOURCES.values(), *OF_ALARMS.values())]
    assert len(set(names)) == len(names)


def test_the_ledger_is_told_by_source_alarm_and_reason() -> None:
    """Counts are counters with labels; what waits is a gauge; names may hold anything."""
    ledger = Ledger()
    ledger.source("stdout", "lines", 5)
    ledger.source("stdout", "skipped", 2, reason=Reason.EXCLUDED)
    ledger.source("logging", "lines", 1)
    ledger.alarm('a "quoted"\n\\name', "fired", 3)
    ledger.alarm('a "quoted"\n\\name', "held_back", 4, reason=Reason.SAME_MESSAGE)
    found = samples(ledger)
    assert found["alarm_mw_lines_total", ("stdout",)] == 5
    assert found["alarm_mw_lines_total", ("logging",)] == 1
    assert found["alarm_mw_skipped_total", ("excluded", "stdout")] == 2
    assert found["alarm_mw_fired_total", ('a "quoted"\n\\name',)] == 3
    assert found["alarm_mw_waiting", ('a "quoted"\n\\name',)] == 3
    assert found["alarm_mw_held_back_total", ('a "quoted"\n\\name', "same_message")] == 4


def test_the_master_and_the_application_are_told() -> None:
    """Metrics whose names would be the same for Prometheus are told apart by their own ones."""
    found = samples(Ledger(), {"shop.orders": 2, "shop-orders": 3})
    assert found["alarm_mw_build_info", ("1.2",)] == 1
    assert [found[name, ()] for name in OF_MASTER] == [7.0] * len(OF_MASTER)
    assert found["alarm_mw_app_shop_orders", ("shop.orders",)] == 2
    assert found["alarm_mw_app_shop_orders", ("shop-orders",)] == 3
