"""Configuration in TOML: what it means, and what is said of mistakes in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarm_mw.config.parts import FindAction
from alarm_mw.config.report import Examined, Report
from alarm_mw.config.settings import Alarm
from alarm_mw.config.tables.tables import read_tables
from alarm_mw.config.toml.document import parse_toml, read_toml
from alarm_mw.delivery.policy import DeliveryPolicy
from alarm_mw.model.types import Rule, Syntax, Where

#: Reads what is given as `toml`, `ini` and `environ`, without the actions that ship.
Examine = Callable[..., Examined]

PASSWORD = {"XMPP_PASSWORD": "hunter2"}

GOOD = """\
alarm_freq = 1.5
alarm_msg_size = 100

[alarms]
quick = "note:cat >> out.txt"

[alarms.jabber]
action = "talk"
jid = "app@example.org"
password = "${XMPP_PASSWORD}"
to = ["me@example.org"]
port = "${PORT:-5223}"
delivery = { attempt_timeout = 10, give_up_after = 3600 }

[[rules]]
pattern = '^TERRIBLE ALARM'
alarms = ["jabber", "", "quick"]
level = "ERROR"
logger = "app"
multiline = true

[[rules]]
exclude = 'healthcheck'

[[rules]]
pattern = "\\\\d"
alarms = "quick"
level = 35
"""


def test_everything_is_read(examined: Examine) -> None:
    """Alarms as a string or as a table, rules with conditions, and the numbers become settings."""
    found = examined(toml=GOOD, environ=PASSWORD)
    assert found.problems == found.warnings == ()
    settings = found.settings
    assert (settings.alarm_freq, settings.alarm_msg_size) == (1.5, 100)
    quick, jabber = settings.alarms
    assert (quick.name, quick.plugin, quick.where) == ("quick", "note", Where("a.toml", 5))
    assert isinstance(jabber, Alarm)
    assert msgspec.structs.asdict(jabber.options) == {
        "jid": "app@example.org",
        "password": "hunter2",
        "tone": "low",
        "to": ("me@example.org",),
        "port": 5223,
        "tls": True,
    }
    assert jabber.delivery == DeliveryPolicy(attempt_timeout=10, give_up_after=3600)
    assert jabber.where == Where("a.toml", 7)
    assert settings.rules == (
        Rule(
            "^TERRIBLE ALARM",
            ("jabber", "quick"),
            multiline=True,
            level=40,
            logger="app",
            where=Where("a.toml", 16, 12),
        ),
        Rule("healthcheck", (), excludes=True, where=Where("a.toml", 23, 12)),
        Rule(r"\d", ("quick",), level=35, where=Where("a.toml", 26)),
    )
    assert settings.rules[0].syntax is Syntax.PYTHON


BAD = """\
alarm-freq = 3
alarm_msg_size = "big"
rule = []
[alarms]
number = 7
"two words" = "note:x"
text = "note"
nothing = {}
odd = { action = 3 }
[alarms.jabber]
action = "talk"
pasword = "hunter2"
password = "pw"
to = ["a", 2]
port = 99999
tls = "yes"
tone = "hunter2"
delivery = { attempt_timeot = 1, give_up_after = -1, backoff_max = "x" }
[alarms.other]
action = "talc"
delivery = 3
[[rules]]
patern = 'x'
alarms = "jaber"
[[rules]]
pattern = '''a(b'''
exclude = 'x'
alarms = ["jabber"]
[[rules]]
pattern = '''
a(b'''
alarms = []
level = "LOUD"
logger = 1
multiline = "no"
[[rules]]
pattern = 3
alarms = ["jabber", 1]
level = -1
[[rules]]
pattern = 'x'
alarms = 3
level = true
[[rules]]
pattern = 'x'
"""

BAD_PROBLEMS = """\
a.toml:1: unknown key 'alarm-freq' (did you mean 'alarm_freq'?)
a.toml:2: alarm_msg_size: expected a whole number of bytes, 1 to 1073741824, got 'big'
a.toml:3: unknown key 'rule' (did you mean 'rules'?)
a.toml:5: alarm 'number': expected a table or a string such as 'cmd:…', got an integer
a.toml:6: alarm 'two words': a name is text without spaces and commas
a.toml:7: alarm 'text': expected PLUGIN:ARGS, but there is no colon after the plugin's name
a.toml:8: alarm 'nothing': expected a plugin's name as 'action'
a.toml:9: alarm 'odd': expected a plugin's name as 'action', got an integer
a.toml:10: alarm 'jabber': 'jid' is missing
a.toml:12: alarm 'jabber': unknown key 'pasword' (did you mean 'password'?)
a.toml:13: alarm 'jabber': password: expected str of length >= 4
a.toml:14: alarm 'jabber': to: expected str, got int
a.toml:15: alarm 'jabber': port: expected int <= 65535
a.toml:16: alarm 'jabber': tls: expected true or false, got a string
a.toml:17: alarm 'jabber': tone: expected 'high' or 'low', got '********'
a.toml:18: alarm 'jabber': delivery: unknown key 'attempt_timeot' (did you mean 'attempt_timeout'?)
a.toml:18: alarm 'jabber': delivery: give_up_after: expected float >= 0.0
a.toml:18: alarm 'jabber': delivery: backoff_max: expected float, got str
a.toml:20: alarm 'other': unknown alarm plugin 'talc'
a.toml:21: alarm 'other': delivery: expected a table, got an integer
a.toml:22: rule 1: no regexp, expected 'pattern' or 'exclude', or 'request' or 'where'
a.toml:23: rule 1: unknown key 'patern' (did you mean 'pattern'?)
a.toml:24: unknown alarm 'jaber' (did you mean 'jabber'?)
a.toml:27: rule 2: both 'pattern' and 'exclude', expected one of them
a.toml:28: rule 2: 'alarms' beside 'exclude': an exclusion ends the scan and fires nothing
a.toml:30: the regexp 'a(b' breaks at its character 2
a.toml:32: rule 3: the rule names no alarm, expected alarms = ["…"]
a.toml:33: rule 3: level: expected one of CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, NOTSET or a number, got 'LOUD'
a.toml:34: rule 3: logger: expected a string, got an integer
a.toml:35: rule 3: multiline: expected true or false, got a string
a.toml:37: rule 4: pattern: expected a string, got an integer
a.toml:38: rule 4: alarms: expected a name, got an integer
a.toml:39: rule 4: level: expected one of CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, NOTSET or a number, got -1
a.toml:42: rule 5: alarms: expected a name or an array of names, got an integer
a.toml:43: rule 5: level: expected one of CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG, NOTSET or a number, got a boolean
a.toml:44: rule 6: the rule names no alarm, expected alarms = ["…"]
"""  # noqa: E501  # as they are printed


def test_all_mistakes_are_told(examined: Examine) -> None:
    """Every mistake is reported at once, with its line, what is wrong, and what was expected."""
    found = [re.sub(r"(at its character \d+): .+", r"\1", str(problem)) for problem in examined(toml=BAD).problems]
    assert found == BAD_PROBLEMS.splitlines()


def test_values_that_do_not_go_together(examined: Examine) -> None:
    """What an action says of its options as a whole is told with the alarm's line, and without the password."""
    toml = "[alarms.a]\naction = 'talk'\njid = 'x'\npassword = 'hunter2'\ntls = false\n"
    assert [str(problem) for problem in examined(toml=toml).problems] == [
        "a.toml:1: alarm 'a': the password ******** needs tls"
    ]


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("a = \n", "a.toml:1:5: Invalid value"),
        ("a = 1\nb = [1,\n", "a.toml:3: Invalid value"),
        (
            'a = "host (\\S+)"',
            "a.toml:1:14: Unescaped '\\' in a string: write a regexp in single quotes, such as '\\S+'",
        ),
        ('a = "x\nb = 1', "a.toml:1:7: a quote is not closed"),
        ("a = 'x\nb = 'y'", "a.toml:1:7: a quote is not closed"),
        ("a = 'x\nb = 1", "a.toml:2: a quote is not closed"),
        ('a = "x', "a.toml:1: a quote is not closed"),
        ('a = "\\uXX"', "a.toml:1:8: Invalid hex value"),
        ("a = 1\na = 2\n", "a.toml:2:6: Cannot overwrite a value"),
        ("a = " + "[" * 5000, "a.toml: tables or arrays are nested too deeply"),
        ("a = " + "1" * 5000, "a.toml: Exceeds the limit"),
        ("alarms = 3", "a.toml:1: alarms: expected a table, got an integer"),
        ("[rules]\npattern = 'x'", "a.toml:1: rules: expected [[rules]], an array of tables, got a table"),
        ("rules = [1.5, []]", "a.toml:1: rule 1: expected a table, got a float"),
        ("alarms.a = 07:30:00", "a.toml:1: alarm 'a': expected a table or a string such as 'cmd:…', got time"),
        ("alarm_freq = nan", "a.toml:1: alarm_freq: expected a number of seconds, 0 or more, got nan"),
    ],
)
def test_what_is_no_configuration(examined: Examine, toml: str, text: str) -> None:
    """A file that is no TOML, or no configuration, is reported with the place where it goes wrong."""
    assert str(examined(toml=toml).problems[0]).startswith(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${A}", "one"),
        ("x${A}${A}y", "xoneoney"),
        ("${NO:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NO:-}", ""),
        ("${A:-default}", "one"),
        ("$${A}", "${A}"),
        ("$A $", "$A $"),
    ],
)
def test_variables_of_the_environment(examined: Examine, value: str, expected: str) -> None:
    """${NAME} is the variable's value, ${NAME:-default} something else where it is unset or empty, $${ is itself."""
    toml = f"[alarms.a]\naction = 'note'\ntext = '{value}'\n"
    found = examined(toml=toml, environ={"A": "one", "EMPTY": ""})
    assert found.problems == ()
    assert msgspec.structs.asdict(found.settings.alarms[0].options) == {"text": expected}


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ("alarms.a = '${NO}'", "alarm 'a'"),
        ("alarms.a = { action = '${NO}' }", "alarm 'a': action"),
        ("alarms.a = { action = 'note', text = '${NO}' }", "alarm 'a': text"),
        ("alarms.a = { action = 'talk', jid = 'x', to = ['${NO}'] }", "alarm 'a': to: 0"),
        ("alarms.a = { action = 'note', delivery.backoff_max = '${NO}' }", "alarm 'a': delivery: backoff_max"),
        ("alarm_freq = '${NO}'", "alarm_freq"),
        ("rules = [{ exclude = '${NO}' }]", "rule 1: exclude"),
        ("alarms.a = 'note:'\nrules = [{ pattern = 'x', alarms = 'a', level = '${NO}' }]", "rule 1: level"),
        ("alarms.a = 'note:'\nrules = [{ pattern = 'x', alarms = '${NO}' }]", "rule 1: alarms"),
    ],
)
def test_unset_variable_is_one_problem(examined: Examine, toml: str, name: str) -> None:
    """A variable that is not set is reported once, without what follows from it."""
    problems = examined(toml=toml).problems
    assert [problem.text for problem in problems] == [f"{name}: the environment variable NO is not set"]


