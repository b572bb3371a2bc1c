r"""PCRE's syntax, as a `Tree`: what uWSGI's ``log-alarm`` understands. See pcrepattern(3).

Where the two versions of PCRE differ, it is PCRE 8 that is meant, which Debian's uWSGI is linked with; what only
PCRE2 has is taken as well. Without ``(*UTF8)`` at the start, one character is one byte, and without ``(*UCP)`` ``\w``,
``\d`` and the POSIX classes are ASCII. What is not supported (``(*COMMIT)``, conditions on recursion, …) raises
`PatternError`; nothing changes its meaning in silence. Only groups that something refers to are kept.
"""

from __future__ import annotations

import re

from msgspec import structs

from alarm_mw.model.errors import PatternError
from alarm_mw.patterns.syntax.characters import (
    NEWLINES,
    ClassParser,
    Scanner,
    octal,
    posix_name,
    property_set,
    single,
)
from alarm_mw.patterns.syntax.groups import Groups, fixed_width
from alarm_mw.patterns.syntax.items import (
    Options,
    Places,
    Start,
    ahead,
    braces,
    counts,
    letters,
    mood,
    repeated,
    start_of,
)
from alarm_mw.patterns.tree import (
    ALL_BYTES,
    EMPTY,
    NOTHING,
    Atomic,
    BackReference,
    Chars,
    Choice,
    Condition,
    Define,
    Group,
    Look,
    Mood,
    Native,
    Node,
    Repeat,
    Tree,
    children,
    choice,
    sequence,
)

_DEEPEST = 60
_BLANKS = "\t\n\v\f\r "
_NAME = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"

#: Verbs that are for the start of a pattern.
_ONLY_FIRST = {"UTF", "UTF8", "UCP", "CR", "LF", "CRLF", "ANY", "ANYCRLF", "BSR_ANYCRLF", "BSR_UNICODE"}

#: What never matches, and does not make the tree forget what stands before it.
_FAIL = ahead(EMPTY, negative=True)

#: Groups by their openings: behind, negative.
_LOOKS = {"=": (True, False), "!": (True, True), "<=": (False, False), "<!": (False, True)}
_WORDY = {
    "positive_lookahead": "=",
    "pla": "=",
    "negative_lookahead": "!",
    "nla": "!",
    "positive_lookbehind": "<=",
    "plb": "<=",
    "negative_lookbehind": "<!",
    "nlb": "<!",
}


def parse(pattern: str) -> Tree:
    """Return the tree of a pattern in PCRE's syntax; raise `PatternError` with a position in `pattern`."""
    start = start_of(pattern)
    if start.alphabet.unicode:
        return Tree(_parsed(pattern, start), text=True)
    data = pattern.encode("utf-8", "surrogateescape")
    try:
        return Tree(_parsed(data.decode("latin-1"), start), text=False)
    except PatternError as error:
        if error.position is None:
            raise
        before = data[: error.position].decode("utf-8", "surrogateescape")
        raise PatternError(error.text, len(before)) from None


def _parsed(data: str, start: Start) -> Node:
    try:
        return _Parser(data, start).parse()
    except ValueError:  # Python reads no decimal number of more than some thousand digits
        raise PatternError("a number is too high") from None


#: Characters that stand for themselves, even between ``\\Q`` and ``\\E``, and are not repeated.
_PLAIN = re.compile(r"(?:[\w \-:/,;=@%&'\"~<>_!`](?![*+?{]))+", re.ASCII)


