"""`init`, `alarm`, `shutdown` and `capture_stdio`, each in a program of its own, as users write them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import LIMIT

import alarm_mw
from alarm_mw.app.client import Keywords
from alarm_mw.config.load import from_keywords
from alarm_mw.model.errors import ConfigError, NotRunningError
from alarm_mw.testing import Alarms


def run(directory: Path, program: str, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program in which `init` is called with the alarm `a`, which appends to out.txt."""
    begin = (
        "import alarm_mw, os, sys\n"
        "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'}, log_alarms=['a TERRIBLE'], alarm_freq=0)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", begin + program],
        cwd=directory,
        capture_output=True,
        timeout=2 * LIMIT,
        check=False,
        **keywords,
    )


def lines(directory: Path) -> list[str]:
    return (directory / "out.txt").read_text().splitlines()


def test_alarm_fires_past_the_rules(tmp_path: Path) -> None:
    """`alarm(name, message)` takes text and bytes, and sends the very bytes."""
    result = run(tmp_path, "assert alarm_mw.alarm('a', 'no rule\\n') and alarm_mw.alarm('a', b'\\xff\\n')")
    assert (result.returncode, result.stderr) == (0, b"")
    assert sorted((tmp_path / "out.txt").read_bytes().splitlines()) == [b"no rule", b"\xff"]


def test_without_a_master_alarms_go_nowhere_and_say_so(tmp_path: Path) -> None:
    """Where `init` was not called, an alarm returns False, and one line tells what to do."""
    result = run(tmp_path, "alarm_mw.shutdown()\nfor _ in range(3): print(alarm_mw.alarm('a', 'x'))")
    assert result.stdout.split() == [b"False"] * 3
    assert result.stderr.count(b"alarm-mw run") == 1


def test_a_second_init_replaces_the_first(tmp_path: Path) -> None:
    """The new configuration counts from then on, and what the old one had is delivered."""
    program = (
        "alarm_mw.alarm('a', 'old\\n')\n"
        "alarm_mw.init(alarms={'b': 'cmd:cat >> out.txt'})\n"
        "alarm_mw.alarm('a', 'unknown\\n')\n"
        "alarm_mw.alarm('b', 'new\\n')\n"
    )
    assert run(tmp_path, program).returncode == 0
    assert sorted(lines(tmp_path)) == ["new", "old"]


def test_rules_on_requests_work_in_process(tmp_path: Path) -> None:
    """The middleware follows what `init` was given, before and after it was made, and tells of no other request."""
    (tmp_path / "alarms.toml").write_text(
        'alarm_freq = 0\n[alarms]\na = "cmd:cat >> out.txt"\n'
        '[[rules]]\nalarms = "a"\nrequest = { method = "POST", path = "^/upload$" }\n'
    )
    program = (
        "from alarm_mw.wsgi import AlarmMiddleware\n"
        "app = AlarmMiddleware(lambda environ, start: (start('200 OK', []), [b''])[1])\n"
        "def call(method, path): app({'REQUEST_METHOD': method, 'PATH_INFO': path}, lambda *_: None)\n"
        "call('POST', '/upload')\n"
        "alarm_mw.init('alarms.toml')\n"
        "for method, path in [('POST', '/upload'), ('GET', '/upload'), ('POST', '/')]: call(method, path)\n"
    )
    result = run(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, b"")
    assert lines(tmp_path) == ["Request: POST /upload was answered with 200"]


def test_a_file_configures_as_well(tmp_path: Path) -> None:
    """`init` takes a TOML file or a uwsgi.ini."""
    (tmp_path / "alarms.toml").write_text('[alarms]\na = "cmd:cat >> toml.txt"\n')
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\nalarm = a cmd:cat >> ini.txt\n")
    program = (
        "for file in ('alarms.toml', 'uwsgi.ini'):\n    alarm_mw.init(file)\n    alarm_mw.alarm('a', file + '\\n')\n"
    )
    assert run(tmp_path, program).returncode == 0
    assert (tmp_path / "toml.txt").read_text() == "alarms.toml\n"
    assert (tmp_path / "ini.txt").read_text() == "uwsgi.ini\n"


def test_what_is_odd_in_a_configuration_is_told_once(tmp_path: Path) -> None:
    """The warnings that `alarm-mw check` prints are logged, also for a second `init` that changes nothing, once."""
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\nalarm = a cmd:cat\ncheaper = 2\n")
    result = run(tmp_path, "for _ in range(2):\n    alarm_mw.init('uwsgi.ini')")
    assert result.stderr == b"uwsgi.ini: ignored, since not about alarms: cheaper\n"


