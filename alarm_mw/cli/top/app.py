"""``alarm-mw top``, live: the list of incidents, looked at again each second, and what keys do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.style import Style
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from alarm_mw.cli.top.masters import Masters, matchers_like
from alarm_mw.cli.top.now import MOST, Row, Server, Terminal, quiet, remembered, rows, verdict
from alarm_mw.engine.flood_control.limits import read_duration
from alarm_mw.model.errors import NotRunningError

T = TypeVar("T")

#: Seconds between two looks.
EVERY = 1.0

KEYS = "j k move  Enter open  a ack  s silence  r retry  / filter  ? keys  q leave"

KEYS_OF_INCIDENT = "Escape back  a ack  s silence  r retry  j k scroll  q leave"

HELP = """\
j, Down     next incident
k, Up       previous incident
g, G        first and last incident
Enter       open the incident: its facts and its time line
a           acknowledge it; asks for a comment
s           silence incidents like it; asks for how long, and why: 2h deployment
r           retry its dead letters, and what waits for the same alarms
/           filter by words and labels, as in: severity=critical eu
Escape      go back; in the list, take the filter away
q           leave

Messages:   ✓ delivered   … under way   ✗ dead letter"""


class Top(App[None]):
    """Shows the open incidents of some masters."""

    ENABLE_COMMAND_PALETTE = False
    # The terminal's own colors, which are readable on its own background.
    CSS = """
    Screen, OptionList, OptionList > .option-list--option, OptionList > .option-list--option-disabled,
    OptionList > .option-list--option-highlighted, OptionList:focus > .option-list--option-highlighted,
    OptionList > .option-list--option-hover, Page VerticalScroll, Input {
        color: ansi_default; background: ansi_default; border: none; padding: 0;
    }
    #verdict, #keys { text-style: reverse; height: 1; }
    #message { height: auto; min-height: 1; max-height: 4; }
    OptionList { height: 1fr; scrollbar-size-vertical: 1; }
    OptionList.ascii { scrollbar-size-vertical: 0; }
    Page VerticalScroll { height: 1fr; }
    Question { align: left bottom; background: transparent; }
    Question Vertical { height: auto; }
    Question Static { height: auto; text-style: reverse; }
    Question Input { height: 1; }
    """
    # With priority, each key has had its effect before the next one is looked at, however fast they are typed.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, priority=True)
        for key, action in {
            "j,down": "move('cursor_down')",
            "k,up": "move('cursor_up')",
            "g,home": "move('first')",
            "G,end": "move('last')",
            "enter": "open",
            "a": "acknowledge",
            "s": "silence",
            "r": "retry",
            "slash": "filter",
            "escape": "back",
            "question_mark": "help",
            "q": "leave",
        }.items()
    ]

    def __init__(self, masters: Masters, wanted: str = "", *, is_unicode: bool = True) -> None:
        super().__init__(ansi_color=True)
        self._masters = masters
        self._wanted = wanted
        self._is_unicode = is_unicode
        self._servers: Sequence[Server] = ()
        self._rows: list[Row] = []
        #: Questions to masters that are not answered yet.
        self._is_looking = False

    def compose(self) -> ComposeResult:
        """Lay the list out."""
        yield Static(id="verdict")
        yield Listing(classes="" if self._is_unicode else "ascii")
        yield Static(id="message")
        yield Static(self._text(KEYS), id="keys")

    def on_mount(self) -> None:
        """Look, again and again."""
        self.look()
        self.set_interval(EVERY, self.look)

    def on_resize(self) -> None:
        """Fit the rows into another width."""
        self._show()

    # What there is

    def look(self) -> None:
        """Ask the masters, unless they have not answered yet."""
        if not self._is_looking:
            self._is_looking = True
            self._ask_masters()

    @work
    async def _ask_masters(self) -> None:
        servers = await self._asked(self._masters.look)
        self._is_looking = False
        if servers is not None:
            self._take(servers)

    def _take(self, servers: Sequence[Server]) -> None:
        """Show what masters say; of one that does not answer, what it said last."""
        self._servers = remembered(servers, self._servers)
        self._show()

    def _show(self) -> None:
        """Show the rows; the same incident stays selected, wherever it is now."""
        if not self._servers:
            return
        listed = self._list
        selected = None if listed.highlighted is None else listed.highlighted_option
        self._rows = rows(self._servers, self._wanted)
        terminal = Terminal(self.size.width - self._is_unicode, self._is_unicode, with_names=len(self._servers) > 1)
        now = time.time()
        options = [Option(terminal.row(row, now), row.id) for row in self._rows[:MOST]]
        if len(self._rows) > MOST:
            options.append(Option(self._text(f"{len(self._rows) - MOST} more; filter them by /"), disabled=True))
        if not options:
            options.append(Option(self._text(quiet(self._servers)), disabled=True))
        scroll = listed.scroll_y
        listed.set_options(options)
        ids = [row.id for row in self._rows[:MOST]]
        if ids:
            wanted = ids.index(selected.id) if selected is not None and selected.id in ids else 0
            listed.highlighted = wanted
            listed.scroll_to(y=scroll, animate=False)
        names = f"{self._servers[0].name}: " if len(self._servers) == 1 else f"{len(self._servers)} servers: "
        wanted_words = f"   / {self._wanted}" if self._wanted else ""
        line = terminal.line(f"{names}{verdict(self._servers)}{wanted_words}")
        self.query_one("#verdict", Static).update(line)

    @property
    def _list(self) -> OptionList:
        return self.screen_stack[0].query_one(OptionList)

    @property
    def row(self) -> Row | None:
        """The incident that is open or selected."""
        if isinstance(self.screen, Page):
            return self.screen.row
        index = self._list.highlighted
        return None if index is None or index >= len(self._rows) else self._rows[index]

    def _text(self, text: str) -> Text:
        return Text("\n").join(Terminal(0, self._is_unicode).text(line) for line in text.split("\n"))

    def _note(self, text: str) -> None:
        """Say something below the list, or the page."""
        self.screen.query_one("#message", Static).update(self._text(text))

    # What keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave all keys to a question that is open."""
        return not isinstance(self.screen, ModalScreen) and super().check_action(action, parameters)

    def action_move(self, movement: str) -> None:
        """Move the selection, or scroll a page."""
        if isinstance(self.screen, Page):
            self.screen.scroll_lines(movement)
        elif not isinstance(self.screen, ModalScreen):
            getattr(self._list, f"action_{movement}")()

    def action_leave(self) -> None:
        """Leave."""
        self.exit()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Page([self._text(line) for line in HELP.split("\n")], self._text("Escape back  q leave")))

    async def action_back(self) -> None:
        """Go back to the list; there, take the filter away."""
        if isinstance(self.screen, Page):
            await self.pop_screen()
        else:
            self._filter("")

    async def action_filter(self) -> None:
        """Ask for a filter."""
        await self._ask(Question(Text("filter: "), self._wanted), self._filter)

    def _filter(self, wanted: str) -> None:
        self._wanted = wanted
        self._show()

    async def action_acknowledge(self) -> None:
        """Ask for a comment, and acknowledge the incident."""
        row = self.row
        if row is not None:
            question = Question(self._text(f"acknowledge {row.incident.rule}, comment: "))
            await self._ask(question, lambda comment: self._order(partial(self._masters.acknowledge, row, comment)))

    async def action_silence(self) -> None:
        """Ask for how long and why, and silence incidents like the selected one."""
        row = self.row
        if row is not None:
            question = Question(self._text(f"silence {', '.join(matchers_like(row))} for: "), "2h ")
            await self._ask(question, partial(self._silence, row))

    def _silence(self, row: Row, answer: str) -> None:
        length, _, comment = answer.partition(" ")
        try:
            seconds = read_duration(length)
        except ValueError:
            self._note(f"expected a time and then a comment, as in 2h deployment, got {answer!r}")
        else:
            self._order(partial(self._masters.silence, row, seconds, comment.strip()))

    def action_retry(self) -> None:
        """Ask whether to retry an incident's dead letters."""
        if self.row is not None:
            self._retry(self.row)

    @work
    async def _retry(self, row: Row) -> None:
        letters = await self._asked(partial(self._masters.letters, row))
        if letters:
            order = partial(self._masters.retry, row, letters)
            what = "1 dead letter" if len(letters) == 1 else f"{len(letters)} dead letters"
            await self._ask(
                Question(Text(f"retry {what}? [y/n] ")), lambda answer: answer == "y" and self._order(order)
            )
        elif letters is not None:
            self._note("this incident has no dead letters")

    async def _ask(self, question: Question, then: Callable[[str], object]) -> None:
        """Ask a question; what is typed after its key is part of the answer, however fast it comes."""

        def answered(answer: str | None) -> None:
            if answer is not None:
                then(answer)

        await self.push_screen(question, answered)
        question.set_focus(question.query_one(Input))

    def on_option_list_option_selected(self) -> None:
        """Open the incident that was clicked."""
        if self.row is not None:
            self._open(self.row)

    async def action_open(self) -> None:
        """Open the selected incident; go back from an open one."""
        if isinstance(self.screen, Page):
            await self.action_back()
        elif self.row is not None:
            self._open(self.row)

    @work
    async def _open(self, row: Row) -> None:
        events = await self._asked(partial(self._masters.events, row))
        if events is not None:
            lines = Terminal(self.size.width, self._is_unicode).incident(row, events, time.time())
            await self.push_screen(Page(lines, self._text(KEYS_OF_INCIDENT), row))

    async def _asked(self, question: Callable[[], T]) -> T | None:
        """Return a master's answer; say why there is none."""
        try:
            return await asyncio.to_thread(question)
        except NotRunningError as error:
            self._note(str(error))
            return None

    @work
    async def _order(self, order: Callable[[], str]) -> None:
        """Have a master do something, and say what came of it."""
        done = await self._asked(order)
        if done is not None:
            self._note(done)
            self.look()


