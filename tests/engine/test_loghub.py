"""Real logs with rules, and the lines that perl says they match. Left out where the data is not beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.engine.rules import compile_rule
from alarm_mw.model.types import Rule, Syntax
from alarm_mw.patterns.literal_finder import MakeFinder, PlainFinder, literal_finder
from alarm_mw.patterns.prefilter import Prefilter

LOGHUB = Path(__file__).parents[3] / "shared" / "data" / "loghub"
LOGS = sorted(path.stem for path in LOGHUB.glob("*.rules"))
FINDERS: list[MakeFinder] = [literal_finder, PlainFinder]
CHUNK = 65536


def chunks(data: bytes) -> list[bytes]:
    """Return the data in chunks of whole lines, as a reader of a pipe has them."""
    lines = data.splitlines(keepends=True)
    found, chunk = [], b""
    for line in lines:
        if len(chunk) + len(line) > CHUNK:
            found.append(chunk)
            chunk = b""
        chunk += line
    return [*found, chunk]


if LOGS:

    @pytest.mark.parametrize("syntax", Syntax)
    @pytest.mark.parametrize("finder", FINDERS)
    @pytest.mark.parametrize("log", LOGS)
    def test_real_logs_match_where_perl_says(log: str, finder: MakeFinder, syntax: Syntax) -> None:
        """On real logs, both syntaxes and all finders find exactly the lines that perl's engine finds."""
        named = [line.split("\t", 1) for line in (LOGHUB / f"{log}.rules").read_text().splitlines()]
        rules = [compile_rule(Rule(pattern, (name,), syntax)) for name, pattern in named]
        prefilter = Prefilter(rules, finder)
        found, number = [], 0
        for chunk in chunks((LOGHUB / f"{log}.log").read_bytes()):
            for hit in prefilter.scan(chunk):
                line = chunk[hit.start : hit.end]
                assert all(rules[rule].search(line) for rule in hit.certain)
                names = [named[rule][0] for rule in hit.rules if rule in hit.certain or rules[rule].search(line)]
                if names:
                    found.append(f"{number + chunk.count(10, 0, hit.start) + 1}\t{','.join(names)}\n")
            number += chunk.count(b"\n")
        assert "".join(found) == (LOGHUB / f"{log}.expected.tsv").read_text()
