"""Draws how the cost grows, as SVG, from what `growth.py` has kept; the documentation draws by this as well.

``python bench/charts.py RESULT.json FOLDER`` writes a file for each figure.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from harness import Spread, shown

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
#: From so much between the least and the most on, a scale goes by powers of ten.
WIDE = 20.0


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of one section: its points from left to right, each with its name."""

    title: str
    axis: str
    points: Sequence[tuple[str, Spread]]


def charts(result: Mapping[str, Any]) -> Iterator[Chart]:
    """Yield the charts of what was kept: those of the sections in which something grows."""
    for section in result["sections"]:
        for key, metric in section["metrics"].items():
            cases = sorted((at, section["cases"][name]) for name, at in section["at"].items())
            points = [(f"{at:,g}", Spread.of(figures[key])) for at, figures in cases if figures.get(key)]
            if points:
                yield Chart(f"{section['title']}: {metric['title']}", section["axis"], points)


class Scale:
    """Where a value stands: from 0 to the most, or by powers of ten where it is a long way between."""

    def __init__(self, values: Sequence[float]) -> None:
        least, most = min(values), max(values)
        self._by_tens = least > 0 and most / least > WIDE
        self._low, self._high = self._ends(least, most)

    def _ends(self, least: float, most: float) -> tuple[float, float]:
        if self._by_tens:
            return math.floor(math.log10(least)), math.ceil(math.log10(most))
        return 0.0, _rounded_up(most)

    def share(self, value: float) -> float:
        """Return how far up a value stands, 0 to 1."""
        height = math.log10(value) if self._by_tens else value
        return (height - self._low) / (self._high - self._low)

    def marks(self) -> list[float]:
        """Return the values that have a line of their own."""
        if self._by_tens:
            return [10.0**power for power in range(int(self._low), int(self._high) + 1)]
        return [self._high * part / 4 for part in range(5)]


def _rounded_up(value: float) -> float:
    unit = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)


def draw(chart: Chart) -> str:
    """Return a chart as an SVG element, in the colour of the text around it, so that it can be read in the dark."""
    size = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "width": "100%", "role": "img", "aria-label": chart.title}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "font-family": "sans-serif"})
    scale = Scale([value for _, spread in chart.points for value in (spread.low, spread.high)])
    _text(root, chart.title, LEFT, TOP - 20, anchor="start")
    _text(root, chart.axis, WIDTH - RIGHT, HEIGHT - 8, anchor="end")
    for mark in scale.marks():
        y = _y(scale, mark)
        _line(root, [(LEFT, y), (WIDTH - RIGHT, y)], opacity="0.2")
        _text(root, shown(mark), LEFT - 8, y + 4, anchor="end")
    places = [(_x(number, len(chart.points)), name, spread) for number, (name, spread) in enumerate(chart.points)]
    for x, name, spread in places:
        _text(root, name, x, HEIGHT - BOTTOM + 20)
        _line(root, [(x, _y(scale, spread.low)), (x, _y(scale, spread.high))], width="5", opacity="0.3")
    _line(root, [(x, _y(scale, spread.median)) for x, _, spread in places], width="2")
    for x, name, spread in places:
        dot = ET.SubElement(
            root, "circle", cx=f"{x:.1f}", cy=f"{_y(scale, spread.median):.1f}", r="4", fill="currentColor"
        )
        ET.SubElement(dot, "title").text = f"{name} {chart.axis}: {shown(spread.median)}"
    return ET.tostring(root, encoding="unicode")


def _x(number: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (number + 0.5) / count


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * scale.share(value)


def _line(root: ET.Element, points: Sequence[tuple[float, float]], *, width: str = "1", opacity: str = "1") -> None:
    look = {"fill": "none", "stroke": "currentColor", "stroke-width": width, "stroke-opacity": opacity}
    ET.SubElement(root, "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), attrib=look)


def _text(root: ET.Element, text: str, x: float, y: float, *, anchor: str = "middle") -> None:
    look = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": "12", "fill": "currentColor"}
    ET.SubElement(root, "text", look).text = text


def main() -> None:
    """Write the files."""
    result, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts(result):
        name = re.sub(r"\W+", "-", chart.title.lower()).strip("-")
        (folder / f"{name}.svg").write_text(draw(chart) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
