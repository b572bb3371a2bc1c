"""Rules: how often each has matched, what came of it, and how much of that was noise."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from alarm_mw.config.toml.from_rule import rule_to_toml
from alarm_mw.delivery.outbox import incident_rows
from alarm_mw.delivery.outbox.entries import decode
from alarm_mw.engine.incidents.episodes import Episode, Noise, noise_of
from alarm_mw.model.types import Rule
from alarm_mw.web.charts import chart, spark
from alarm_mw.web.master import Master
from alarm_mw.web.pages.episodes import episodes_since
from alarm_mw.web.rendering import render, show
from alarm_mw.web.samples import DAY, FORTNIGHT, rule_id, trend
from alarm_mw.web.security.guards import page
from alarm_mw.web.site import Site, site_of

#: Days that are looked at.
DAYS = 14

#: How many messages are looked at, the newest.
LATEST = 3000

_DAY = 86_400

#: The keys of a rule that say which records it is about, beside its regexp.
_CONDITIONS = frozenset({"where", "request", "level", "logger"})


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with its figures."""

    id: str
    rule: Rule
    #: Matches since it was loaded, and of the last 24 hours.
    matches: int
    today: int
    trend: Markup
    #: How many of the latest messages it has caused.
    fired: int
    #: What the episodes of the last 14 days were worth.
    worth: Noise
    open: int
    is_off: bool

    @property
    def condition(self) -> str:
        """What it is about: its regexp, and its other conditions as a configuration has them."""
        others = (line for line in rule_to_toml(self.rule).splitlines() if line.partition(" = ")[0] in _CONDITIONS)
        return "  ".join(filter(None, (self.rule.pattern, *others)))

    @property
    def kind(self) -> str:
        """What it is beside an ordinary rule."""
        rule = self.rule
        return (
            "excludes" if rule.excludes else "ends incidents" if rule.resolves else "incidents" if rule.incident else ""
        )


async def rules(request: Request) -> Response:
    """Show all rules."""
    site = site_of(request)
    text = request.query_params.get("q", "")[:200]
    shown = await asyncio.to_thread(shown_rules, site)
    words = text.lower().split()
    found = [each for each in shown if all(word in f"{each.id} {each.rule.pattern}".lower() for word in words)]
    return await show(request, "rules.html", active="rules", rules=found, query=text, total=len(shown))


async def rule(request: Request) -> Response:
    """Show one rule."""
    site, name = site_of(request), request.path_params["id"]
    found = next((each for each in await asyncio.to_thread(shown_rules, site) if each.id == name), None)
    if found is None:
        return render(request, "refused.html", status=404, text="There is no such rule (any more).")
    values = (await asyncio.to_thread(trend, site.samples, "rule", [name], FORTNIGHT))[name]
    episodes = await asyncio.to_thread(_episodes, site.master, name)
    return await show(
        request,
        "rule.html",
        active="rules",
        each=found,
        picture=chart(values, _days(len(values), FORTNIGHT[1]), "matches in 14 days") if any(values) else "",
        toml=_as_toml(site.master, found.rule),
        latest=list(reversed(episodes))[:20],
    )


def shown_rules(site: Site) -> list[Shown]:
    """Return the rules, in their order. May block."""
    master = site.master
    found = {rule_id(rule): (rule, n) for rule, n in reversed(list(master.matches()))}
    names = [name for name in reversed(found) if not found[name][0].is_auxiliary]
    trends = trend(site.samples, "rule", names, DAY)
    by_rule: dict[str, list[Episode]] = {}
    for episode in _episodes(master):
        by_rule.setdefault(episode.rule, []).append(episode)
    with master.reading() as reader:
        firing = incident_rows.count_firing(reader)
    fired = _fired(master)
    off = [rule_id(rule) for rule in master.switched_off()]
    return [
        _shown(name, found[name], trends[name], by_rule.get(name, []), firing.get(name, 0), fired, is_off=name in off)
        for name in names
    ]


def _shown(  # noqa: PLR0917  # what belongs together
    name: str,
    found: tuple[Rule, int],
    values: Sequence[int],
    episodes: Sequence[Episode],
    firing: int,
    fired: Mapping[str, int],
    *,
    is_off: bool,
) -> Shown:
    rule, matches = found
    return Shown(
        id=name,
        rule=rule,
        matches=matches,
        today=sum(values),
        trend=spark(values, "matches in 24 hours"),
        fired=fired.get(rule.name or rule.pattern, 0),
        worth=noise_of(name, episodes),
        open=firing,
        is_off=is_off,
    )


def _episodes(master: Master, name: str = "") -> list[Episode]:
    found = episodes_since(master, time.time() - DAYS * _DAY)
    return [episode for episode in found if not name or episode.rule == name]


def _fired(master: Master) -> Counter[str]:
    """Return how many of the latest messages each rule has caused, by its name or its regexp."""
    counts: Counter[str] = Counter()
    with master.reading() as reader:
        rows = reader.query("SELECT firing FROM firings ORDER BY seq DESC LIMIT ?", (LATEST,))
    for (blob,) in rows:
        with contextlib.suppress(ValueError, TypeError):  # a disk fault
            firing = decode(cast("bytes", blob))
            counts[firing.trigger.name if firing.trigger is not None and firing.trigger.name else firing.rule] += 1
    return counts


def _days(n: int, step: int) -> list[tuple[int, str]]:
    """Return the places of midnights among bars of so many minutes, every second one with its day."""
    end = (int(time.time() // 60) + 1) * 60
    begin = end - n * step * 60
    found = []
    for day in range(DAYS + 1):
        parts = time.localtime(begin + day * _DAY)
        midnight = time.mktime((*parts[:3], 0, 0, 0, 0, 0, -1))
        place = int((midnight - begin) / (step * 60))
        if 0 <= place < n - n // 12:
            found.append((place, time.strftime("%d %b", time.localtime(midnight)) if day % 2 else ""))
    return found


def _as_toml(master: Master, rule: Rule) -> str:
    """Return a rule as a configuration in TOML has it."""
    others = master.settings().rules if rule.name else ()
    resolve = next((each for each in others if each.resolves == rule.name), None)
    of = next((each for each in others if each.counts_for == rule.name), None)
    return rule_to_toml(rule, resolve, of)


ROUTES = [page("/rules", rules), page("/rules/{id}", rule)]
