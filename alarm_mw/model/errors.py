"""The errors of this package, in one tree.

::

    AlarmError
    ├── ConfigError       the configuration is wrong; carries every problem found
    ├── OptionError       the options of a plugin are wrong; becomes a ConfigError with its place
    │   └── MissingError  what a plugin needs is not installed; an alarm with ``optional = true`` is left out
    ├── PatternError      a regexp is wrong or not supported; becomes a ConfigError with its place
    ├── RuleTimeout       a regexp took too long on a line
    ├── ActionError       an action could not deliver; says whether a retry can help
    └── NotRunningError   no master answers where one was expected
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from alarm_mw.model.types import Where


class AlarmError(Exception):
    """The base class of all errors that this package raises on purpose."""


class Problem(msgspec.Struct, frozen=True):
    """One mistake in a configuration: where it is, what is wrong and what was expected. Never holds a secret."""

    where: Where
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class ConfigError(AlarmError):
    """The configuration is wrong: `problems` lists every mistake that was found, in order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class OptionError(AlarmError):
    """A plugin's options are wrong: `texts` says what; the configuration adds the place and raises ConfigError."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        super().__init__("; ".join(texts))


class MissingError(OptionError):
    """A plugin needs a package or a program that is not installed; the text names what to install."""


class PatternError(AlarmError):
    """A regexp is wrong or not supported.

    `text` is a sentence for the user; `position` is the index in the pattern as the user wrote it, or None.
    """

    def __init__(self, text: str, position: int | None = None) -> None:
        super().__init__(text if position is None else f"{text} at position {position}")
        self.text = text
        self.position = position


class RuleTimeout(AlarmError):  # noqa: N818  # the word for it in the configuration, the ledger and the log
    """A regexp took too long on a line, so it is unknown whether it matches."""


class ActionError(AlarmError):
    """An action could not deliver a firing.

    `retry` says whether trying again can help; `after` is the number of seconds that the receiver asked
    to wait, or None. Never put a secret into the message: it is shown and stored.
    """

    def __init__(self, message: str, *, retry: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.retry = retry
        self.after = after


class NotRunningError(AlarmError):
    """No master answers where one was expected."""