def test_the_keywords_of_a_configuration_are_the_same_everywhere() -> None:
    """Whoever takes a configuration takes all that `init` does."""
    keywords = {*inspect.signature(alarm_mw.init).parameters}
    assert {*Keywords.__annotations__} == keywords
    assert {*inspect.signature(Alarms).parameters} == keywords
    assert {*inspect.signature(from_keywords).parameters} - {"environ", "find_action"} == keywords


def test_mistakes_are_errors_at_once() -> None:
    """`init` raises ConfigError with every mistake, and starts nothing."""
    with pytest.raises(ConfigError) as caught:
        alarm_mw.init(alarms={"a": "cdm:x"}, log_alarms=["b x", "a ("])
    assert len(caught.value.problems) == 3


def test_shutdown_ends_after_its_time(tmp_path: Path) -> None:
    """What cannot be delivered in time is given up, and `shutdown` says so."""
    program = "alarm_mw.init(alarms={'a': 'curl:http://127.0.0.1:9/'})\nalarm_mw.alarm('a', 'x')\n"
    result = run(tmp_path, program + "print(alarm_mw.shutdown(0.3))")
    assert result.stdout == b"False\n"
    assert b"alarm a: 1 firing was not delivered before the end" in result.stderr
    assert result.returncode == 0


def test_prints_are_captured_and_passed_on(tmp_path: Path) -> None:
    """After `capture_stdio` a printed line fires; what was printed comes out unchanged."""
    result = run(tmp_path, "alarm_mw.capture_stdio()\nprint('TERRIBLE')\nprint('fine', file=sys.stderr)")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"TERRIBLE\n", b"fine\n")
    assert lines(tmp_path) == ["TERRIBLE"]


def test_prints_of_children_and_of_c_code_are_captured(tmp_path: Path) -> None:
    """Capturing works below Python: child processes and C's own printf count too."""
    program = (
        "import ctypes, subprocess\n"
        "alarm_mw.capture_stdio()\n"
        "subprocess.run(['echo', 'TERRIBLE child'])\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.puts(b'TERRIBLE C')\n"
        "libc.fflush(None)\n"
    )
    result = run(tmp_path, program)
    assert result.stdout.splitlines() == [b"TERRIBLE child", b"TERRIBLE C"]
    assert sorted(lines(tmp_path)) == ["TERRIBLE C", "TERRIBLE child"]


def test_prints_that_reach_no_standard_stream_are_captured_too(tmp_path: Path) -> None:
    """In a notebook `sys.stdout` leads elsewhere: what is printed gets there, and its lines fire, each once."""
    program = (
        "file = sys.stdout = open('elsewhere', 'w', buffering=1)\n"
        "alarm_mw.capture_stdio()\n"
        "print('TERRIBLE', end=' ')\nprint('print')\nsys.stdout.writelines(['TERRIBLE ', 'lines\\n'])\n"
        "os.write(1, b'TERRIBLE descriptor\\n')\n"
        "pid = os.fork()\nif not pid: print('TERRIBLE child'); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print('TERRIBLE end', end='')\n"
        "tee = sys.stdout\nalarm_mw.shutdown()\nassert sys.stdout is file\nprint(' TERRIBLE late', file=tee)\n"
    )
    result = run(tmp_path, program)
    assert (result.stdout, result.stderr) == (b"TERRIBLE descriptor\n", b"")
    fired = (tmp_path / "out.txt").read_text().replace("TERRIBLE", "\nTERRIBLE").split("\n")  # one has no end
    assert sorted(filter(None, fired)) == [f"TERRIBLE {word}" for word in ("descriptor", "end", "lines", "print")]
    printed = "TERRIBLE print\nTERRIBLE lines\nTERRIBLE child\nTERRIBLE end TERRIBLE late\n"
    assert (tmp_path / "elsewhere").read_text() == printed


def test_who_keeps_a_captured_stream_is_heard_by_the_next_configuration(tmp_path: Path) -> None:
    """As a handler of `logging` does in a notebook, where a rule is changed and `init` called again."""
    program = (
        "import logging\n"
        "sys.stderr = open('elsewhere', 'w', buffering=1)\n"
        "alarm_mw.capture_stdio()\n"
        "logging.basicConfig()\n"
        "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'}, log_alarms=['a AGAIN'], alarm_freq=0)\n"
        "logging.error('AGAIN')\nprint('AGAIN', file=sys.stderr)\n"
    )
    assert run(tmp_path, program).returncode == 0
    assert sorted(lines(tmp_path)) == ["AGAIN", "ERROR:root:AGAIN"]