class Listing(OptionList):
    """A list whose selected row is shown in reverse, also where there are no colors."""

    def get_visual_style(self, *component_classes: str, partial: bool = False) -> Style:
        """Add what the base class forgets of a style."""
        style = super().get_visual_style(*component_classes, partial=partial)
        return style + Style(reverse=True) if "option-list--option-highlighted" in component_classes else style


class Page(Screen[None]):
    """Lines to read: an incident, or the keys."""

    def __init__(self, lines: Sequence[Text], keys: Text, row: Row | None = None) -> None:
        super().__init__()
        self._lines = lines
        self._keys = keys
        #: The incident that is shown.
        self.row = row

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        with VerticalScroll():
            yield Static(Text("\n").join(self._lines))
        yield Static(id="message")
        yield Static(self._keys, id="keys")

    def scroll_lines(self, movement: str) -> None:
        """Scroll as far as a movement of the list."""
        body = self.query_one(VerticalScroll)
        match movement:
            case "cursor_down":
                body.scroll_relative(y=1, animate=False)
            case "cursor_up":
                body.scroll_relative(y=-1, animate=False)
            case "first":
                body.scroll_home(animate=False)
            case _:
                body.scroll_end(animate=False)


class Question(ModalScreen[str | None]):
    """A question in the last lines; Escape takes it back."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "back")]

    def __init__(self, question: Text, value: str = "") -> None:
        super().__init__()
        self._question = question
        self._value = value

    def compose(self) -> ComposeResult:
        """Show the question and what is typed."""
        with Vertical():
            yield Static(self._question)
            yield Input(self._value, select_on_focus=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the answer."""
        self.dismiss(event.value.strip())

    def action_cancel(self) -> None:
        """Give none."""
        self.dismiss(None)
