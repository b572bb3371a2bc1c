r"""What a rule looks like to the screen: a pattern on bytes that finds every line in which the rule may match.

It may find too many lines, never one too few. From the rule's tree:

1. What no automaton can do is widened: lookaround is dropped, a back-reference becomes what it refers to, a
   character beyond ASCII becomes its UTF-8 bytes or, where only Python knows which ones are meant, one to four
   bytes beyond ASCII. Where nothing was widened, the pattern is *exact*: what it finds, the rule matches.
2. What no match depends on is cut off: ``GET.*`` finds the same lines as ``GET``, with fewer calls.
3. It is kept within one line, since it will run over many at once: a newline can only be the last character.
4. It is written in the syntax that Hyperscan and RE2 share, to be compiled so that ``^`` and ``$`` mean lines.

Of a pattern that can match the empty text there is nothing to find: every line has to be judged.
"""

from __future__ import annotations

from alarm_mw.patterns.expression import EVERY_LINE, Exactness, Expression
from alarm_mw.patterns.one_line import across_lines, empty_at_end, with_line_ends, within_line
from alarm_mw.patterns.required_literals import needs_of
from alarm_mw.patterns.screen_syntax import required, write
from alarm_mw.patterns.tree import NOTHING, Tree
from alarm_mw.patterns.trim import can_be_empty, trimmed
from alarm_mw.patterns.widen import widened


def translate(tree: Tree, *, multiline: bool = False) -> Expression:
    """Return the expression of a rule; a `multiline` one may take several lines, and is found in its last."""
    root, exact = widened(tree)
    if multiline:
        root, exact = trimmed(across_lines(root)), Exactness.NEVER
    else:
        root = within_line(trimmed(root))
        if can_be_empty(root):
            # RE2 sees one more line, an empty one, after the last newline.
            root, exact = with_line_ends(root), Exactness.NEVER
        root = trimmed(root)
    if root == NOTHING or can_be_empty(root) or empty_at_end(root):
        return EVERY_LINE
    return Expression(write(root), exact, required(root), needs_of(root))