def test_logs_that_reach_no_standard_stream_fire_once(tmp_path: Path) -> None:
    """There, too, the handler's record and its print are one, and what our own loggers print raises nothing."""
    program = (
        "import logging\n"
        "sys.stderr = open('elsewhere', 'w', buffering=1)\n"
        "alarm_mw.init(alarms={'bad': 'cmd:cat >> out.txt; exit 1'}, log_alarms=['bad TERRIBLE|undeliverable'])\n"
        "alarm_mw.capture_stdio()\n"
        "logging.basicConfig(handlers=[alarm_mw.AlarmHandler(), logging.StreamHandler()])\n"
        "logging.error('TERRIBLE')\n"
    )
    assert run(tmp_path, program).stderr == b""
    assert "undeliverable" in (tmp_path / "elsewhere").read_text()
    assert lines(tmp_path) == ["TERRIBLE"]


def test_a_captured_log_does_not_feed_itself(tmp_path: Path) -> None:
    """The `log` action writes past the capture, so that its own line raises nothing."""
    program = (
        "alarm_mw.init(alarms={'a': 'log:'}, log_alarms=['a TERRIBLE'])\nalarm_mw.capture_stdio()\nprint('TERRIBLE')\n"
    )
    result = run(tmp_path, program)
    assert result.stdout == b"TERRIBLE\n"
    assert result.stderr.count(b"ALARM: TERRIBLE") == 1


def test_a_record_that_is_also_printed_fires_once(tmp_path: Path) -> None:
    """In process, too, the handler's record and its print are one."""
    program = (
        "import logging\n"
        "alarm_mw.capture_stdio()\n"
        "logging.basicConfig(handlers=[alarm_mw.AlarmHandler(), logging.StreamHandler()])\n"
        "logging.error('TERRIBLE')\n"
    )
    assert run(tmp_path, program).stderr == b"ERROR:root:TERRIBLE\n"
    assert len(lines(tmp_path)) == 1


@pytest.mark.parametrize("leaves_a_child", [False, True])
def test_what_is_printed_last_is_read_however_late(tmp_path: Path, leaves_a_child: bool) -> None:
    """A reader that the machine lets run only when the capture is ending has all of it, a half line at the end too."""
    child = "import subprocess; child = subprocess.Popen(['sleep', '60'])\n" if leaves_a_child else "child = None\n"
    program = (
        "import threading\n"
        "from alarm_mw.app.local_master import StdioCapture, StreamReader\n"
        "ending, stop, read = threading.Event(), StdioCapture.stop, StreamReader.run\n"
        "def end(*arguments):\n"
        "    try: return stop(*arguments)\n"
        "    finally: ending.set()\n"
        "StdioCapture.stop = end\n"
        "StreamReader.run = lambda self: (ending.wait(), read(self))\n"
        f"alarm_mw.capture_stdio()\n{child}"
        "print('TERRIBLE')\nprint('TERRIBLE end', end='' if child is None else None)\n"
        "alarm_mw.shutdown()\n"
        "if child: child.kill(); child.wait()\n"
    )
    assert run(tmp_path, program).stdout.startswith(b"TERRIBLE\nTERRIBLE end")
    fired = (tmp_path / "out.txt").read_text().replace("TERRIBLE", "\nTERRIBLE").split("\n")  # one has no end
    assert sorted(filter(None, fired)) == ["TERRIBLE", "TERRIBLE end"]


@pytest.mark.parametrize("again", ["alarm_mw.init(alarms=alarms, log_alarms=['a AGAIN'])", "handler('a AGAIN')"])
def test_prints_stay_captured_when_the_configuration_is_replaced(tmp_path: Path, again: str) -> None:
    """What `init` or a handler configures anew counts for prints as well, without another `capture_stdio`."""
    program = (
        "alarms = {'a': 'cmd:cat >> out.txt'}\n"
        "def handler(rule): alarm_mw.AlarmHandler(alarms=alarms, log_alarms=[rule])\n"
        f"alarm_mw.capture_stdio()\nprint('TERRIBLE')\n{again}\nprint('AGAIN')\n"
    )
    result = run(tmp_path, program)
    assert (result.stdout, result.stderr) == (b"TERRIBLE\nAGAIN\n", b"")
    assert lines(tmp_path) == ["TERRIBLE", "AGAIN"]


