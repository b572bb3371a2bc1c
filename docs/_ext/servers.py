"""``{servers}``: what the tests run the package with, from the tests' own parameters and the versions that they pin."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from reference import Generated, table
from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "servers" / "matrix"))

from matrix_rows import PROGRAMS, SERVERS, Program, Row  # noqa: E402  # where it lies was said just now


class TestedServers(Generated):
    """A row for each server of the matrix: its versions, what was done to it, and the command."""

    def lines(self) -> Iterator[str]:
        """Return the table."""
        versions = pinned((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"))
        head = ("server", "version", "events", "command")
        yield from table(head, (cells(row, versions) for row in (*SERVERS, *PROGRAMS)))


def pinned(constraints: str) -> dict[str, str]:
    """Return the version of each package that a constraints file names."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", constraints, re.MULTILINE))


def cells(row: Row | Program, versions: dict[str, str]) -> tuple[str, ...]:
    """Return what the table shows of a row; `KeyError` where a package of it is not pinned."""
    packages = ", ".join(f"{package} {versions[package]}" for package in row.packages)
    return row.name, packages or row.brought_by, ", ".join([*row.events, row.end]), f"`{row.command}`"


def setup(app: Sphinx) -> dict[str, object]:
    """Add the directive (Sphinx's extension interface)."""
    app.add_directive("servers", TestedServers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
