"""How many examples hypothesis tries where a test wants more or fewer than others."""

from __future__ import annotations

from hypothesis import settings

#: What the profile `short` of `conftest` tries.
USUAL = 100


def examples(number: int) -> int:
    """Return the number of examples under the profile of this run, `number` being that under `short`."""
    return max(1, number * settings().max_examples // USUAL)
