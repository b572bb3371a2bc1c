"""What is counted each minute, and the sums that charts are made of."""

from __future__ import annotations

from alarm_mw.model.types import Rule
from alarm_mw.web.charts import chart, spark
from alarm_mw.web.samples import Sampler, growth, rule_id, trend
from alarm_mw.web.store import KEPT_MINUTES, Sample, Store


def test_a_sample_is_what_a_minute_has_brought() -> None:
    """A counter that began again at zero brings what it shows; nothing is kept of one that stood still."""
    counts: dict[Sample, int] = {("rule", "disk"): 5, ("lines", ""): 100}
    store = Store(None)
    sampler = Sampler(store, lambda: dict(counts))
    sampler.sample(1000)
    counts["rule", "disk"] = 8
    sampler.sample(1001)
    counts["rule", "disk"] = 2
    sampler.sample(1002)
    assert store.series("rule", ["disk", "other"], 1000, 1, 4) == {"disk": [5, 3, 2, 0], "other": [0, 0, 0, 0]}
    assert store.series("lines", [""], 1000, 2, 2) == {"": [100, 0]}
    store.close()


def test_samples_are_kept_for_two_weeks() -> None:
    """Older ones are forgotten with the next sample."""
    store = Store(None)
    store.add_samples(1, {("rule", "disk"): 7})
    store.add_samples(KEPT_MINUTES, {("rule", "disk"): 1})
    assert store.series("rule", ["disk"], 1, 1, 1) == {"disk": [7]}
    store.add_samples(KEPT_MINUTES + 2, {})
    assert store.series("rule", ["disk"], 1, 1, 1) == {"disk": [0]}
    store.close()


def test_the_newest_bar_is_the_last() -> None:
    """A trend ends with the present minute."""
    store = Store(None)
    store.add_samples(100, {("rule", "disk"): 7})
    assert trend(store, "rule", ["disk"], (3, 1), 100 * 60 + 59)["disk"] == [0, 0, 7]
    assert trend(store, "rule", ["disk"], (3, 1), 101 * 60)["disk"] == [0, 7, 0]
    store.close()
    assert growth(5, 7) == 2
    assert growth(5, 1) == 1


def test_a_rule_without_a_name_has_an_id_that_stays() -> None:
    """It depends on what the rule says, and fits into a URL."""
    nameless = rule_id(Rule("disk .*/full", ("mail",)))
    assert nameless.isalnum()
    assert nameless == rule_id(Rule("disk .*/full", ("mail",)))
    assert nameless != rule_id(Rule("disk .*/full", ("chat",)))
    assert rule_id(Rule("x", ("mail",), name="disk")) == "disk"


def test_charts_say_in_words_what_they_show() -> None:
    """Who cannot see them hears the sum; there is no style in them, which the content security policy forbids."""
    for picture in (spark([0, 3, 1], "matches"), chart([0, 3, 1], [(1, "Mon")], "matches"), spark([], "matches")):
        assert 'role="img"' in picture
        assert "style" not in picture
    assert 'aria-label="4 matches"' in spark([0, 3, 1], "matches")
