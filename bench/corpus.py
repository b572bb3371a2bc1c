"""The lines and rules that are measured with: the same at each run, and nothing in them is like the next."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

#: What matches one of the rules, in one line of 10,000.
NEEDLE = "TERRIBLE ALARM"
#: One line in so many matches.
RARE = 10_000

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def access_lines(count: int, seed: int = 1, rare: int = RARE) -> Iterator[str]:
    """Yield lines of about 90 bytes as servers write them, newline included; every `rare`-th matches."""
    chosen = random.Random(seed)
    paths = ["".join(chosen.choices(_LETTERS, k=chosen.randrange(8, 20))) for _ in range(97)]
    for number in range(count):
        if number % rare == rare // 2:
            yield f"2026-01-02 03:04:05,678 ERROR shop.orders: {NEEDLE}: the database of shop 7 does not answer\n"
        else:
            yield (
                f"2026-01-02 03:04:{number % 60:02},{number % 1000:03} INFO shop.web: 192.0.2.{number % 256} "
                f"GET /{paths[number % 97]} 200 {number % 5000}\n"
            )


def patterns(number: int, seed: int = 2) -> list[str]:
    """Return regexps without a common prefix that grep -E, Perl and Python read alike; one matches, if there is any."""
    chosen = random.Random(seed)
    found = []
    for index in range(number - 1):
        word, other = ("".join(chosen.choices(_LETTERS, k=8)) for _ in range(2))
        found.append((f"{word}.*{other}", f"{word} [0-9]+ {other}", f"^{word}")[index % 3])
    return [NEEDLE, *found] if number else []


def configuration(folder: Path, rules: list[str], alarm: str = 'action = "log"', top: str = "") -> Path:
    """Write a configuration in which each regexp fires the alarm `a`, and return its path."""
    path = folder / "alarms.toml"
    tables = "".join(f"[[rules]]\npattern = '{each}'\nalarms = \"a\"\n" for each in rules)
    path.write_text(f"{top}\n[alarms.a]\n{alarm}\n{tables}", encoding="utf-8")
    return path
