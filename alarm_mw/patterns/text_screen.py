"""Tells of a record's text whether any rule may match it, and has bytes made of it only where that is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alarm_mw.patterns.expression import MOST_NEEDS, UNKNOWN, Needs
from alarm_mw.patterns.finder import Tell

#: Up to so many texts, in up to so many characters: to look for each is faster than a pass that looks for all rules.
FEW = 16
SHORT = 500

#: Tells whether any rule may match a record, by its text without a newline at the end.
TellText = Callable[[str], bool]


def joined(needs: Iterable[Needs]) -> Needs:
    """Return what some rules need together; unknown where it is of one of them, and where it is much."""
    all_needs = list(needs)
    ignores_case = any(each.ignores_case for each in all_needs)
    texts = {text.lower() if ignores_case else text for each in all_needs for text in each.texts}
    if UNKNOWN in all_needs or len(texts) > MOST_NEEDS:
        return UNKNOWN
    least = [text for text in texts if not any(other in text for other in texts - {text})]
    return Needs(tuple(sorted(least)), ignores_case) if len(least) <= FEW else UNKNOWN


def text_teller(needs: Needs, may_match: Tell) -> TellText:
    """Return what tells of text: by what the rules need, then by its bytes. Every log call goes through it."""

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
        looked_through = text.lower() if ignores_case else text
        for need in texts:
            if need in looked_through:
                return tells_by_bytes(text)
        return False

    texts, ignores_case = needs.texts, needs.ignores_case
    return tells_by_needs if texts else tells_by_bytes
