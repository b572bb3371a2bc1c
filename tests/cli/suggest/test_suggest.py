"""``alarm-mw suggest`` proposes rules for what looks like trouble in logs."""

from __future__ import annotations

import gzip
import os
import pty
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from example_counts import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from alarm_mw.cli.check import check
from alarm_mw.cli.suggest.command import suggest
from alarm_mw.cli.suggest.groups import Grouping
from alarm_mw.cli.suggest.proposals import Study

QUIET = [f"Jan  1 00:00:{number % 60:02} web1 app[{number}]: request {number} done" for number in range(300)]
REFUSED = [f"Jan  1 00:01:{number:02} web1 app[7]: connection to 10.0.0.{number} refused" for number in range(10)]


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(suggest, words)


def write(name: str, lines: list[str]) -> None:
    Path(name).write_text("".join(f"{line}\n" for line in lines))


def rules_of(*words: str) -> list[dict[str, Any]]:
    result = run(*words)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = tomllib.loads(result.stdout).get("rules", [])
    return found


def test_a_rule_matches_its_group_and_nothing_else() -> None:
    """What looks like trouble gets one rule, for all its lines, without the head that all lines have."""
    write("log", [*QUIET, *REFUSED])
    (rule,) = rules_of("log")
    search = re.compile(rule["pattern"]).search
    assert [line for line in [*QUIET, *REFUSED] if search(line)] == REFUSED
    assert rule["name"] == "connection-to-refused"
    assert "web1" not in rule["pattern"]
    assert rule["alarms"] == ["mail"]


def test_a_group_of_few_addresses_has_one_incident_for_each() -> None:
    """An address with some values becomes the key of an incident; one that never differs does not."""
    write("log", [*QUIET, *REFUSED])
    (rule,) = rules_of("log")
    assert (rule["key"], rule["resolve_after"]) == (["address"], "30m")
    write("log", [*QUIET, *[REFUSED[0]] * 5])
    assert "key" not in rules_of("log")[0]


def test_what_is_suggested_can_be_used() -> None:
    """The rules, appended to a configuration, pass its check, whatever marks the lines have."""
    strange = [
        r"""x ERROR "a\b" 'c' [d] (e) {f} $g ^h | i? j* k+ can't""",
        "x ERROR ''' \"\"\" broken",
        "ERROR é\x1b[0m ü",
    ]
    write("log", [*QUIET, *strange])
    Path("alarm-mw.toml").write_text("alarms.hook = 'log:'\n")
    result = run("--alarm", "hook", "--output", "alarm-mw.toml", "log")
    assert result.exit_code == 0, result.output
    checked = CliRunner().invoke(check, ["alarm-mw.toml"])
    assert (checked.exit_code, checked.output) == (0, f"ok: 1 alarm, {len(strange)} rules\n")


def test_the_most_urgent_comes_first() -> None:
    """A fatal error stands before an error, which stands before a warning; the limit keeps the first ones."""
    write("log", [*QUIET, "WARNING low space left", "FATAL no memory left", "ERROR no luck today"])
    assert [rule["labels"]["severity"] for rule in rules_of("log")] == ["critical", "error", "warning"]
    assert [rule["labels"]["severity"] for rule in rules_of("--limit", "1", "log")] == ["critical"]


def test_a_baseline_says_what_is_usual() -> None:
    """What also stands in a log of good times is not suggested; what does not is, even without a word of trouble."""
    write("good", [*QUIET, *REFUSED])
    write("log", [*QUIET, *REFUSED, "Jan  1 00:02:00 web1 app[7]: switching to plan B"])
    assert [rule["name"] for rule in rules_of("--baseline", "good", "log")] == ["switching-to-plan"]


def test_nothing_that_looks_like_trouble_gives_no_rule() -> None:
    """A quiet log is said to be one, with nothing on the standard output and status 0."""
    write("log", QUIET)
    result = run("log")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing looks like trouble" in result.stderr


def test_compressed_logs_and_strange_bytes_are_read() -> None:
    """Rotated logs are mostly compressed, and no bytes are too strange to be grouped."""
    Path("log.gz").write_bytes(gzip.compress(b"\xff\xfe ERROR broken \x00\n" * 3))
    assert len(rules_of("log.gz")) == 1
    Path("bad.gz").write_bytes(b"\x1f\x8bnonsense")
    result = run("bad.gz")
    assert (result.exit_code, "bad.gz: cannot be read" in result.stderr) == (1, True)


def test_a_person_keeps_skips_and_ends() -> None:
    """On a terminal each rule is shown with its lines; what is kept is appended, what is skipped is not."""
    write("log", [*QUIET, "FATAL no memory left", "ERROR no luck today", "ERROR one more of them"])
    ours, theirs = pty.openpty()
    words = [str(Path(sys.executable).with_name("alarm-mw")), "suggest", "-o", "kept.toml", "log"]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, b"keep\nskip\nquit\n")
        seen = b"".join(iter(partial(read_terminal, ours), b""))
        os.close(ours)
        assert process.wait(60) == 0
    assert [rule["pattern"] for rule in tomllib.loads(Path("kept.toml").read_text())["rules"]] == [
        "FATAL no memory left"
    ]
    assert b"ERROR one more of them" in seen


def read_terminal(fd: int) -> bytes:
    """Return what a program writes to its terminal, nothing once it has ended."""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""


LINES = st.lists(
    st.lists(
        st.sampled_from(["error", "failed", "7", "10.0.0.1", "a", "b", "'q'", "[x]", "0xff"]), min_size=1, max_size=6
    ).map(" ".join),
    max_size=40,
)


@settings(max_examples=examples(200), deadline=None)
@given(LINES)
def test_no_rule_matches_a_line_that_another_kind_of_line_has(lines: list[str]) -> None:
    """Whatever the lines are, a rule matches as many of them as it says."""
    study = Study()
    study.read(lines)
    for proposal in study.proposals(20):
        assert sum(1 for line in lines if re.search(proposal.regexp, line)) == proposal.count


@given(LINES)
def test_every_line_is_in_one_group(lines: list[str]) -> None:
    """The groups count all lines, each once."""
    grouping = Grouping()
    for line in lines:
        grouping.add(line)
    assert sum(template.count for template in grouping.templates) == len(lines) == grouping.lines
