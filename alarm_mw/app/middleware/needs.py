"""What has to be known of requests: nothing is found out that no rule asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from alarm_mw.engine.request_rules import Concerns, Decision
from alarm_mw.requests import RequestRule, Unfinished, client_left, unhandled_exception

#: Rules that have nothing to say of a request which ended in order, and need not be asked.
_OF_FAILURES = frozenset({unhandled_exception})


class Needs(msgspec.Struct, frozen=True):
    """What a middleware has to find out about every request, made of all rules once."""

    #: Whether a request that ended in order may concern a rule, told as cheaply as can be.
    concerns: Concerns
    #: The size of the request's body decides.
    measures_requests: bool = False
    #: Count the bytes of the response's body.
    counts: bool = False
    #: Look whether the client leaves, in what the server lets the application receive.
    awaits_leaving: bool = False
    #: How many records to remember.
    last_lines: int = 0
    #: Seconds after which a request that is still running is put to the rules, ascending.
    limits: tuple[float, ...] = ()
    #: Nothing is asked but what the request's end tells.
    is_plain: bool = True


def needs_of(rules: Sequence[RequestRule], decision: Decision, last_lines: int) -> Needs:
    """Return what these rules and the configuration's need."""
    ended = [rule for rule in rules if not isinstance(rule, Unfinished)]
    asked = decision.conditions
    counts = any(each.response_larger_than is not None for each in asked)
    awaits_leaving = client_left in ended or any(each.disconnected for each in asked)
    limits = {*decision.unfinished_after, *(rule.limit for rule in rules if isinstance(rule, Unfinished))}
    return Needs(
        decision.concerns if _OF_FAILURES.issuperset(ended) else _concerns_all,
        any(each.request_larger_than is not None for each in asked),
        counts,
        awaits_leaving,
        last_lines,
        tuple(sorted(limit for limit in limits if limit < math.inf)),
        not (counts or awaits_leaving or last_lines or limits),
    )


def _concerns_all(*_facts: object) -> bool:
    return True
