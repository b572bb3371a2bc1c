"""What the options of several actions have to be checked for; each raises `ValueError` with a sentence for the user."""

from __future__ import annotations

import os


def check_ca_file(path: str) -> None:
    """Check that the file of trusted certificates is one, where one is named."""
    if path and not os.path.isfile(path):
        raise ValueError(f"ca_file {path!r} is no file, or may not be looked at")
