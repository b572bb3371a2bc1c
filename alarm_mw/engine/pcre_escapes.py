"""What a backslash begins in a PCRE pattern, outside of classes."""

from __future__ import annotations

from alarm_mw.engine.pcre_chars import VERTICAL_SPACE, Scanner, octal, property_set, shorthand, single
from alarm_mw.engine.pcre_groups import Groups
from alarm_mw.engine.pcre_options import Options, literal
from alarm_mw.engine.pcre_quantifiers import braces
from alarm_mw.engine.tree import ALL_BYTES, NEWLINE, Atomic, BackReference, Chars, Node, choice, sequence
from alarm_mw.errors import PatternError

_DIGITS = "0123456789"
#: Numbers up to this one are never octal digits.
_ALWAYS_A_GROUP = 9


class Escapes:
    """Reads the escapes of one pattern."""

    def __init__(self, scan: Scanner, groups: Groups) -> None:
        self._scan = scan
        self._groups = groups
        #: What ``\\R`` matches beside CR LF.
        self.line_breaks = VERTICAL_SPACE

    def read(self, options: Options, start: int) -> Node:
        """Return what an escape stands for; its backslash, at `start`, was taken."""
        letter = self._scan.next()
        if letter and letter in "123456789":
            return self._number(options, start)
        code = single(self._scan, letter, start)
        if code is not None:
            return literal(code, options)
        members = shorthand(letter)
        if members is not None:
            return Chars(members)
        return self._rare_escape(letter, options, start)

    def _rare_escape(self, letter: str, options: Options, start: int) -> Node:
        match letter:
            case "R":
                return Atomic(choice(sequence(Chars(1 << 13), Chars(1 << 10)), Chars(self.line_breaks)))
            case "N":
                return self._not_newline(start)
            case "C":
                return Chars(ALL_BYTES)
            case "p" | "P":
                return Chars(property_set(self._scan, letter, start))
            case "g":
                return self._g_reference(options, start)
            case "k":
                return self.back_reference(self._enclosed("<>", "''", "{}", start=start), options, start)
        raise PatternError(f"\\{letter} cannot be had, or means nothing", start)

    def _not_newline(self, start: int) -> Node:
        if self._scan.here == "{" and self._braces_ahead() is None:
            raise PatternError("\\N{…} cannot be had: these rules match bytes", start)
        return Chars(ALL_BYTES & ~NEWLINE)

    def _braces_ahead(self) -> tuple[int, int | None] | None:
        at = self._scan.at
        counts = braces(self._scan)
        self._scan.at = at
        return counts

    def _number(self, options: Options, start: int) -> Node:
        """Return a back-reference, or the byte of octal digits: the rules of pcre2pattern(3), "Backslash"."""
        scan = self._scan
        scan.at = start + 1
        digits = scan.run(_DIGITS)
        number = int(digits)
        if number <= _ALWAYS_A_GROUP or digits[0] in "89" or number <= self._groups.count:
            return self.back_reference(digits, options, start)
        scan.at = start + 1
        return literal(octal(scan, start), options)

    def _g_reference(self, options: Options, start: int) -> Node:
        scan = self._scan
        if scan.here and scan.here in "<'":
            return self._groups.call(self._enclosed("<>", "''", start=start), start)
        if scan.here == "{":
            return self.back_reference(self._enclosed("{}", start=start), options, start)
        return self.back_reference(scan.run("+-", 1) + scan.run(_DIGITS), options, start)

    def _enclosed(self, *pairs: str, start: int) -> str:
        for pair in pairs:
            if self._scan.take(pair[0]):
                return self._scan.until(pair[1], "the name")
        raise PatternError("a name or number in brackets should follow", start)

    def back_reference(self, target: str, options: Options, start: int) -> Node:
        """Return a reference to a group by its number or name."""
        return BackReference(self._groups.closed(target, start), options.ignore_case)