def test_capturing_needs_a_configuration() -> None:
    """Without `init` nothing is captured, and the error says what is missing."""
    with pytest.raises(NotRunningError, match="init"):
        alarm_mw.capture_stdio()


def test_many_forks_while_records_are_sent_do_no_harm(tmp_path: Path) -> None:
    """Children forked while another thread raises alarms neither hang nor lose their own."""
    program = (
        "import logging, threading\n"
        "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'}, log_alarms=['a TERRIBLE'], alarm_freq=0.1)\n"
        "handler = alarm_mw.AlarmHandler()\n"
        "stop = threading.Event()\n"
        "def log(text): handler.handle(logging.makeLogRecord({'name': 'app', 'msg': text}))\n"
        "def busy():\n"
        "    while not stop.is_set(): log('TERRIBLE noise')\n"
        "thread = threading.Thread(target=busy); thread.start()\n"
        "for n in range(50):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        log(f'TERRIBLE {n}')\n"
        f"        os._exit(0 if alarm_mw.shutdown({LIMIT}) else 1)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        f"stop.set(); thread.join(); alarm_mw.shutdown({LIMIT})\n"
    )
    result = run(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, b"")
    assert [line for line in lines(tmp_path) if "noise" not in line] == [f"TERRIBLE {n}" for n in range(50)]


def test_what_comes_while_init_replaces_a_configuration_is_kept(tmp_path: Path) -> None:
    """The old configuration takes nothing more while it delivers what it has; the new one gets it."""
    program = (
        "import threading\n"
        "more = {'b': 'cmd:touch begun; while ! test -e go; do sleep 0.01; done', 'a': 'cmd:cat >> out.txt'}\n"
        "alarm_mw.init(alarms=more)\n"
        "alarm_mw.alarm('b', 'x')\n"
        "def fire():\n"
        "    while not os.path.exists('begun'): pass\n"
        "    while alarm_mw.app.current_master.this.client is first: pass\n"
        "    print(alarm_mw.alarm('a', 'meanwhile\\n'))\n"
        "    open('go', 'w').close()\n"
        "first = alarm_mw.app.current_master.this.client\n"
        "thread = threading.Thread(target=fire)\n"
        "thread.start()\n"
        "alarm_mw.init(alarms=more, alarm_freq=1)\n"
        "thread.join()\n"
    )
    result = run(tmp_path, program)
    assert (result.stdout, result.stderr) == (b"True\n", b"")
    assert lines(tmp_path) == ["meanwhile"]


def test_a_log_call_inside_of_init_does_no_harm(tmp_path: Path) -> None:
    """With the handler on the root logger at DEBUG, what starting logs starts nothing a second time."""
    program = (
        "import logging, threading\n"
        "alarm_mw.shutdown()\n"
        "logging.basicConfig(level='DEBUG', handlers=[alarm_mw.AlarmHandler()])\n"
        "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'}, log_alarms=['a TERRIBLE'])\n"
        "print([t.name for t in threading.enumerate()].count('alarm-mw-worker'))\n"
        "logging.error('TERRIBLE')\n"
    )
    result = run(tmp_path, program)
    assert result.stdout == b"1\n"
    assert lines(tmp_path) == ["TERRIBLE"]