class _Parser:
    """Reads a pattern once, from left to right."""

    def __init__(self, data: str, start: Start) -> None:
        self._scan = Scanner(data, start.alphabet)
        self._scan.at = start.length
        self._groups = Groups()
        self._places = Places(start)
        self._escapes = Escapes(self._scan, self._groups, self._places, start.line_breaks)
        self._quoting = False
        self._depth = 0
        self._behind = 0
        #: Where the last backtracking verb is.
        self._verb_at: int | None = None

    def parse(self) -> Node:
        root = choice(*self._branches(Options()))
        if self._scan.here:
            raise PatternError("this ')' closes nothing", self._scan.at)
        root = self._groups.resolve(root)
        if self._places.not_first is not None and not self._scan.names_newline:
            root = sequence(self._places.not_first, root)
        if "(*" in self._scan.data and _confined_verb(root):
            raise PatternError(
                "such a verb is not supported in an atomic group, an assertion or a recursion", self._verb_at
            )
        return root

    # What a group holds

    def _branches(self, options: Options, *, reset: bool = False) -> list[Node]:
        """Return the branches up to a ``)`` or the end; with `reset`, their groups have the same numbers."""
        branches: list[Node] = []
        first = highest = self._groups.count
        while True:
            branch, options = self._branch(options)
            branches.append(branch)
            highest = max(highest, self._groups.count)
            if not self._scan.take("|"):
                self._groups.count = highest
                return branches
            if reset:
                self._groups.count = first

    def _branch(self, options: Options) -> tuple[Node, Options]:
        """Return what stands before the next ``|`` or ``)``, and the options that hold after it."""
        items: list[Node] = []
        while True:
            if not options.extended and (plain := _PLAIN.match(self._scan.data, self._scan.at)) is not None:
                items += [self._escapes.literal(ord(character), options) for character in plain[0]]
                self._scan.at = plain.end()
            self._skip(options)
            if not self._scan.here or (not self._quoting and self._scan.here in "|)"):
                return sequence(*items), options
            changed = None if self._quoting else self._option_setting(options)
            if changed is not None:
                options = changed
                continue
            items.append(self._quantified(options))

    def _skip(self, options: Options) -> None:
        r"""Skip comments, ``\Q``, ``\E`` and, under ``(?x)``, white space."""
        scan = self._scan
        while True:
            if scan.take("\\E"):
                self._quoting = False
            elif self._quoting:
                return
            elif scan.take("\\Q"):
                self._quoting = True
            elif scan.take("(?#"):
                scan.until(")", "the comment")
            elif options.extended and scan.take("#"):
                scan.at = scan.data.find("\n", scan.at) + 1 or len(scan.data)
            elif not (options.extended and scan.run(_BLANKS)):
                return

    def _option_setting(self, options: Options) -> Options | None:
        """Return the options after ``(?…)``, or None where none stands here."""
        start = self._scan.at
        if not self._scan.take("(?"):
            return None
        changed = letters(self._scan, options)
        if changed is not None and self._scan.take(")"):
            self._refuse_counts()
            return changed
        self._scan.at = start
        return None

    # One item and its quantifier

    def _quantified(self, options: Options) -> Node:
        if not self._quoting:
            self._refuse_counts()
            start = self._scan.at
            here = self._places.take(self._scan, options)
            if here is not None:
                self._verb_at = start if isinstance(here, Native) else self._verb_at
                if here is NOTHING and self._verb_at is not None:
                    here = _FAIL  # What comes before it decides where the search goes on.
                self._skip(options)
                self._refuse_counts()
                return here
        item = self._item(options)
        self._skip(options)
        found = None if self._quoting else counts(self._scan)
        if found is None:
            return item
        taken = mood(self._scan, options)
        self._refuse_counts()
        return repeated(item, found, taken)

    def _refuse_counts(self) -> None:
        start = self._scan.at
        if not self._quoting and counts(self._scan) is not None:
            raise PatternError("there is nothing to repeat", start)

    def _item(self, options: Options) -> Node:
        scan, start = self._scan, self._scan.at
        if self._quoting:
            return self._escapes.literal(ord(scan.next()), options)
        match character := scan.next():
            case "\\":
                return self._escapes.read(options, start)
            case "[":
                return self._class(options, start)
            case "(":
                return self._group(options, start)
            case ".":
                return scan.alphabet.chars(scan.alphabet.all) if options.dot_all else self._places.dot
        return self._escapes.literal(ord(character), options)

    def _class(self, options: Options, start: int) -> Node:
        if posix_name(self._scan) is not None:
            raise PatternError("POSIX classes stand within a class: [[:alpha:]]", start)
        return self._scan.alphabet.chars(ClassParser(self._scan, ignore_case=options.ignore_case).parse())

    # Groups

    def _group(self, options: Options, start: int) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PatternError("groups are nested too deeply", start)
        node = self._opened(options, start)
        self._depth -= 1
        return node

    def _opened(self, options: Options, start: int) -> Node:  # noqa: PLR0911  # one for each kind
        scan = self._scan
        if scan.take("*"):
            return self._verb(options, start)
        if not scan.take("?"):
            return self._plain(options, start) if options.no_capture else self._capture(None, options, start)
        for token in ("<=", "<!", "=", "!"):
            if scan.take(token):
                return self._look(token, options, start)
        if scan.take(">"):
            return Atomic(self._plain(options, start))
        if scan.take("|"):
            return self._closed(choice(*self._branches(options, reset=True)), start)
        if scan.take("("):
            return self._condition(options, start)
        return self._named(options, start)

    def _named(self, options: Options, start: int) -> Node:
        scan = self._scan
        for token, closing in (("P<", ">"), ("<", ">"), ("'", "'")):
            if scan.take(token):
                return self._capture(scan.until(closing, "the name"), options, start)
        if scan.take("P="):
            return self._escapes.back_reference(scan.until(")", "the reference"), options, start)
        if scan.take("P>") or scan.take("&"):
            return self._groups.call(scan.until(")", "the call"), start)
        if (scan.here and scan.here in "R+" + _DIGITS) or scan.data[scan.at : scan.at + 2].strip(_DIGITS) == "-":
            return self._groups.call(scan.until(")", "the call"), start)
        changed = letters(scan, options)
        if changed is None or not scan.take(":"):
            raise PatternError("unknown or unsupported kind of group", start)
        return self._plain(changed, start)

    def _closed(self, node: Node, start: int) -> Node:
        if not self._scan.take(")"):
            raise PatternError("this '(' is never closed", start)
        return node

    def _plain(self, options: Options, start: int) -> Node:
        return self._closed(choice(*self._branches(options)), start)

    def _capture(self, name: str | None, options: Options, start: int) -> Node:
        number = self._groups.open(name, start, duplicates=options.duplicate_names)
        group = Group(self._plain(options, start), number)
        self._groups.close(group)
        return group

    def _look(self, token: str, options: Options, start: int) -> Node:
        ahead, negative = _LOOKS[token]
        self._behind += not ahead
        item = self._plain(options, start)
        self._behind -= not ahead
        if not ahead:
            branches = item.branches if isinstance(item, Choice) else (item,)
            if any(fixed_width(branch) is None for branch in branches):
                raise PatternError("what a lookbehind holds must have a fixed length", start)
        return Look(item, ahead, negative)

    def _condition(self, options: Options, start: int) -> Node:
        scan = self._scan
        if self._behind:
            raise PatternError("a condition within a lookbehind is not supported", start)
        for token in ("?=", "?!", "?<=", "?<!"):
            if scan.take(token):
                look = self._look(token[1:], options, start)
                assert isinstance(look, Look)
                yes, no = self._yes_no(options, start)
                return choice(sequence(look, yes), sequence(structs.replace(look, negative=not look.negative), no))
        name = scan.until(")", "the condition")
        if name == "DEFINE":
            yes, no = self._yes_no(options, start)
            if no is not EMPTY:
                raise PatternError("DEFINE has one branch", start)
            return Define(yes)
        if name[:1] in {"<", "'"}:
            name = name[1:-1]
        elif name.startswith(("R", "VERSION", "?")):
            raise PatternError("conditions other than a group or an assertion are not supported", start)
        number = self._groups.closed(name, start)
        return Condition(number, *self._yes_no(options, start))

    def _yes_no(self, options: Options, start: int) -> tuple[Node, Node]:
        branches = self._branches(options)
        self._closed(EMPTY, start)
        yes, *others = branches
        if others[1:]:
            raise PatternError("a condition has at most two branches", start)
        return yes, sequence(others[0]) if others else EMPTY

    # Verbs

    def _verb(self, options: Options, start: int) -> Node:
        scan = self._scan
        name = scan.run(_NAME)
        if name == "atomic" and scan.take(":"):
            return Atomic(self._plain(options, start))
        if name in _WORDY and scan.take(":"):
            return self._look(_WORDY[name], options, start)
        raise PatternError(f"the verb (*{name}) is not supported" + (" here" if name in _ONLY_FIRST else ""), start)


