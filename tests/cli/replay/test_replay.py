"""``alarm-mw replay``: the rules over logs, and nothing fired."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner, Result

from alarm_mw.cli.main import main
from alarm_mw.patterns.syntax import pcre
from alarm_mw.patterns.tree import Chars, Choice, Group, Node, Repeat, Sequence, codes

LOGHUB = Path(__file__).parents[4] / "shared" / "data" / "loghub"


def replay(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments], input=given)


def flags(*rules: str) -> list[str]:
    return ["--alarm", "a log:", "--alarm", "b log:", *(part for rule in rules for part in ("--log-alarm", rule))]


def objects(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_line_that_matches_is_an_object(tmp_path: Path) -> None:
    """A JSON line tells file, number, text and what would have been fired, in the order of the rules."""
    log = tmp_path / "app.log"
    log.write_bytes(b"fine\nERR 1\r\n\nERR \xff last")
    result = replay("--json", *flags("b,a ERR", "a last"), str(log))
    both = {"matched": ["b", "a"], "fired": ["b", "a"], "held": {}}
    assert objects(result) == [
        {"file": str(log), "line": 2, "text": "ERR 1\r", **both},
        {"file": str(log), "line": 4, "text": "ERR \udcff last", **both},
    ]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("from_stdin", [False, True])
@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress, zstd])
def test_a_compressed_log_is_decompressed(compress: Callable[[bytes], bytes], from_stdin: bool, tmp_path: Path) -> None:
    """A log that was rotated and compressed gives the lines that it has, whatever its name is."""
    data = compress(b"fine\n" * 100_000 + b"ERR 1\n") + compress(b"ERR 2\n")
    log = tmp_path / "big.log.1"
    log.write_bytes(data)
    result = replay("--json", *flags("a ERR"), *(["-"] if from_stdin else [str(log)]), given=data)
    assert [(match["line"], match["text"]) for match in objects(result)] == [(100_001, "ERR 1"), (100_002, "ERR 2")]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(b"ERR 1\n" * 9, mtime=0)[:-9], "end-of-stream marker was reached"),
        (lzma.compress(b"ERR 1\n" * 9)[:-9], "end-of-stream marker was reached"),
        (lzma.compress(b"ERR 1\n")[:9] + b"garbage, and not a little of it", "corrupt|Corrupt"),
        (bz2.compress(b"ERR 1\n")[:9] + b"garbage, and not a little of it", "Invalid data stream"),
        (zstd(b"ERR 1\n" * 9)[:-3], "end-of-stream marker was reached"),
        (zstd(b"ERR 1\n" * 9)[:5] + b"\xff" * 30, "zstd|[Ff]rame|decompress"),
        (b"PK\x03\x04rest", "compressed by zip, which is not supported: decompress it"),
        (b"\x1f\x9drest", "compressed by compress, which is not supported: decompress it"),
    ],
)
def test_what_cannot_be_decompressed_is_an_error(data: bytes, why: str, tmp_path: Path) -> None:
    """A log that is broken or compressed in another way does not pass for one without a match."""
    log = tmp_path / "a.log"
    log.write_bytes(data)
    result = replay(*flags("a ERR"), str(log))
    assert result.exit_code == 1
    assert re.search(f"{log}: cannot be read: .*({why})", result.stderr)


def test_zstd_names_the_package_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, a log of zstd is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    log = tmp_path / "a.log.zst"
    log.write_bytes(zstd(b"ERR\n"))
    result = replay(*flags("a ERR"), str(log))
    assert (result.exit_code, "pip install zstandard" in result.stderr) == (1, True)


def test_what_would_be_held_back_is_told_with_its_reason() -> None:
    """The same message twice in a row is held back, as it would be."""
    first, second = objects(replay("--json", *flags("a ERR"), "-", given="ERR\nERR\n"))
    assert (first["fired"], first["held"]) == (["a"], {})
    assert (second["fired"], second["held"]) == ([], {"a": "same_message"})


def test_the_order_of_flags_is_the_order_of_rules() -> None:
    """A --not-log-alarm ends the search for the rules behind it only."""
    options = ["--alarm", "a log:", "--alarm", "b log:", "--log-alarm", "a x", "--not-log-alarm", "a x"]
    (match,) = objects(replay("--json", *options, "--log-alarm=b x", "-", given="x\n"))
    assert match["fired"] == ["a"]


def test_rules_that_no_line_can_match_are_named(tmp_path: Path) -> None:
    """A rule that cannot match here is named, so that its regexp is not suspected."""
    toml = tmp_path / "a.toml"
    toml.write_text(
        "alarms.a = 'log:'\n"
        "[[rules]]\npattern = 'ERR'\nlevel = 'ERROR'\nlogger = 'shop'\nalarms = 'a'\n"
        "[[rules]]\nrequest = { status = '5xx' }\nalarms = 'a'\n"
        "[[rules]]\nrequest = { status = '5xx', access_log = true }\nalarms = 'a'\n"
    )
    result = replay("--config", str(toml), "-", given="ERR\n")
    *shown, last = [
        line.partition(": this rule matches nothing here: it requires ") for line in result.stderr.splitlines()
    ]
    assert last[0] == "0 lines match"
    assert (result.stdout, [what for _, _, what in shown]) == (
        "",
        ["a request, which only the middleware sees"],
    )
    assert shown[0][0].startswith(f"{toml}:")


def test_lines_with_fields_have_a_level(tmp_path: Path) -> None:
    """A log in JSON or logfmt can be judged by its levels and fields."""
    toml = tmp_path / "a.toml"
    toml.write_text("alarms.a = 'log:'\n[[rules]]\nlevel = 'ERROR'\npattern = ''\nwhere.n = '>=2'\nalarms = 'a'\n")
    lines = '{"level": "error", "n": 1}\nlevel=error n=2\n{"level": "info", "n": 3}\n{"level": "fatal", "n": 4}\n'
    (first, second) = objects(replay("--json", "--config", str(toml), "-", given=lines))
    assert (first["line"], second["line"]) == (2, 4)


def test_text_is_safe_to_show(tmp_path: Path) -> None:
    """Without --json a line is shown with its control characters made visible."""
    result = replay(*flags("a,b ERR"), "-", given=b"ERR \x1b[31m\n")
    assert result.stdout == "-:1: [a, b] ERR \\x1b[31m\n"


def test_a_line_longer_than_a_block_is_one_line() -> None:
    """Lines of any length are searched whole."""
    given = b"x" * 3_000_000 + b" ERR\nERR 2\n"
    found = objects(replay("--json", *flags("a ERR"), "-", given=given))
    assert [match["line"] for match in found] == [1, 2]


def test_a_wrong_configuration_is_shown() -> None:
    """Mistakes end it with 2, and nothing is read."""
    result = replay("--alarm", "a nonsense", "-")
    assert result.exit_code == 2
    assert "--alarm (1st)" in result.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in LOGHUB.glob("*.rules")))
def test_real_logs_give_what_another_engine_found(name: str, tmp_path: Path) -> None:
    """Every line of the loghub samples matches the alarms that perl's engine found, in their order."""
    rules = [line.split("\t", 1) for line in (LOGHUB / f"{name}.rules").read_text().splitlines() if line]
    ini = tmp_path / "uwsgi.ini"
    alarms = dict.fromkeys(alarm for alarm, _ in rules)
    ini.write_text(
        "[uwsgi]\n"
        + "".join(f"alarm = {alarm} log:\n" for alarm in alarms)
        + "".join(f"log-alarm = {alarm} {regexp}\n" for alarm, regexp in rules)
    )
    found = objects(replay("--json", "--ini", str(ini), str(LOGHUB / f"{name}.log")))
    with (LOGHUB / f"{name}.expected.tsv").open(newline="") as table:
        expected = [(int(line), alarms.split(",")) for line, alarms in csv.reader(table, delimiter="\t")]
    assert [(match["line"], match["matched"]) for match in found] == expected


