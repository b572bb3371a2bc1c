"""Everything that a master follows: files in one thread, and each journal in one of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from alarm_mw.config.settings import Follow
from alarm_mw.master.follow.follower import FollowedFiles, Follower
from alarm_mw.master.follow.intake import Assembly, BatchWorker
from alarm_mw.master.follow.journal import FollowedJournal, JournalFollower, journal_name, saved_position
from alarm_mw.patterns.prefilter import Prefilter


class Followed(TypedDict):
    """What is followed, as ``alarm-mw status --json`` shows it."""

    files: FollowedFiles | None
    journals: list[FollowedJournal]


class Following:
    """Started and stopped by the master."""

    def __init__(
        self,
        follows: Sequence[Follow],
        prefilter: Prefilter,
        worker: BatchWorker,
        saved: Mapping[str, bytes],
        *,
        longest: int,
        own: frozenset[tuple[int, int]],
        assembly: Assembly,
    ) -> None:
        self._worker, self._longest, self._own = worker, longest, own
        self._files: Follower | None = None
        self._journals: dict[str, JournalFollower] = {}
        self.change(follows, prefilter, saved, assembly)

    def change(
        self, follows: Sequence[Follow], prefilter: Prefilter, saved: Mapping[str, bytes], assembly: Assembly
    ) -> None:
        """Follow these from now on; `saved` are all positions."""
        of_files = [follow for follow in follows if follow.paths]
        if self._files is not None:
            self._files.change(of_files, prefilter, assembly)
        elif of_files:
            self._files = Follower(
                of_files, prefilter, self._worker, saved, longest=self._longest, own=self._own, assembly=assembly
            )
            self._files.start()
        wanted = {journal_name(follow): follow for follow in follows if follow.journal is not None}
        for name in self._journals.keys() - wanted.keys():
            self._journals.pop(name).stop(1.0)
        for name in wanted.keys() - self._journals.keys():
            follow = wanted[name]
            journal = JournalFollower(follow, self._worker, saved_position(saved, follow))
            self._journals[name] = journal
            journal.start()

    def status(self) -> Followed:
        """Return how far all of it is."""
        return {
            "files": None if self._files is None else self._files.status(),
            "journals": [journal.status() for _, journal in sorted(self._journals.items())],
        }

    def stop(self, timeout: float) -> None:
        """Read what is in the files already, and end, within about `timeout` seconds."""
        for journal in self._journals.values():
            journal.stop(min(timeout, 1.0))
        if self._files is not None:
            self._files.stop(timeout)
