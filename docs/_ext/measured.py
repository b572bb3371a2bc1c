"""``{measured} NAME``, ``{goals}``: what benchmarks have kept, so that nothing in a table is written by hand.

The first shows all sections of the newest ``bench/results/*-NAME.json``, after a sentence about the machine; as charts
those in which something grows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from reference import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import goals  # noqa: E402  # where it lies was said just now
from charts import charts, draw  # noqa: E402  # as above
from harness import remark, rows  # noqa: E402  # found by the line above


class Measured(SphinxDirective):
    """Shows the newest result of a benchmark."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the tables, and the charts of the sections in which something grows."""
        found = sorted((BENCH / "results").glob(f"*-{self.arguments[0]}.json"))
        if not found:
            raise self.error(f"bench/results has nothing of {self.arguments[0]}")
        self.env.note_dependency(str(found[-1]))
        result = json.loads(found[-1].read_text(encoding="utf-8"))
        shown = self.parse_text_to_nodes("\n".join(_lines(result)))
        drawn = (draw(chart) for chart in charts(result))
        return [*shown, *(nodes.raw("", f"<figure>{svg}</figure>", format="html") for svg in drawn)]


class Goals(SphinxDirective):
    """Shows what was to be reached, beside the newest results."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        for file in (BENCH / "results").glob("*.json"):
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(table(goals.HEAD, goals.rows())))


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"`python bench/{result['name']}.py`, {result['when'][:10]}, {remark(result['machine'])}"
    for section in result["sections"]:
        if section["at"]:
            continue
        head, *lines = rows(section)
        yield from ("", f"**{section['title']}**", "")
        yield from table(tuple(head), map(tuple, lines))
        yield from ("", *(f"{note}." for note in section["notes"]))


def setup(app: Sphinx) -> dict[str, object]:
    """Add the directive (Sphinx's extension interface)."""
    app.add_directive("measured", Measured)
    app.add_directive("goals", Goals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