@pytest.mark.parametrize("value", ["${1}", "${A", "${}", "${A:default}"])
def test_what_is_no_variable(examined: Examine, value: str) -> None:
    """A ${ that begins no variable is reported, with the way to write it for itself."""
    problems = examined(toml=f"alarms.a = '{value}'", environ={"A": "x"}).problems
    assert [problem.text for problem in problems] == [
        "alarm 'a': '${' begins no ${VARIABLE}, ${VARIABLE:-default} or ${file:/path}; write $${ for a literal one"
    ]


def test_variables_may_hold_numbers(examined: Examine) -> None:
    """A variable of the environment is text, and is read as the number or boolean that the key wants."""
    toml = (
        "alarm_freq = '${FREQ}'\nrules = [{ pattern = 'x', alarms = 'a', level = '${LEVEL}' }]\n"
        "[alarms.a]\naction = 'talk'\njid = 'x'\nport = '${PORT}'\ntls = '${TLS}'\n"
    )
    found = examined(toml=toml, environ={"FREQ": "7", "LEVEL": "35", "PORT": "1", "TLS": "false"})
    assert found.problems == ()
    options = msgspec.structs.asdict(found.settings.alarms[0].options)
    assert (found.settings.alarm_freq, found.settings.rules[0].level) == (7, 35)
    assert (options["port"], options["tls"]) == (1, False)