def _confined_verb(node: Node, *, confined: bool = False) -> bool:
    """Return whether a backtracking verb is where `regex` and PCRE do not agree on what it does."""
    match node:
        case Native(item=item):
            return confined and item == EMPTY
        case Atomic() | Look() | Define() | Repeat(mood=Mood.POSSESSIVE):
            confined = True
    return any(_confined_verb(child, confined=confined) for child in children(node))


#: Numbers up to this one are always a group's.
_ALWAYS_A_GROUP = 7


class Escapes:
    """Reads the escapes of one pattern."""

    def __init__(self, scan: Scanner, groups: Groups, places: Places, line_breaks: int) -> None:
        self._scan = scan
        self._groups = groups
        self._places = places
        self._line_breaks = line_breaks

    def read(self, options: Options, start: int) -> Node:
        """Return what an escape stands for; its backslash, at `start`, was taken."""
        letter = self._scan.next()
        if letter and letter in "123456789":
            return self._number(options, start)
        code = single(self._scan, letter, start)
        if code is not None:
            return self.literal(code, options)
        members = self._scan.alphabet.shorthand(letter)
        if members is not None:
            return self._scan.alphabet.chars(members)
        return self._rare_escape(letter, options, start)

    def literal(self, code: int, options: Options) -> Node:
        """Return one character, in all cases where case is ignored."""
        alphabet, members = self._scan.alphabet, 1 << code
        self._scan.names_newline |= code in NEWLINES
        return alphabet.chars(alphabet.both_cases(members) if options.ignore_case else members)

    def _rare_escape(self, letter: str, options: Options, start: int) -> Node:  # noqa: PLR0911  # one for each
        alphabet = self._scan.alphabet
        match letter:
            case "R":
                return Atomic(choice(sequence(Chars(1 << 13), Chars(1 << 10)), alphabet.chars(self._line_breaks)))
            case "N":
                return self._not_newline(start)
            case "X":
                return self._grapheme()
            case "C" if alphabet.unicode:
                raise PatternError("\\C is not supported after (*UTF8): it would split characters", start)
            case "C":
                return Chars(ALL_BYTES)
            case "p" | "P":
                return alphabet.chars(property_set(self._scan, letter, start))
            case "g":
                return self._g_reference(options, start)
            case "k":
                return self.back_reference(self._enclosed("<>", "''", "{}", start=start), options, start)
        return self.literal(ord(letter), options)  # What means nothing is the letter, as in Perl.

    def _grapheme(self) -> Node:
        """Return what a reader takes for one character; of bytes, only CR LF is more than one."""
        alphabet = self._scan.alphabet
        anything = alphabet.chars(alphabet.all)
        if alphabet.unicode:
            return Native("\\X", Repeat(anything, 1, None))
        return Atomic(choice(sequence(Chars(1 << 13), Chars(1 << 10)), anything))

    def _not_newline(self, start: int) -> Node:
        if self._scan.here == "{" and self._braces_ahead() is None:
            raise PatternError("\\N{…} is not supported: write the character itself, or \\x{…} after (*UTF8)", start)
        return self._places.dot

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
        if number <= _ALWAYS_A_GROUP or number <= self._groups.count:
            return self.back_reference(digits, options, start)
        scan.at = start + 1
        if digits[0] in "89":
            return self.literal(ord(scan.next()), options)
        return self.literal(octal(scan, start), options)

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
