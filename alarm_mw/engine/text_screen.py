"""Tells of a record's text whether any rule may match it, and has bytes made of it only where that is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alarm_mw.engine.expression import NOWHERE, Expression
from alarm_mw.engine.finder import Tell

#: Up to so many literals, in up to so many characters: to look for each is faster than a pass that looks for all rules.
FEW_LITERALS = 16
SHORT = 500

#: What any record holds.
ANYTHING = ("",)

#: Tells whether any rule may match a record, by its text without a newline at the end.
TellText = Callable[[str], bool]


def needed_texts(expressions: Sequence[Expression]) -> tuple[str, ...]:
    """Return texts of which a record holds one, where any rule may match it and it is all of ASCII.

    To look for few texts takes less time than to have bytes made of the record. `ANYTHING` where that is of no use.
    """
    literals = {expression.literal for expression in expressions if expression != NOWHERE}
    if b"" in literals or len(literals) > FEW_LITERALS or not all(map(bytes.isascii, literals)):
        return ANYTHING
    return tuple(literal.decode() for literal in literals)


def text_teller(needs: tuple[str, ...], may_match: Tell) -> TellText:
    """Return what tells of text: by what it `needs`, then by its bytes. Every log call goes through it."""

    def tells_by_bytes(text: str) -> bool:
        try:
            message = (text + "\n").encode()
        except UnicodeEncodeError:  # what becomes of it is for the rules to see
            return True
        return may_match(message)

    def tells_by_needs(text: str) -> bool:
        # What is beyond ASCII may be written in another way once it is bytes.
        if len(text) > SHORT or not text.isascii():
            return tells_by_bytes(text)
        for need in needs:
            if need in text:
                return tells_by_bytes(text)
        return False

    return tells_by_bytes if needs == ANYTHING else tells_by_needs
