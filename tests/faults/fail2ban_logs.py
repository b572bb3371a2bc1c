"""fail2ban's own marked test logs, followed with its regexps as rules: the same lines must fire that it has marked.

``python tests/faults/fail2ban_logs.py ROOT``, run by hand: `ROOT` is where Debian's package ``fail2ban`` is installed
(``/``) or unpacked (``apt-get download fail2ban; dpkg-deb -x fail2ban_*.deb ROOT``). fail2ban itself reads its filters
and takes the dates out of the lines, as it does before it searches them; everything else is `alarm-mw follow`. Prints
what it found as JSON. What one line alone cannot tell, since fail2ban remembers lines before it, is counted apart.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alarm_mw.delivery.outbox.entries import decode

_MARK = re.compile(r"^#+ ?(failJSON|(?:file|filter)Options|addFILE):(.+)$")

#: Groups of fail2ban's regexps that say something of its own.
_NOFAIL = "(?P<nofail>"


@dataclass
class Case:
    """A filter with some options, its rules, and the lines that are searched with them."""

    name: str
    fail: list[str]
    ignore: list[str]
    #: It remembers lines.
    has_state: bool
    lines: list[str] = field(default_factory=list)
    wanted: list[bool] = field(default_factory=list)


class Fail2ban:
    """Its filters and test logs below a root directory."""

    def __init__(self, root: Path) -> None:
        packages = root / "usr/lib/python3/dist-packages"
        sys.path.append(str(packages))
        self._logs = packages / "fail2ban/tests/files/logs"
        self._config = str(root / "etc/fail2ban")
        self._reader: Any = importlib.import_module("fail2ban.client.filterreader").FilterReader
        self._filter: Any = importlib.import_module("fail2ban.server.filter").Filter
        utils: Any = importlib.import_module("fail2ban.tests.utils")
        utils.setUpMyTime()

    def names(self) -> list[str]:
        """Return the names of the filters that have a log."""
        filters = {file.stem for file in Path(self._config, "filter.d").glob("*.conf")}
        return sorted(filters.intersection(file.name for file in self._logs.iterdir() if file.is_file()))

    def cases(self, name: str) -> list[Case]:
        """Return a filter with each of its options, and the lines that are marked for these."""
        cases: dict[str, tuple[Case, Any]] = {}
        for options, line, is_wanted in self._marked(name):
            key = json.dumps(options, sort_keys=True)
            if key not in cases:
                cases[key] = self._read(name, options)
            case, judge = cases[key]
            case.lines.append(_without_date(judge, line))
            case.wanted.append(is_wanted)
        return [case for case, _ in cases.values()]

    def _marked(self, name: str) -> Iterator[tuple[dict[str, str], str, bool]]:
        common: dict[str, str] = {}
        current: list[dict[str, str]] = [{}]
        lines = iter((self._logs / name).read_text(encoding="utf-8", errors="surrogateescape").splitlines())
        for each in lines:
            line, mark = each, _MARK.match(each)
            facts: dict[str, Any] = {}
            if mark is not None:
                facts = json.loads(mark[2])
                if mark[1] == "fileOptions":
                    common = {key: str(value) for key, value in facts.items()}
                    continue
                if mark[1] == "filterOptions":
                    given = facts if isinstance(facts, list) else [facts]
                    current = [{**common, **each} for each in given]
                    continue
                if mark[1] == "addFILE":
                    continue
                line = next(lines)
            elif line.startswith("#") or not line.strip():
                continue
            for options in current:
                if options.get("logtype") != "journal" and not facts.get("constraint"):
                    yield (
                        {k: v for k, v in options.items() if not k.startswith("test.")},
                        line,
                        bool(facts.get("match")),
                    )

    def _read(self, name: str, options: dict[str, str]) -> tuple[Case, Any]:
        reader = self._reader(name, "jail", dict(options), basedir=self._config)
        reader.read()
        reader.getOptions({})
        judge = self._filter(None)
        lines = 1
        for token in reader.convert():
            values = token[3] if token[0] == "multi-set" else [token[3]]
            for value in values:
                if token[2] == "prefregex":
                    judge.prefRegex = value
                elif token[2] == "addfailregex":
                    judge.addFailRegex(value)
                elif token[2] == "addignoreregex":
                    judge.addIgnoreRegex(value)
                elif token[2] == "datepattern":
                    judge.setDatePattern(value)
                elif token[2] == "maxlines":
                    lines = int(value)
        prefix = judge.prefRegex.getRegex() if judge.prefRegex else ""
        fail = [_combined(prefix, regex) for regex in judge.getFailRegex() if _NOFAIL not in regex]
        ignore = [_combined(prefix, regex) for regex in judge.getIgnoreRegex()]
        has_state = lines > 1 or "mlfid" in prefix or any("mlf" in each for each in judge.getFailRegex())
        return Case(f"{name} {options or ''}".strip(), fail, ignore, has_state), judge


def _without_date(judge: Any, line: str) -> str:
    found = judge.dateDetector.matchTime(line) if judge.dateDetector is not None else None
    match = found[0] if found else None
    return line if match is None else line[: match.start(1)] + line[match.end(1) :]


def _combined(prefix: str, regex: str) -> str:
    """Return one regexp for a line: what `prefix` finds as the content is searched with `regex`."""
    if not prefix:
        return regex
    inner = regex[1:] if regex.startswith("^") else f".*?(?:{regex})"
    begin, group, end = prefix.partition("(?P<content>")
    if not group:
        return regex
    names = set(re.findall(r"\(\?P<(\w+)>", prefix))
    inner = re.sub(r"\(\?P<(\w+)>", lambda found: "(?:" if found[1] in names else found[0], inner)
    return f"{begin}(?={inner}){group}{end}"


def run(case: Case, folder: Path) -> set[int]:
    """Return the numbers of the lines that fire, from 0, where `alarm-mw follow` reads them."""
    rules = [f"[[rules]]\nexclude = {json.dumps(regex)}\n" for regex in case.ignore]
    rules += [f'[[rules]]\npattern = {json.dumps(regex)}\nalarms = ["a"]\n' for regex in case.fail]
    config = 'alarm_freq = 0\n[alarms.a]\naction = "log"\nlimits = { repeat_after = 0 }\n' + "".join(rules)
    (folder / "follow.toml").write_text(config)
    data = [line.encode("utf-8", "surrogateescape") + b"\n" for line in case.lines]
    (folder / "lines.log").write_bytes(b"".join(data))
    command = [str(Path(sys.executable).with_name("alarm-mw")), "follow", "--config", "follow.toml"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--from-beginning", "--state-dir", "state", "lines.log"], cwd=folder, stdout=log, stderr=log
        )
        _await_end(process, folder, len(data))
        process.terminate()
        process.wait(60)
    places, at = {}, 0
    for number, line in enumerate(data):
        places[at] = number
        at += len(line)
    if not (folder / "state/outbox.db").exists():
        raise RuntimeError((folder / "log.txt").read_text())
    with contextlib.closing(sqlite3.connect(folder / "state/outbox.db")) as database:
        firings = [decode(blob) for (blob,) in database.execute("SELECT firing FROM firings")]
    return {places[int(firing.record.key.split(".")[1])] for firing in firings}


def _await_end(process: subprocess.Popen[bytes], folder: Path, lines: int) -> None:
    """Wait until all lines are counted."""
    file = folder / "state/outbox.db"
    while process.poll() is None:
        if file.exists():
            with contextlib.closing(sqlite3.connect(file)) as database:
                try:
                    sql = "SELECT n FROM ledger WHERE scope = 'source' AND name = 'file' AND col = 'lines'"
                    found = database.execute(sql).fetchone()
                except sqlite3.OperationalError:  # it is being made
                    found = None
            if found and found[0] >= lines:
                return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)  # its end is an event; what it has written can only be looked at


def judged(case: Case) -> tuple[Counter[str], list[str]]:
    """Return how many lines have fired as they are marked, and which have not; raise `RuntimeError` for wrong rules."""
    totals: Counter[str] = Counter(filters=1)
    different: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        fired = run(case, Path(folder))
    kind = "with state" if case.has_state else "by line"
    for number, is_wanted in enumerate(case.wanted):
        is_same = (number in fired) == is_wanted
        totals[f"{kind}: {'same' if is_same else 'different'}"] += 1
        if not is_same:
            different.append(f"{kind}: {'not fired' if is_wanted else 'fired'}: {case.lines[number][:200]}")
    return totals, different


def main() -> None:
    """Compare all of them, several at a time."""
    fail2ban = Fail2ban(Path(sys.argv[1]))
    cases = [case for name in fail2ban.names() for case in fail2ban.cases(name)]
    totals: Counter[str] = Counter()
    different: dict[str, list[str]] = {}
    with ThreadPoolExecutor(4) as pool:
        for case, future in [(case, pool.submit(judged, case)) for case in cases]:
            found, others = future.result()
            totals += found
            if others:
                different[case.name] = others
    sys.stdout.write(json.dumps({"totals": totals, "different": different}, indent=1) + "\n")


if __name__ == "__main__":
    main()
