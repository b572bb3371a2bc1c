"""Charts as SVG without a style of their own: the style sheet says what they look like."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup


def spark(values: Sequence[int], what: str) -> Markup:
    """Return a small chart as SVG, which says in words what it shows.

    All bars are one path: a page with a hundred charts has a hundred of them, not six thousand.
    """
    most, width, height = max(values, default=0), 4, 32
    bars = "".join(
        f"M{place * width} {height}v-{max(round((height - 1) * n / most), 2)}h{width - 1}V{height}z"
        for place, n in enumerate(values)
        if n
    )
    wide = len(values) * width
    return Markup(  # noqa: S704  # of numbers
        f'<svg class="spark" viewBox="0 0 {wide} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{sum(values):,} {what}"><path d="M0 {height}v-1h{wide}v1z"/><path class="on" d="{bars}"/></svg>'
    )


#: Units of a chart's width, of the scale at its left, of the widest bar, and of a label.
_WIDTH, _LEFT, _WIDEST, _LABEL = 1000, 46, 40, 120


def ticks(n: int) -> list[int]:
    """Return the places of labels among `n` bars, from the first on, so that they do not touch."""
    return list(range(0, n, max(math.ceil(_LABEL / _width_of_bar(n)), 1)))


def _width_of_bar(n: int) -> float:
    return min((_WIDTH - _LEFT) / max(n, 1), _WIDEST)


def chart(values: Sequence[int], labels: Sequence[tuple[int, str]], what: str) -> Markup:
    """Return a chart with a scale as SVG; `labels` are the places of words below it."""
    most, width, height, left = max(values, default=0), _WIDTH, 180, _LEFT
    each = _width_of_bar(len(values))
    bars = "".join(
        f"M{left + place * each:.1f} {height}v-{max((height - 14) * n / most, 2):.1f}h{max(each - 1, 1):.1f}V{height}z"
        for place, n in enumerate(values)
        if n
    )
    texts = "".join(
        f'<text x="{left + place * each:.1f}" y="{height + 18}">{text}</text>'
        f'<line x1="{left + place * each:.1f}" y1="10" x2="{left + place * each:.1f}" y2="{height}"/>'
        for place, text in labels
    )
    scale = (
        f'<text class="end" x="{left - 8}" y="20">{most:,}</text><text class="end" x="{left - 8}" y="{height}">0</text>'
    )
    return Markup(  # noqa: S704  # of numbers, and words of ours
        f'<svg class="chart" viewBox="0 0 {width} {height + 26}" role="img" aria-label="{sum(values):,} {what}">'
        f'{texts}<line class="axis" x1="{left}" y1="{height}" x2="{width}" y2="{height}"/>'
        f'<path class="on" d="{bars}"/>{scale}</svg>'
    )
