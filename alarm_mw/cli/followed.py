"""What ``alarm-mw status`` says about followed logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

#: Files that are further behind than this many bytes are named, the worst ones, and how many at most.
BEHIND = 1_000_000
MOST_NAMED = 5


def describe_followed(followed: dict[str, Any] | None) -> Iterator[str]:
    """Yield sentences on how far the followed logs are; see `alarm_mw.master.follow.following.Followed`."""
    if followed is None:
        return
    if followed["files"] is not None:
        yield from _files(followed["files"])
    for journal in followed["journals"]:
        yield _journal(journal)


def _files(files: dict[str, Any]) -> Iterator[str]:
    found = files["files"]
    n = len(found)
    count = f"follows {n} file{'' if n == 1 else 's'}"
    if not files["behind"]:
        yield f"{count}, read to their ends" if n else f"{count}: none is there yet"
    else:
        rate = files["rate"]
        left = f", about {_time(files['remaining'])} left" if files["remaining"] is not None else ""
        yield f"{count}, {_size(files['behind'])} behind, {_size(rate)}/s{left}"
    behind = sorted(found, key=lambda file: file["offset"] - file["size"])
    for file in behind[:MOST_NAMED]:
        if file["size"] - file["offset"] > BEHIND:
            rotated = ", rotated" if file["is_rotated"] else ""
            share = 100 * file["offset"] // file["size"]
            yield f"  {file['path']}: {_size(file['offset'])} of {_size(file['size'])} ({share} %{rotated})"
    for problem in files["problems"]:
        yield f"follow: {problem}"


def _journal(journal: dict[str, Any]) -> str:
    if journal["problem"]:
        return f"journal {journal['name']}: {journal['problem']}"
    if not journal["time"]:
        return f"follows the journal {journal['name']}: no entry yet"
    last = datetime.fromtimestamp(journal["time"], UTC).astimezone()
    return f"follows the journal {journal['name']}, read up to {last:%Y-%m-%d %H:%M:%S}"


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:  # noqa: PLR2004  # as the units say
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} GB"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004  # two minutes
