"""``alarm-mw check`` tells what is wrong with configuration files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alarm_mw.cli.check import check


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*files: str) -> Result:
    return CliRunner().invoke(check, files)


def test_good_files() -> None:
    """Files that can be used give a summary and status 0."""
    Path("a.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = 'xy', alarms = 'a' }]\n")
    Path("b.ini").write_text("[uwsgi]\nalarm = b log:\nlog-alarm = a,b yx\n")
    result = run("a.toml", "b.ini")
    assert (result.exit_code, result.output) == (0, "ok: 2 alarms, 2 rules\n")


def test_without_a_file_those_are_checked_that_a_run_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the working directory is found, and refused if others may write it, as by `alarm-mw run`."""
    monkeypatch.delenv("ALARM_MW_CONFIG", raising=False)
    missing = run()
    assert (missing.exit_code, "alarm-mw.toml and uwsgi.ini are not in this directory" in missing.output) == (2, True)
    Path("alarm-mw.toml").write_text("alarms.a = 'log:'\n")
    assert run().output == "ok: 1 alarm, 0 rules\n"
    Path("alarm-mw.toml").chmod(0o666)
    assert "alarm-mw.toml: found, but not used" in run().output
    Path("b.toml").write_text("alarms.b = 3\n")
    monkeypatch.setenv("ALARM_MW_CONFIG", "b.toml")
    assert "b.toml:1: alarm 'b': expected a table" in run().output


def test_bad_files() -> None:
    """Each mistake is a line with its place, warnings follow, and the status is 2."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log\nlog-alarm = b xy\nalarm-backlog = a\n")
    result = run("a.ini")
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "a.ini:2: alarm 'a': expected PLUGIN:ARGS, but there is no colon after the plugin's name",
        "a.ini:3: unknown alarm 'b'",
        "2 problems",
    ]


def test_monitors_are_counted() -> None:
    """A file with monitors says so in its summary."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nalarm-backlog = a\nalarm-fd = a 3 x\n")
    assert run("a.ini").output == "ok: 1 alarm, 0 rules, 2 monitors\n"


def test_warnings_alone_are_good() -> None:
    """A rule that never fires is a warning, and the configuration can be used."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nnot-log-alarm = a .*\nlog-alarm = a xy\n")
    result = run("a.ini")
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "a.ini:4:15: warning: this rule is never reached: the exclusion at a.ini:3 always ends the scan",
            "ok: 1 alarm, 2 rules, 1 warning",
        ],
    )


def test_file_of_unknown_kind_is_read_by_its_content() -> None:
    """A file without a known extension is uWSGI's when it has its section."""
    Path("site.conf").write_text("[uwsgi]\nalarm = a log:\n")
    assert run("site.conf").output == "ok: 1 alarm, 0 rules\n"


def test_missing_file() -> None:
    """A file that is not there is one problem."""
    result = run("no.toml")
    assert (result.exit_code, result.output.splitlines()) == (
        2,
        ["no.toml: cannot be read: No such file or directory", "1 problem"],
    )


