"""What the package is to live in: its modules, rooms, circles of imports, and modules too small to look for.

``python docs/_ext/rooms.py`` prints it, with the two ways through the program (`ways`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import ways

ROOT = Path(__file__).parents[2] / "alarm_mw"

#: A module of fewer lines with one importer belongs beside that importer, unless it is looked for by its name.
SMALL = 60


class Package:
    """The modules of the package and what each imports, type checking included."""

    def __init__(self, root: Path = ROOT) -> None:
        self._files = {_name(file, root): file for file in sorted(root.rglob("*.py"))}

    @cached_property
    def lines(self) -> Mapping[str, int]:
        """How many lines each module has."""
        return {name: len(file.read_text("utf-8").splitlines()) for name, file in self._files.items()}

    @cached_property
    def imports(self) -> Mapping[str, frozenset[str]]:
        """What each module imports of the others, wherever in it."""
        return {name: frozenset(self._imported(file)) - {name} for name, file in self._files.items()}

    def rooms(self) -> dict[str, int]:
        """Return how many entries each folder has: modules, but for its own, and folders."""
        folders = {file.parent for file in self._files.values()}
        return {
            str(folder.relative_to(ROOT.parent)): sum(
                (entry.suffix == ".py" and entry.name != "__init__.py") or entry in folders
                for entry in folder.iterdir()
            )
            for folder in sorted(folders)
        }

    def circles(self) -> list[list[str]]:
        """Return the groups of modules that import each other, over whatever others."""
        reached = {name: self._reached(name) for name in self.imports}
        groups = {frozenset(other for other in found if name in reached[other]) for name, found in reached.items()}
        return sorted(sorted(group) for group in groups if len(group) > 1)

    def small(self) -> list[str]:
        """Return the modules of fewer than `SMALL` lines that one other module imports."""
        importers = {name: [other for other in self.imports if name in self.imports[other]] for name in self.imports}
        return [
            name
            for name, n in self.lines.items()
            if n < SMALL and len(importers[name]) == 1 and self._files[name].name != "__init__.py"
        ]

    def _reached(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = [name]
        while ahead:
            fresh = self.imports[ahead.pop()] - found
            found |= fresh
            ahead += fresh
        return found

    def _imported(self, file: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self._files)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name for name in inner if name in self._files)
                if node.module in self._files and any(name not in self._files for name in inner):
                    yield node.module


def _name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")


def report() -> Iterator[str]:
    """Return the lines of the report, without the two ways."""
    package = Package()
    yield f"{len(package.lines)} modules, {sum(package.lines.values())} lines"
    yield from (f"  {room}: {n} entries" for room, n in package.rooms().items())
    circles = package.circles()
    yield f"{len(circles)} circles of imports"
    yield from (f"  {' '.join(circle)}" for circle in circles)
    small = package.small()
    yield f"{len(small)} modules of under {SMALL} lines with one importer"
    yield from (f"  {name}: {package.lines[name]}" for name in small)


def main() -> None:
    """Print the report and both ways."""
    sys.stdout.writelines(f"{line}\n" for line in [*report(), *ways.report()])


if __name__ == "__main__":
    main()