def test_the_first_records_of_many_threads_are_kept(tmp_path: Path) -> None:
    """In a forked child the first use starts a worker; what other threads send meanwhile is not lost."""
    program = (
        "import threading\n"
        "if pid := os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "barrier = threading.Barrier(8)\n"
        "def fire(n):\n"
        "    barrier.wait()\n"
        "    assert alarm_mw.alarm('a', f'{n}\\n')\n"
        "threads = [threading.Thread(target=fire, args=(n,)) for n in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    result = run(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, b"")
    assert sorted(lines(tmp_path)) == [str(n) for n in range(8)]


def test_whatever_is_given_to_alarm_raises_nothing(tmp_path: Path) -> None:
    """Odd types and text that cannot be encoded are sent as what they look like, or answered with False."""
    program = (
        "class Odd:\n"
        "    def __str__(self): raise ValueError\n"
        "print(alarm_mw.alarm('a', bytearray(b'bytes\\n')), alarm_mw.alarm('a', 17), alarm_mw.alarm('a', Odd()),\n"
        "      alarm_mw.alarm('\\ud800', 'x'), alarm_mw.alarm('', 'TERRIBLE'))\n"
    )
    result = run(tmp_path, program)
    assert result.stdout == b"True True False True True\n"
    assert sorted((tmp_path / "out.txt").read_bytes()) == sorted(b"17bytes\n")


def test_odd_text_ends_no_alarms(tmp_path: Path) -> None:
    """Surrogates in a logger's name or in fields neither stop the worker nor lose the record."""
    program = (
        "import logging\n"
        "from alarm_mw.app.client import submit_line\n"
        "alarm_mw.AlarmHandler().handle(logging.makeLogRecord({'name': 'app\\ud800', 'msg': 'TERRIBLE 1'}))\n"
        "submit_line('TERRIBLE 2', source='asgi', fields={'path': '\\ud800'})\n"
        "submit_line('TERRIBLE 3', source='asgi')\n"
    )
    assert run(tmp_path, program).returncode == 0
    assert sorted(lines(tmp_path)) == ["TERRIBLE 1", "TERRIBLE 2", "TERRIBLE 3"]


@pytest.mark.parametrize("level", ["DEBUG", None])
def test_what_alarm_code_logs_raises_no_alarm_in_a_captured_process(tmp_path: Path, level: str | None) -> None:
    """Whatever the logging configuration, the lines that tell of a failed delivery do not fire the alarm again."""
    program = (
        "import logging\n"
        f"level = {level!r}\n"
        "if level: logging.basicConfig(level=level)\n"
        "alarms = {'bad': 'cmd:cat >> out.txt; exit 1'}\n"
        "alarm_mw.init(alarms=alarms, log_alarms=['bad bad|attempt|raise'], alarm_freq=0)\n"
        "alarm_mw.capture_stdio()\n"
        "print('bad request', flush=True)\n"
    )
    result = run(tmp_path, program)
    assert b"alarm bad: undeliverable after 1 attempt (refused)" in result.stderr
    assert lines(tmp_path) == ["bad request"]


def test_processes_of_multiprocessing_deliver_their_alarms(tmp_path: Path) -> None:
    """A worker that is forked or spawned delivers before it ends, though it ends without atexit."""
    (tmp_path / "program.py").write_text(
        "import multiprocessing, sys\n"
        "import alarm_mw\n"
        "def work(method):\n"
        "    if method == 'spawn': alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'})\n"
        "    alarm_mw.alarm('a', method + '\\n')\n"
        "if __name__ == '__main__':\n"
        "    alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'})\n"
        "    for method in ('fork', 'spawn'):\n"
        "        process = multiprocessing.get_context(method).Process(target=work, args=(method,))\n"
        "        process.start()\n"
        "        process.join()\n"
    )
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, timeout=60)
    assert lines(tmp_path) == ["fork", "spawn"]


def test_what_is_logged_at_the_very_end_is_delivered(tmp_path: Path) -> None:
    """An `atexit` handler that runs after ours raises its alarm, too; so does one that runs before."""
    (tmp_path / "program.py").write_text(
        "import atexit\n"
        "atexit.register(lambda: alarm_mw.alarm('a', 'last\\n'))\n"
        "import alarm_mw\n"
        "alarm_mw.init(alarms={'a': 'cmd:cat >> out.txt'})\n"
        "atexit.register(lambda: alarm_mw.alarm('a', 'first\\n'))\n"
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert lines(tmp_path) == ["first", "last"]


def test_no_fleet_in_process(tmp_path: Path) -> None:
    """A configuration with a fleet works without a master process; the log says what would join it."""
    (tmp_path / "alarms.toml").write_text('[fleet]\nurl = "redis://h"\n[alarms.b]\naction = "log"\n')
    done = run(tmp_path, "alarm_mw.init('alarms.toml')\nalarm_mw.alarm('b', 'x')\n")
    assert b"this process is in no fleet, in spite of its table [fleet]" in done.stderr
    assert b"ALARM: x" in done.stderr


def test_no_page_in_process(tmp_path: Path) -> None:
    """A configuration with a page works without a master process; the log says what would serve the page."""
    (tmp_path / "alarms.toml").write_text('[web]\nlisten = "127.0.0.1:8420"\n[alarms.b]\naction = "log"\n')
    program = "alarm_mw.init('alarms.toml')\nalarm_mw.alarm('b', 'x')\n"
    done = run(tmp_path, program)
    assert b"no page is served at [web] listen = '127.0.0.1:8420'" in done.stderr
    assert b"alarm-mw run" in done.stderr
    assert b"ALARM: x" in done.stderr
