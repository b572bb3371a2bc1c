"""Decides what the middleware must look at, evaluates request rules, and sends their lines to the master."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from alarm_mw.app import client, current_master
from alarm_mw.app.middleware.request_text import fields, summary, with_traceback
from alarm_mw.engine.request_rules import NOTHING, Concerns, Decision, prefilter
from alarm_mw.model.origin import in_alarm_code
from alarm_mw.model.types import Reason
from alarm_mw.requests import Emit, ReadyRule, Request, RequestRule, server_error, unhandled_exception

logger = logging.getLogger(__name__)


class Needs(msgspec.Struct, frozen=True):
    """What a middleware has to find out about every request, made of all rules once."""

    #: Whether a request that ended in order may concern a rule: a test as cheap as can be.
    concerns: Concerns
    #: The size of the request's body decides.
    measures_requests: bool = False
    #: Count the bytes of the response's body.
    counts: bool = False
    #: Look whether the client leaves, in what the server lets the application receive.
    awaits_leaving: bool = False
    #: How many records to remember.
    last_lines: int = 0
    #: Seconds after which a request that is still running is evaluated, ascending.
    limits: tuple[float, ...] = ()
    #: Nothing is asked but what is known at the end of the request.
    is_plain: bool = True


def needs_of(rules: Sequence[RequestRule], decision: Decision, last_lines: int) -> Needs:
    """Return what these rules and the configuration's need."""
    ready = [rule.conditions for rule in rules if isinstance(rule, ReadyRule)]
    asked = [*decision.conditions, *(each.conditions for each in ready)]
    counts = any(each.response_larger_than is not None for each in asked)
    awaits_leaving = any(each.disconnected for each in asked)
    limits = {each.unfinished_after for each in asked if each.unfinished_after}
    return Needs(
        prefilter([*decision.compiled, *ready]) if len(ready) == len(rules) else _concerns_all,
        any(each.request_larger_than is not None for each in asked),
        counts,
        awaits_leaving,
        last_lines,
        tuple(sorted(limit for limit in limits if limit < math.inf)),
        not (counts or awaits_leaving or last_lines or limits),
    )


def _concerns_all(*_facts: object) -> bool:
    return True


#: How many records of a request can be remembered.
MAX_LAST_LINES = 1000


def configured() -> Decision:
    """Return which requests concern a rule of the configuration, by what is known of it now."""
    # Past `current`, in uWSGI too: what is published is the same for a forked child.
    return (current_master.this.client or current_master.current()).decision()


class RequestRules:
    """A middleware's own rules, and those of the configuration. Nothing that a rule or `emit` raises gets out."""

    __slots__ = ("_decide", "_decision", "_emit", "_failed", "_last_lines", "_needs", "_rules", "_source")

    def __init__(
        self, source: str, rules: Sequence[RequestRule], emit: Emit | None = None, last_lines: int = 0
    ) -> None:
        """Take the rules of a middleware; raise `ValueError` for a number of last lines that cannot be remembered."""
        if not isinstance(last_lines, int) or not 0 <= last_lines <= MAX_LAST_LINES:
            raise ValueError(f"last_lines: expected a number from 0 to {MAX_LAST_LINES}, got {last_lines!r}")
        self._source = source
        self._rules = tuple(rules)
        self._emit = emit
        self._last_lines = last_lines
        self._failed: set[int] = set()
        self._decide = configured
        self._take_over(NOTHING)  # what is configured is not asked before the first request: that connects

    def current_needs(self) -> Needs:
        """Return which facts to collect of a request that begins now."""
        decision = self._decide()
        if decision is not self._decision:
            self._take_over(decision)
        return self._needs

    def follow(self, decision: Decision) -> None:
        """Apply these conditions, in place of the configuration's, to requests that begin from now on."""
        self._decide = lambda: decision
        self._take_over(decision)

    def _take_over(self, decision: Decision) -> None:
        self._decision = decision
        self._needs = needs_of(self._rules, decision, self._last_lines)

    def judge(self, request: Request) -> None:
        """Emit the line of every rule that has one for `request`, made visible. May be called from any thread."""
        reported = self._report_configured(request) if self._decision else None
        is_crash = unhandled_exception in self._rules and unhandled_exception.applies(request)
        for rule in self._rules:
            if is_crash and rule is server_error:
                continue  # one failure, one alarm
            # A function of the application must not see a request twice.
            if request.unfinished_after is None or isinstance(rule, ReadyRule):
                self._ask(rule, request, reported)

    def _ask(self, rule: RequestRule, request: Request, reported: str | None) -> None:
        """Emit the line of `rule`, but for one that was reported already."""
        try:
            line = rule(request)
            if line is None:
                return
            if self._emit is not None:
                self._emit(with_traceback(line, request), fields(request))
            elif line != reported:
                self._submit(line, request)
        # Only `Exception`: a worker's exit or a cancellation that arrives here is the server's business.
        except Exception as error:  # noqa: BLE001  # a rule is anybody's code, and the request must not notice
            self._report(rule, error)

    def _report_configured(self, request: Request) -> str | None:
        """Give a request to the master for which conditions of the configuration hold; return the line that says so."""
        try:
            held = self._decision.held(request, request.header)
            if not held:
                return None
            line = summary(request, self._decision.slower_than(held))
            self._submit(line, request, held)
        except Exception as error:  # noqa: BLE001  # as above: the request must not notice
            self._report(self._decision, error)
            return None
        return line

    def _submit(self, line: str, request: Request, held: tuple[str, ...] = ()) -> None:
        client.submit_line(
            with_traceback(line, request),
            source=self._source,
            fields=fields(request),
            context=request.last_lines,
            held=held,
        )

    def _report(self, rule: object, error: Exception) -> None:
        """Log `error`, once for each rule: a broken one fails in every request."""
        if id(rule) in self._failed:
            return
        self._failed.add(id(rule))
        # A broken logging configuration must not reach the request either.
        with suppress(Exception):
            logger.error("request rule %r failed, or its line could not be emitted; logged once", rule, exc_info=error)


@contextmanager
def made_by_alarm(source: str) -> Iterator[None]:
    """Keep a request that an action made from the rules, and what the application logs in it."""
    client.skip(source, Reason.ALARM_ORIGIN)
    token = in_alarm_code.set(True)
    try:
        yield
    finally:
        in_alarm_code.reset(token)
