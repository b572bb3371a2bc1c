"""Dead letters as tables for a terminal, which obeys nothing of what they say."""

from __future__ import annotations

import time

from rich.text import Text

from alarm_mw.cli.console import console as make_console
from alarm_mw.cli.console import table as make_table
from alarm_mw.delivery.dead_letters import Answer, Letter
from alarm_mw.model.printable import printable, printable_lines

#: Bytes of a message or an error that a line of the list shows.
SHOWN = 200


def show_letters(answer: Answer) -> None:
    """Print a table of the letters, and how many there are."""
    console = make_console()
    if answer.letters:
        table = make_table("id", "alarm", "when", "why", "attempts", "message", "error")
        for letter in answer.letters:
            cells = (str(letter.id), letter.alarm, _when(letter), _why(letter), str(letter.attempts))
            table.add_row(*map(_text, cells), _first_line(letter.message), _text(letter.error, SHOWN))
        console.print(table)
    more = answer.count - len(answer.letters)
    letters = "1 letter" if answer.count == 1 else f"{answer.count} letters"
    console.print(letters + (f", {more} older ones are not shown" if more else ""))


def show_letter(letter: Letter) -> None:
    """Print all that is known of a letter."""
    facts = {
        "id": str(letter.id),
        "alarm": letter.alarm,
        "state": letter.state,
        "why": _why(letter),
        "attempts": str(letter.attempts),
        "error": letter.error,
        "fired": _time(letter.taken),
        "dead since": _time(letter.died) if letter.died else "",
        "source": letter.source,
        "rule": letter.rule,
        "key": letter.key,
    }
    console = make_console()
    for name, fact in facts.items():
        if fact:
            console.print(Text(f"{name + ':':12}", "bold") + _text(fact), soft_wrap=True)
    for line in printable_lines(letter.message.encode("utf-8", "backslashreplace")):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _first_line(message: str) -> Text:
    """Return the first line, and how many follow it."""
    first, *others = message.removesuffix("\n").split("\n")
    shown = _text(first, SHOWN)
    return shown + Text(f" [+{len(others)} line{'' if len(others) == 1 else 's'}]") if others else shown


def _why(letter: Letter) -> str:
    return letter.reason or letter.state


def _when(letter: Letter) -> str:
    return _time(letter.died or letter.taken)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _text(text: str, limit: int | None = None) -> Text:
    return Text(printable(text.removesuffix("\n"), limit))