def test_secret_from_the_environment_is_not_shown(examined: Examine) -> None:
    """A value that came from the environment into a secret field is masked in what is said of it."""
    toml = "[alarms.a]\naction = 'talk'\njid = 'x'\ntone = '${TONE}'\n"
    assert "hunter2" not in str(examined(toml=toml, environ={"TONE": "hunter2"}).problems)


def test_second_alarm_of_a_name_is_a_mistake(examined: Examine) -> None:
    """An alarm in TOML that an earlier file has as well is a mistake, unlike in ini files."""
    found = examined(toml="alarms.a = 'note:1'", ini="[uwsgi]\nalarm = a note:2\n")
    assert [str(warning) for warning in found.warnings] == [
        "a.ini:2: a second alarm 'a'; the first is at a.toml:1 and counts, this one is ignored"
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a name that is none, and a file that is not UTF-8 are problems with their names."""
    report = Report()
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = 1\n# caf\xe9\n")
    for name in (str(tmp_path / "no.toml"), "\0", str(latin)):
        assert read_toml(name, {}, report) is None
    assert [problem.text for problem in report.problems] == [
        "cannot be read: No such file or directory",
        "cannot be read: this cannot be the name of a file",
        "not UTF-8, which TOML must be",
    ]
    assert report.problems[2].where == Where(str(latin), 2)


def test_line_ends_of_windows_and_a_byte_order_mark(tmp_path: Path) -> None:
    """A file from Windows is read, and its lines are counted right."""
    file = tmp_path / "a.toml"
    file.write_bytes("\ufeff# x\r\n[alarms]\r\na = 3\r\n".encode())
    table = read_toml(str(file), {}, Report())
    assert table is not None
    assert table.where("alarms", "a").line == 3


@given(st.text() | st.text(alphabet="alarms=.[]{}rules\"'#\n$, 1"))
def test_any_text_is_read(find_action: FindAction, text: str) -> None:
    """Whatever is in a file, reading it ends with problems or without, but with nothing else."""
    report = Report()
    table = parse_toml(text, "x.toml", {}, report)
    assert (table is None) == bool(report.problems)
    if table is not None:
        read_tables(table, find_action)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["action", "jid", "to", "delivery", "pattern", "alarms", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["alarms", "rules", "alarm_freq", "alarm_msg_size"]), JSON))
def test_any_values_are_checked(find_action: FindAction, values: dict[str, object]) -> None:
    """Whatever values stand under the keys, checking them ends with problems or without, but with nothing else."""
    report = Report()
    text = "\n".join(f"{key} = {toml(value)}" for key, value in values.items())
    table = parse_toml(text, "x.toml", {}, report)
    if table is not None:
        read_tables(table, find_action)
    assert all(problem.where.line <= text.count("\n") + 1 for problem in report.problems)


def toml(value: object) -> str:
    """Return a value in TOML; None becomes a date."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return (
        "1979-05-27"
        if value is None
        else {True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool)
        else str(value)
    )