def sample(node: Node, chance: random.Random) -> str:
    """Return a text that a part of a regexp matches, lookaround and places aside."""
    match node:
        case Chars(members):
            return chance.choice([chr(code) for code in codes(members) if chr(code).isprintable()] or ["\t"])
        case Sequence(items):
            return "".join(sample(item, chance) for item in items)
        case Choice(branches):
            return sample(chance.choice(branches), chance)
        case Repeat(item, least, most):
            return "".join(sample(item, chance) for _ in range(chance.choice([least, least + (most is None)])))
        case Group(item=item):
            return sample(item, chance)
    return ""


def nearly(line: str, chance: random.Random) -> str:
    """Return the line, or one with a character more or less."""
    at = chance.randrange(len(line) + 1)
    return chance.choice([line, line[:at] + chance.choice("x1 :") + line[at:], line[:at] + line[at + 1 :]])


def test_the_rules_of_logcheck_find_what_grep_finds(tmp_path: Path) -> None:
    """All rules that Debian's logcheck-database brings, as PCRE rules, match the lines that ``grep -P`` prints."""
    files = sorted(Path("/etc/logcheck/ignore.d.server").iterdir())
    rules = [line for path in files for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    chance = random.Random(7)
    texts = [nearly(sample(pcre.parse(rule).root, chance), chance) for rule in rules]
    log = tmp_path / "syslog"
    log.write_text("\n".join(texts) + "\n", "latin-1")
    toml = tmp_path / "rules.toml"
    entries = (f"[[rules]]\npattern = {json.dumps(rule)}\nsyntax = 'pcre'\nalarms = 'a'\n" for rule in rules)
    toml.write_text("alarms.a = 'log:'\n" + "".join(entries))
    found = {match["line"] for match in objects(replay("--json", "--config", str(toml), str(log)))}
    expected = set()
    for start in range(0, len(rules), 50):
        pattern = "|".join(f"(?:{rule})" for rule in rules[start : start + 50])
        printed = subprocess.run(
            ["grep", "-anP", pattern, str(log)],
            stdout=subprocess.PIPE,
            check=False,
            text=True,
            encoding="latin-1",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )
        expected |= {int(line.partition(":")[0]) for line in printed.stdout.splitlines()}
    assert len(rules) > len(expected) > 500
    assert found == expected


def test_a_log_in_which_nothing_matches_is_named(tmp_path: Path) -> None:
    """Where nothing matches, or nothing was read, that is said on the standard error."""
    log = tmp_path / "log"
    log.touch()
    result = CliRunner().invoke(main, ["replay", "--alarm", "a log:", "--log-alarm", "a ERR", str(log)])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 lines match\n")
