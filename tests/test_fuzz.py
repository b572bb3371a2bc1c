"""Whatever stands in a configuration, in a line, in a URL or in a dump: the parsers answer, and raise nothing else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from alarm_mw import actions
from alarm_mw.actions.airbrake.action import AirbrakeAction
from alarm_mw.actions.airbrake.backtrace import parse
from alarm_mw.actions.curl import CurlAction
from alarm_mw.actions.curl.url import Target
from alarm_mw.actions.xmpp.action import XmppAction
from alarm_mw.config.load import examine
from alarm_mw.config.parts import Part
from alarm_mw.config.report import Report
from alarm_mw.config.sources import Sources
from alarm_mw.config.tables.tables import read_tables
from alarm_mw.config.toml.document import parse_toml
from alarm_mw.model.errors import OptionError
from alarm_mw.monitors.segfault.crashdump import parse_dump, signal_in
from alarm_mw.patterns.access_log import path_of, read_line
from alarm_mw.supervisor.notify import without_main_pid

texts = st.text(max_size=60)

TOML = [
    "[alarms]\n",
    "[alarms.a]\n",
    "[[rules]]\n",
    "[[monitors]]\n",
    "[metrics]\n",
    "[rules]\n",
    'a = "log:"\n',
    'action = "curl"\n',
    'url = "http://a"\n',
    'pattern = "("\n',
    "pattern = 'x'\n",
    'alarms = ["a", 1, []]\n',
    'request = { status = "5xx" }\n',
    'request = { status = -1, path = "(" }\n',
    "level = nan\n",
    "alarm-freq = inf\n",
    'within = "1e9d"\n',
    "count = 99999999999999999999\n",
    "x = 1979-05-27T07:32:00Z\n",
    'headers = { "" = "" }\n',
    '"${file:/\\u0000}" = "${file:/nowhere}"\n',
    'b = "${X:-${Y}}"\n',
    '"" = {}\n',
    "own_alarms = 1\n",
    'alarm_rate = "1/0s"\n',
    "delivery = { group_wait = -1 }\n",
    "limits = []\n",
    "[a]]\n",
    '"""',
    "\ufeff",
    "\x00",
]

INI = [
    "[uwsgi]\n",
    "alarm = a log:\n",
    "alarm = a xmpp:;;\n",
    "alarm = \n",
    "log-alarm = a (\n",
    "log-alarm = a [[:x:]]\n",
    "if-env = A\n",
    "endif =\n",
    "for = 1 2 3\n",
    "endfor =\n",
    "x = $(A)@(b)%(c)\n",
    "x = %(x)\n",
    "include = :uwsgi\n",
    "alarm-freq = x\n",
    "alarm-msg-size = -1\n",
    "metric-alarm = key=,\n",
    "alarm-fd = a 99999999999999999999:8\n",
    "mule = \n",
    "%v%%%",
    "=",
    ";",
    "[",
    "inherit = x\n",
    "exec = id\n",
]


def documents(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces) | texts, max_size=12).map("".join)


@given(documents(TOML))
def test_any_toml_has_an_answer(text: str) -> None:
    """A configuration, or problems with their places; no traceback."""
    report = Report()
    table = parse_toml(text, "a.toml", {"X": "1"}, report)
    if table is None:
        assert report.problems
        return
    assert isinstance(read_tables(table, actions.find), Part)
    assert all(str(problem) for problem in report.problems)


@given(st.lists(st.tuples(st.sampled_from([line.partition("=")[0].strip() for line in INI if "=" in line]), texts)))
def test_any_flags_have_an_answer(flags: list[tuple[str, str]]) -> None:
    """As in an ini file, which is read by the same hands."""
    examined = examine(Sources(flags=tuple(flags)), {})
    assert all(str(problem) for problem in (*examined.problems, *examined.warnings))


@given(texts | st.lists(st.sampled_from("://[]@?#;=%,&\\ axmpp127.0.0.1:9\udcff"), max_size=30).map("".join))
def test_any_url_and_address_has_an_answer(text: str) -> None:
    """What is no URL, no address and no list of options is refused with a sentence."""
    with suppress(ValueError):
        Target.parse(text)
    Target.host_of(text)
    for action in (CurlAction, XmppAction, AirbrakeAction):
        with suppress(OptionError):
            action.from_uwsgi(text)


LOG = [
    '127.0.0.1 - - [x] "GET ',
    "/a%00%zz",
    ' HTTP/1.1" 200 ',
    "9" * 4400,
    " ",
    '"-" "x"',
    "[pid: 1|app: 0|req: 1/1] ",
    "127.0.0.1 () {",
    "} [Tue] GET ",
    " => generated ",
    " bytes in ",
    " msecs (HTTP/1.1 200) ",
    "\\x1b",
    "http://",
    "é",
    '"',
    "INFO:     127.0.0.1:1 - ",
    "\x00",
]


@given(documents(LOG))
def test_any_line_may_stand_in_an_access_log(text: str) -> None:
    """It is a request's, or it is none."""
    read_line(text)
    assert path_of(text).isprintable() or "\t" in path_of(text) or path_of(text)


def test_no_number_in_an_access_log_is_too_long() -> None:
    """A size of thousands of digits is no reason not to judge the line."""
    for size in ("9" * 400, "9" * 4400):
        read_line(f'127.0.0.1 - - [x] "GET / HTTP/1.1" 200 {size}')
        read_line(
            f"[pid: 1|app: 0|req: 1/1] 127.0.0.1 () {{28 vars in 1 bytes}} [Tue] GET / => generated {size} bytes in "
            f"{size} msecs (HTTP/1.1 200) 1 headers"
        )


DUMP = [
    "Fatal Python error: ",
    "Segmentation fault\n",
    "Current thread 0x",
    "00 (most recent call first):\n",
    '  File "',
    '", line ',
    "9" * 5000,
    " in f\n",
    "Extension modules: ",
    "(total: 9)\n",
    "Traceback (most recent call last):\n",
    "E: x\n",
    "lib(m+0xc5) [0x4515]\n",
    "<no Python frame>",
    "\x00",
    "| +-",
]


@given(documents(DUMP))
def test_any_dump_has_an_answer(text: str) -> None:
    """Frames as far as there are some."""
    parse_dump(text)
    signal_in(text)
    parse(text)


@given(st.binary(max_size=80) | st.lists(st.sampled_from([b"MAINPID=1", b"\n", b"READY=1", b"\xff"])).map(b"".join))
def test_any_notice_has_an_answer(message: bytes) -> None:
    """A server cannot tell the service manager that somebody else is the main process."""
    assert not any(line.startswith(b"MAINPID=") for line in without_main_pid(message).split(b"\n"))