SAFE = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=8)
NAMES = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
GENERATED = st.fixed_dictionaries(
    {
        "alarm_freq": st.floats(0, 1e6),
        "alarm_msg_size": st.integers(1, 2**30),
        "alarms": st.dictionaries(
            NAMES,
            st.fixed_dictionaries(
                {"action": st.just("talk"), "jid": SAFE, "to": st.lists(SAFE), "port": st.integers(1, 9)}
            ),
        ),
    }
)


@given(GENERATED)
def test_what_is_written_is_read(find_action: FindAction, values: dict[str, object]) -> None:
    """Any configuration that is written as TOML comes back as the settings that were meant."""
    report = Report()
    text = "\n".join(f"{key} = {toml(value)}" for key, value in values.items())
    table = parse_toml(text, "x.toml", {}, report)
    assert table is not None
    part = read_tables(table, find_action)
    assert report == Report()
    assert part.fields == {key: values[key] for key in ("alarm_freq", "alarm_msg_size")}
    options = {one.name: msgspec.structs.asdict(one.alarm.options) for one in part.alarms if one.alarm}
    assert {
        name: {"action": "talk", "jid": some["jid"], "to": list(some["to"]), "port": some["port"]}
        for name, some in options.items()
    } == values["alarms"]


def test_a_rule_may_be_pcre(examined: Examine) -> None:
    """`syntax` makes a regexp PCRE on bytes, whatever else the rule asks for."""
    found = examined(
        "alarms.a = 'note:'\nrules = ["
        "{ pattern = '[[:alpha:]]\\xff', syntax = 'pcre', alarms = 'a', level = 10, multiline = true },"
        "{ exclude = 'x', syntax = 'python' }]\n"
    )
    assert not found.problems
    first, second = found.settings.rules
    assert (first.pattern, first.syntax, first.level, first.multiline) == (
        "[[:alpha:]]\\xff",
        Syntax.PCRE,
        10,
        True,
    )
    assert second.syntax is Syntax.PYTHON


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("'pcre2'", "rule 1: syntax: expected 'python' or 'pcre', got 'pcre2'"),
        ("''", "rule 1: syntax: expected 'python' or 'pcre', got ''"),
        ("1", "rule 1: syntax: expected a string, got an integer"),
    ],
)
def test_an_unknown_syntax_is_told(examined: Examine, value: str, problem: str) -> None:
    """With what there is."""
    found = examined(f"alarms.a = 'note:'\nrules = [{{ pattern = 'x', syntax = {value}, alarms = 'a' }}]\n")
    assert [one.text for one in found.problems] == [problem]


