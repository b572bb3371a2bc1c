"""Finds rules that can never fire, since an earlier exclusion always ends the scan before them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from alarm_mw.config.report import Report
from alarm_mw.model.types import Rule

#: Regexps that are found in every line.
EVERYTHING = frozenset({"", ".*", "^", "^.*", "^.*$", ".*$", "$", "(?s).*", "(?s:.*)"})


def warn_of_hidden(rules: Sequence[Rule], report: Report) -> None:
    """Warn of each rule that an earlier one hides, in time proportional to their number."""
    catch_all: list[Rule] = []
    by_pattern: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        same = by_pattern.get((rule.syntax, rule.pattern), [])
        hider = next((other for other in [*catch_all, *same] if _covers(other, rule)), None)
        if hider is not None:
            place = structs.replace(hider.where, column=0)
            report.warn(rule.where, f"this rule is never reached: the exclusion at {place} always ends the scan")
        elif rule.excludes:
            by_pattern.setdefault((rule.syntax, rule.pattern), []).append(rule)
            catch_all += [rule] if rule.pattern in EVERYTHING else []


def _covers(earlier: Rule, later: Rule) -> bool:
    """Tell whether each record that `later` can match is one that `earlier` matches."""
    same_view = earlier.multiline == later.multiline or earlier.pattern in EVERYTHING
    same_requests = earlier.request in {None, later.request}
    return (
        same_view
        and same_requests
        and _covers_level(earlier.level, later.level)
        and _covers_logger(earlier.logger, later.logger)
    )


def _covers_level(earlier: int | None, later: int | None) -> bool:
    return earlier is None or (later is not None and earlier <= later)


def _covers_logger(earlier: str | None, later: str | None) -> bool:
    return earlier is None or (later is not None and (later + ".").startswith(earlier + "."))
