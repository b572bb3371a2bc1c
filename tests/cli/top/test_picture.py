"""The picture of the terminal in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_picture_of_the_terminal_is_up_to_date() -> None:
    """`docs/top.svg` is what `python docs/_ext/terminal.py` draws of today's terminal."""
    script = "import sys, terminal; sys.stdout.reconfigure(encoding='utf-8'); sys.stdout.write(terminal.picture())"
    command = [sys.executable, "-c", script]
    drawn = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=60, check=True, cwd=DOCS / "_ext"
    ).stdout
    assert drawn == (DOCS / "top.svg").read_text(encoding="utf-8")
    assert "@font-face" not in drawn
