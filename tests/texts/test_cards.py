"""The picture of messages in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_picture_shows_what_is_sent() -> None:
    """`docs/cards.svg` is what the script draws from today's bodies: run `python docs/_ext/cards.py` after a change."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import cards; print(cards.picture(), end='')"
    drawn = subprocess.run(
        [sys.executable, "-c", program, str(DOCS / "_ext")], capture_output=True, text=True, check=True, timeout=60
    )
    assert drawn.stdout == (DOCS / "cards.svg").read_text(encoding="utf-8")
