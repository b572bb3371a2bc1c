"""Keeps what a middleware tells of requests."""

from __future__ import annotations

from collections.abc import Mapping

from alarm_mw.requests import Request


class RequestRecorder:
    """A rule that keeps the facts of every request, and an `emit` that keeps the lines and their fields."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.lines: list[str] = []
        self.fields: list[Mapping[str, str]] = []

    def rule(self, request: Request) -> None:
        """Keep the facts, and tell of nothing."""
        self.requests.append(request)

    def emit(self, line: str, fields: Mapping[str, str]) -> None:
        """Keep an alarm's line with what stands below it, and its fields."""
        self.lines.append(line)
        self.fields.append(fields)

    @property
    def request(self) -> Request:
        """The one request that there was; raises `ValueError` for none, or several."""
        (request,) = self.requests
        return request