def test_variables_of_the_environment_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configuration takes from the environment must be there when it is checked."""
    Path("a.toml").write_text("alarms.a = 'log:${PREFIX}'\n")
    monkeypatch.delenv("PREFIX", raising=False)
    assert run("a.toml").exit_code == 2
    monkeypatch.setenv("PREFIX", "x")
    assert run("a.toml").exit_code == 0


def test_what_a_server_would_start_with_is_a_mistake_here() -> None:
    """An unknown alarm in an ini file keeps no server down; who checks the file wants to know of it."""
    Path("a.ini").write_text("[uwsgi]\nalarm = a log:\nlog-alarm = b xy\n")
    result = run("a.ini")
    assert (result.exit_code, result.output) == (2, "a.ini:3: unknown alarm 'b'\n1 problem\n")


def warnings_of(text: str, name: str = "a.toml") -> list[str]:
    Path(name).write_text(text)
    result = run(name)
    assert result.exit_code == 0, result.output
    *warnings, summary = result.output.splitlines()
    count = f", {len(warnings)} warning{'s' * (len(warnings) > 1)}" if warnings else ""
    assert summary.endswith(count)
    return warnings


@pytest.mark.parametrize(
    ("pattern", "is_warned"),
    [
        (r"foo\nbar", True),
        ("foo\nbar", True),
        (r"(?s)Traceback.*\nValueError", True),
        (r"foo\r\n.*bar", True),
        (r"foo\n+ x", True),
        (r"foo\n^bar", True),
        (r"foo\n", False),
        (r"foo\n$", False),
        (r"foo\n?bar", False),
        (r"foo\n*bar", False),
        (r"foo\n{0}bar", False),
        (r"foo\nb?", False),
        (r"foo\n.*", False),
        (r"foo[^\n]bar", False),
        (r"foo[\n ]bar", False),
        (r"C:\\new", False),
        (r"foo\nbar|baz", False),
    ],
)
def test_a_newline_within_a_regexp_is_warned_of(pattern: str, is_warned: bool) -> None:
    """A rule that wants text after a newline never matches a line, and one that can is not suspected."""
    value = json.dumps(pattern)
    warnings = warnings_of(f"alarms.a = 'log:'\nrules = [{{ pattern = {value}, alarms = 'a' }}]\n")
    assert [line.partition(": warning: the regexp ")[0] for line in warnings] == ["a.toml:2"] * is_warned
    if is_warned:
        assert "multiline = true" in warnings[0]
    many = f"alarms.a = 'log:'\nrules = [{{ pattern = {value}, alarms = 'a', multiline = true }}]\n"
    assert warnings_of(many) == []


def test_a_level_is_what_printed_lines_do_not_have() -> None:
    """Rules that ask for a level or a logger are named once, with what they need in the application."""
    rule = "[[rules]]\npattern = 'xy'\nalarms = 'a'\n"
    (warning,) = warnings_of(f"alarms.a = 'log:'\n{rule}level = 'ERROR'\n{rule}logger = 'shop'\n{rule}")
    assert warning.startswith("a.toml:3:")
    assert "this rule (and 1 more) requires a level or a logger" in warning
    assert "AlarmHandler" in warning


@pytest.mark.parametrize(
    ("alarm", "warning"),
    [
        ("curl:example.org/hook", "the URL has no scheme, and is sent to http://example.org without encryption"),
        ("curl:http://example.org/hook", None),
        ("cmd:no-such-program -x", "the program 'no-such-program' of its command is not there"),
        ("cmd:/no/such/program", "the program '/no/such/program' of its command is not there"),
        ("cmd:LANG=C no-such-program", "the program 'no-such-program' of its command is not there"),
        ("cmd:cat >> /tmp/x", None),
        ("cmd:/bin/cat", None),
        ("cmd:cd /tmp && ls", None),
        ("cmd:$PROGRAM x", None),
        ("cmd:(cat)", None),
        ("cmd:./relative", None),
    ],
)
def test_an_alarm_that_can_hardly_be_meant_is_warned_of(alarm: str, warning: str | None) -> None:
    """A URL without a scheme and a command whose program is missing are seen before the first alarm."""
    warnings = warnings_of(f"[uwsgi]\nalarm = a {alarm}\nlog-alarm = a xy\n", "a.ini")
    assert [line.startswith(f"a.ini:2: warning: alarm 'a': {warning}") for line in warnings] == [True] * (
        warning is not None
    )


@pytest.mark.parametrize(
    ("pattern", "is_warned"), [(r"\\d+ms", False), (r"\\d+s", True), (".*", False), ("(?i)ok", False)]
)
def test_a_rule_that_is_applied_to_every_line_is_named(pattern: str, is_warned: bool) -> None:
    """Where a regexp has nothing to look for, `check` says what that costs; rules for log records cost nothing."""
    rule = f'[[rules]]\npattern = "{pattern}"\nalarms = "a"\n'
    found = [warning for warning in warnings_of(f"alarms.a = 'log:'\n{rule}") if "to every line" in warning]
    assert len(found) == is_warned
    assert not any("to every line" in warning for warning in warnings_of(f"alarms.a = 'log:'\n{rule}level = 'ERROR'\n"))


def test_an_alarm_that_nothing_fires_is_named() -> None:
    """An alarm in no rule is a forgotten one, unless the file has no rules since the application fires all of them."""
    rule = "[[rules]]\npattern = 'xy'\nalarms = 'a'\n"
    (warning,) = warnings_of(f"alarms.a = 'log:'\nalarms.b = 'log:'\n{rule}")
    assert warning.startswith("a.toml:2: warning: no rule, route, monitor or escalation fires alarm 'b'")
    assert warnings_of("alarms.a = 'log:'\nalarms.b = 'log:'\n") == []
    assert warnings_of(f"own_alarms = 'b'\nalarms.a = 'log:'\nalarms.b = 'log:'\n{rule}") == []
    fallback = f"[alarms.a]\naction = 'log'\nfallback = 'b'\n[alarms.b]\naction = 'log'\n{rule}"
    assert warnings_of(fallback) == []


def test_a_rule_that_every_line_matches_is_named() -> None:
    """A rule for every line floods whoever gets its alarms; one with a condition, or an exclusion, may be meant."""
    rule = "[[rules]]\npattern = '.*'\nalarms = 'a'\n"
    (warning,) = warnings_of(f"alarms.a = 'log:'\n{rule}")
    assert "the regexp '.*' matches every line" in warning
    assert not any("every line" in each for each in warnings_of(f"alarms.a = 'log:'\n{rule}level = 'ERROR'\n"))


def test_strict_takes_warnings_for_mistakes() -> None:
    """With --strict, a configuration with a warning has status 2; without any it has 0."""
    Path("a.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = '.*', alarms = 'a' }]\n")
    Path("b.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = 'xy', alarms = 'a' }]\n")
    assert [run("--strict", name).exit_code for name in ("a.toml", "b.toml")] == [2, 0]


def test_editors_read_mistakes_as_diagnostics() -> None:
    """--json is an array of diagnostics with ranges that count from 0, and an empty one if nothing is wrong."""
    Path("a.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = '(', alarms = 'a' }]\n")
    Path("b.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = '.*', alarms = 'a' }]\n")
    (wrong,) = json.loads(run("--json", "a.toml").output)
    assert (wrong["file"], wrong["severity"], wrong["source"]) == ("a.toml", 1, "alarm-mw")
    assert wrong["range"] == {"start": {"line": 1, "character": 22}, "end": {"line": 2, "character": 0}}
    assert [each["severity"] for each in json.loads(run("--format", "json", "b.toml").output)] == [2]
    Path("b.toml").write_text("alarms.a = 'log:'\n")
    assert json.loads(run("--json", "b.toml").output) == []


def test_github_annotates_the_line() -> None:
    """--format github prints workflow commands, in which marks of their own syntax are escaped."""
    Path("a,b.toml").write_text("alarms.a = 'log:'\nrules = [{ pattern = '100%(', alarms = 'a' }]\n")
    (line,) = run("--format", "github", "a,b.toml").output.splitlines()
    assert line.startswith("::error file=a%2Cb.toml,line=2,col=27::the regexp ")
    assert "100%25(" in line


def test_a_string_for_a_list_is_corrected() -> None:
    """The error shows the line as it would be right."""
    Path("a.toml").write_text(
        "alarms.a = 'log:'\n[[rules]]\nname = 'x'\npattern = 'xy'\nalarms = 'a'\nkey = 'db'\nresolve_after = '1m'\n"
    )
    assert 'key: expected a list, got a string: write ["db"]' in run("a.toml").output