@pytest.mark.parametrize(
    ("first", "again"), [("alarms.a", "alarms.a"), ("alarms . 'a'", "alarms.a"), ('"alarms"."x.y]"', "alarms.'x.y]'")]
)
def test_a_table_that_is_given_twice_names_both_places(examined: Examine, first: str, again: str) -> None:
    """A copied table is reported with the place of the other one."""
    toml = f"# [alarms.a]\n[{first}]  # one\naction = 'log'\n[alarms.b]\naction = 'log'\n [{again}]\naction = 'log'\n"
    (problem,) = examined(toml=toml).problems
    assert problem.where.line == 6
    assert problem.text == f"the table [{again}] is given twice, the first time at a.toml:2: put their keys into one"


def test_another_table_that_is_declared_twice_is_said_as_it_is(examined: Examine) -> None:
    """Where no other header is found, the parser's own message stands."""
    (problem,) = examined(toml="alarms.a = 'log:'\n[alarms]\nb = 'log:'\n").problems
    assert "alarms" in problem.text
    assert "first time" not in problem.text


def test_a_string_in_the_place_of_a_list_shows_the_list(examined: Examine) -> None:
    """What has to be written is shown."""
    found = examined(toml=GOOD.replace('to = ["me@example.org"]', 'to = "me@example.org"'), environ=PASSWORD)
    assert [problem.text for problem in found.problems] == [
        "alarm 'jabber': to: expected a list, got a string: write [\"me@example.org\"]"
    ]


MISSPELLED = """
[alarms.a]
acton = "talk"
jid = "a"
prt = 3
[alarms.b]
action = "talk"
jid = "b"
password = "secret"
tls = false
delivry = {}
[alarms.c]
action = "talk"
jid = "c"
password = "secret"
tsl = true
tls = false
[[rules]]
pattern = "x"
alarms = "d"
"""


def test_misspelled_keys_hide_no_other_mistake(examined: Examine) -> None:
    """A table is checked to its end; only what an option of the right name could mend is left for later."""
    assert [str(problem) for problem in examined(toml=MISSPELLED).problems] == [
        "a.toml:3: alarm 'a': unknown key 'acton' (did you mean 'action'?)",
        "a.toml:5: alarm 'a': unknown key 'prt' (did you mean 'port'?)",
        "a.toml:6: alarm 'b': the password ******** needs tls",
        "a.toml:11: alarm 'b': unknown key 'delivry' (did you mean 'delivery'?)",
        "a.toml:16: alarm 'c': unknown key 'tsl' (did you mean 'tls'?)",
        "a.toml:20: unknown alarm 'd'",
    ]
