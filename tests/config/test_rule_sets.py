"""Ready rule sets: named in a configuration, and right about what servers say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from alarm_mw.config.rule_sets import RULE_SETS, rules_of
from alarm_mw.model.errors import OptionError
from alarm_mw.model.types import Syntax

#: The servers' own lines, with the rule of the set that is meant for each.
SAID = [
    ("gunicorn", "worker_timeout", "[2026-11-24 08:44:31 +0000] [8015] [CRITICAL] WORKER TIMEOUT (pid:8016)"),
    ("gunicorn", "worker_died", "[2026-11-24 08:44:25 +0000] [7213] [WARNING] Worker (pid:7216) was sent SIGSEGV!"),
    ("gunicorn", "worker_died", "[2026-11-24 08:44:25 +0000] [7213] [ERROR] Worker (pid:7216) exited with code 1."),
    (
        "gunicorn",
        "worker_died",
        "[2020-01-01 00:00:00 +0000] [1] [WARNING] Worker with pid 9 was terminated due to signal 11",
    ),
    ("gunicorn", "killed", "[…] [ERROR] Worker (pid:7216) was sent SIGKILL! Perhaps out of memory?"),
    ("gunicorn", "killed", "[…] [WARNING] Worker with pid 88 was terminated due to signal 9"),
    ("gunicorn", "boot_failed", "[2026-11-24 08:44:28 +0000] [7972] [ERROR] Reason: Worker failed to boot."),
    ("gunicorn", "boot_failed", "[2026-11-24 08:44:28 +0000] [8015] [ERROR] Reason: App failed to load."),
    ("gunicorn", "boot_failed", "gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>"),
    ("gunicorn", "address_in_use", "[…] [8806] [ERROR] Can't connect to ('127.0.0.1', 18997)"),
    ("gunicorn", "listen_queue", "[…] [7213] [DEBUG] socket backlog: 129"),
    ("gunicorn", "master_failed", "[…] [7213] [ERROR] Unhandled exception in main loop"),
    ("gunicorn", "too_many_files", "OSError: [Errno 24] Too many open files"),
    ("gunicorn", "out_of_memory", "MemoryError"),
    ("uvicorn", "worker_died", "INFO:     Child process [8733] died"),
    ("uvicorn", "boot_failed", 'ERROR:    Error loading ASGI app. Could not import module "nomod".'),
    ("uvicorn", "boot_failed", "ERROR:    Error loading ASGI app factory: no"),
    ("uvicorn", "boot_failed", "ERROR:    Application startup failed. Exiting."),
    ("uvicorn", "address_in_use", "ERROR:    [Errno 98] Address already in use"),
    (
        "uvicorn",
        "address_in_use",
        "\x1b[31mERROR\x1b[0m:    [Errno 98] error while attempting to bind on address ('::1', 80)",
    ),
    (
        "uvicorn",
        "restart_failed",
        "ERROR:    New child process [7] was not ready in time; keeping worker [3] and aborting the restart.",
    ),
    ("uvicorn", "listen_queue", "WARNING:  Exceeded concurrency limit."),
    ("uvicorn", "too_many_files", "OSError: [Errno 24] Too many open files"),
    ("uvicorn", "out_of_memory", "MemoryError"),
    ("hypercorn", "boot_failed", "hypercorn.utils.LifespanFailureError: Lifespan failure in startup. 'no'"),
    ("hypercorn", "framework_error", "[2026-11-24 08:44:28 +0000] [1] [ERROR] Error in ASGI Framework"),
    ("hypercorn", "address_in_use", "OSError: [Errno 98] Address already in use"),
    ("granian", "worker_died", "[ERROR] Unexpected exit from worker-1"),
    ("granian", "crash_loop", "[ERROR] Worker crash loop detected, exiting"),
    ("granian", "worker_killed", "[WARNING] Killing worker-2 after it refused to gracefully stop"),
    ("granian", "worker_killed", "[WARNING] Killing old worker-2 after it refused to gracefully stop"),
    ("waitress", "listen_queue", "WARNING:waitress.queue:Task queue depth is 3"),
    (
        "waitress",
        "too_many_connections",
        "WARNING:waitress:total open connections reached the connection limit, no longer accepting new connections",
    ),
    ("waitress", "address_in_use", "OSError: [Errno 98] Address already in use"),
    ("uwsgi", "harakiri", "Tue Nov 24 06:29:21 2026 - *** HARAKIRI ON WORKER 1 (pid: 7, try: 1, graceful: yes) ***"),
    ("uwsgi", "harakiri", "*** HARAKIRI ON MULE 1 (pid: 7) ***"),
    ("uwsgi", "worker_died", "DAMN ! worker 1 (pid: 7) died, killed by signal 9 :( trying respawn ..."),
    ("uwsgi", "worker_died", "DAMN ! worker 1 (pid: 7) MYSTERIOUSLY killed by signal 11 :( trying respawn ..."),
    ("uwsgi", "worker_died", "OOOPS mule 1 (pid: 7) crippled...trying respawn..."),
    ("uwsgi", "worker_died", "OOOPS the spooler is no more...trying respawn..."),
    ("uwsgi", "segfault", "!!! uWSGI process 7 got Segmentation Fault !!!"),
    ("uwsgi", "boot_failed", "*** no app loaded. GAME OVER ***"),
    ("uwsgi", "boot_failed", "OOPS ! failed loading app in worker 1 (pid 7)"),
    ("uwsgi", "listen_queue", '*** uWSGI listen queue of socket "127.0.0.1:45155" (fd: 3) full !!! (4/3) ***'),
    ("uwsgi", "address_in_use", "bind(): Address already in use [core/socket.c line 769]"),
    ("uwsgi", "too_many_files", "accept(): Too many open files [core/utils.c line 1441]"),
    ("uwsgi", "out_of_memory", "*** EVIL RELOAD ON WORKER 1 RSS: 104857600 (pid: 7) ***"),
    ("uwsgi", "out_of_memory", "MemoryError"),
    (
        "celery",
        "task_failed",
        "[…: ERROR/ForkPoolWorker-1] Task bad.boom[4618ba81-c36b] raised unexpected: ValueError('x')",
    ),
    ("celery", "task_failed", "[…: CRITICAL/ForkPoolWorker-1] Task bad.boom[4618ba81] INTERNAL ERROR: KeyError(1)"),
    ("celery", "task_failed", "Task bad.boom[4618ba81] raised unexpected: OSError(28, 'No space left on device')"),
    ("celery", "time_limit", "[…: ERROR/MainProcess] Hard time limit (1s) exceeded for bad.hard[1b97296b]"),
    (
        "celery",
        "worker_died",
        "[…: ERROR/MainProcess] Process 'ForkPoolWorker-2' pid:2 exited with 'signal 9 (SIGKILL)'",
    ),
    ("celery", "worker_died", "[…: ERROR/MainProcess] Process 'ForkPoolWorker-4' pid:31226 exited with 'exitcode 4'"),
    ("celery", "unknown_task", "[…: ERROR/MainProcess] Received unregistered task of type 'bad.nosuch'."),
    ("celery", "broker_unreachable", "Trying again in 2.00 seconds... (1/100)"),
    ("celery", "gave_up", "[…: CRITICAL/MainProcess] Unrecoverable error: OSError('no')"),
    ("celery", "boot_failed", "Unable to load celery application."),
    ("celery", "too_many_files", "OSError: [Errno 24] Too many open files"),
    ("celery", "out_of_memory", "MemoryError"),
    ("uwsgi", "respawning_too_fast", "worker respawning too fast !!! i have to sleep a bit (2 seconds)..."),
]

#: What servers say when all is well, or beside one of the lines above.
HARMLESS = """\
[2026-11-24 08:44:23 +0000] [7215] [INFO] Booting worker with pid: 7215
[2026-11-24 08:44:27 +0000] [7213] [INFO] Worker (pid:7263) was sent SIGTERM!
[2026-11-24 08:44:27 +0000] [7263] [INFO] Worker exiting (pid: 7263)
[2026-11-24 08:44:28 +0000] [7972] [ERROR] Worker (pid:7973) exited with code 3.
[2026-11-24 08:44:28 +0000] [8000] [ERROR] Worker (pid:8001) exited with code 4.
[2026-11-24 08:44:28 +0000] [7972] [ERROR] Shutting down: Master
[2020-01-01 00:00:00 +0000] [1] [WARNING] Worker with pid 9 was terminated due to signal 15
[2026-11-24 08:45:29 +0000] [8806] [ERROR] Connection in use: ('127.0.0.1', 18997)
[2026-11-24 08:45:29 +0000] [7973] [ERROR] Exception in worker process
[2026-11-24 08:45:29 +0000] [7213] [DEBUG] socket backlog: 7
[Errno 24] Too many open files
INFO:     Waiting for child process [8733]
INFO:     Application startup complete.
INFO:     127.0.0.1:48950 - "GET / HTTP/1.1" 500 Internal Server Error
ERROR:    Exception in ASGI application
HARAKIRI: --- uWSGI worker 1 (pid: 7) WAS managing request / since Tue Nov 24 06:29:21 2026 ---
worker 1 killed successfully (pid: 7)
[2026-11-27 04:30:49,482: ERROR/MainProcess] Process 'ForkPoolWorker-2' pid:31069 exited with 'signal 15 (SIGTERM)'
[2026-11-27 04:30:52,245: ERROR/MainProcess] Task handler raised error: WorkerLostError('Worker exited prematurely: 3.')
[2026-11-27 04:30:49,111: WARNING/MainProcess] Soft time limit (1s) exceeded for bad.soft[916c4ed5]
[2026-11-27 04:30:54,263: ERROR/ForkPoolWorker-5] Task bad.memory[4221344c] raised unexpected: MemoryError()
[2026-11-27 04:30:55,267: ERROR/ForkPoolWorker-6] Task bad.f[8083] raised unexpected: OSError(24, 'Too many open files')
[2026-11-27 04:30:49,138: INFO/ForkPoolWorker-1] Task bad.expected[4618ba81] raised expected: KeyError('k')
[2026-11-27 04:31:14,576: ERROR/MainProcess] consumer: Cannot connect to amqp://guest:**@127.0.0.1:1//: refused.
Trying again in 4.00 seconds... (2/100)
""".splitlines()


def matching(name: str, line: str) -> list[str]:
    return [rule.name for rule in RULE_SETS[name] if re.search(rule.pattern, line + "\n")]


@pytest.mark.parametrize(("name", "rule", "line"), SAID)
def test_what_a_server_says_is_found_by_its_rule_alone(name: str, rule: str, line: str) -> None:
    """Each of the servers' lines is matched by the rule that is meant for it, and by no other of the set."""
    assert matching(name, line) == [rule]


@pytest.mark.parametrize("name", RULE_SETS)
def test_what_is_harmless_is_not_found(name: str) -> None:
    """A start, a stop, and the lines beside the one that tells of an event match no rule."""
    assert {line: matching(name, line) for line in HARMLESS if matching(name, line)} == {}


@pytest.mark.parametrize("name", RULE_SETS)
def test_every_rule_is_tried_on_a_line_of_its_server(name: str) -> None:
    """No rule is without a line here, but those of gunicorn's that others share."""
    tried = {(each, rule) for each, rule, _ in SAID}
    own = [rule for rule in RULE_SETS[name] if name == "gunicorn" or rule not in RULE_SETS["gunicorn"]]
    assert [rule.name for rule in own if (name, rule.name) not in tried] == []


@pytest.mark.parametrize("name", RULE_SETS)
def test_every_rule_says_what_it_means(name: str) -> None:
    """A rule's meaning is a sentence, and its name is one of a kind in its set."""
    rules = RULE_SETS[name]
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.meaning.endswith(".") for rule in rules)


def test_rules_that_sets_share_come_once() -> None:
    """Two sets together have each regexp once, so that one line fires once."""
    patterns = [rule.pattern for rule in rules_of(["gunicorn", "uvicorn"])]
    assert len(set(patterns)) == len(patterns)
    assert len(patterns) < len(RULE_SETS["gunicorn"]) + len(RULE_SETS["uvicorn"])


def test_one_rule_of_a_set_can_be_named() -> None:
    """``SET.RULE`` is that rule alone."""
    assert [rule.name for rule in rules_of(["gunicorn.worker_timeout"])] == ["worker_timeout"]


def test_unknown_sets_are_told_with_the_nearest() -> None:
    """Every name that is wrong is told, with what may have been meant and what there is."""
    with pytest.raises(OptionError) as told:
        rules_of(["gunicor", "uvicorn", "x"])
    assert told.value.texts[0].startswith("unknown rule set 'gunicor' (did you mean 'gunicorn'?); there are: gunicorn,")
    assert len(told.value.texts) == 2


ALARM = '[alarms]\na = "note:x"\n'


def patterns(names: list[str]) -> list[str]:
    return [rule.pattern for rule in rules_of(names)]


@pytest.mark.parametrize(
    ("written", "names"), [('"gunicorn"', ["gunicorn"]), ('["gunicorn", "uvicorn"]', ["gunicorn", "uvicorn"])]
)
def test_toml_names_sets(examined: Any, written: str, names: list[str]) -> None:
    """``rules`` in a table ``[[rules]]`` stands for the rules of a set or of several."""
    found = examined(f'{ALARM}[[rules]]\nrules = {written}\nalarms = "a"\n')
    assert found.problems == ()
    assert [rule.pattern for rule in found.settings.rules] == patterns(names)
    assert {rule.alarms for rule in found.settings.rules} == {("a",)}


def test_a_flag_names_sets(examined: Any) -> None:
    """``--rules`` has the alarms, then the sets; the regexps are Python's there, too."""
    found = examined(f"{ALARM}b = 'note:y'", flags=(("rules", "a,b gunicorn,uvicorn.boot_failed"),))
    assert found.problems == ()
    assert [rule.pattern for rule in found.settings.rules] == patterns(["gunicorn", "uvicorn.boot_failed"])
    assert {(rule.alarms, rule.syntax) for rule in found.settings.rules} == {(("a", "b"), Syntax.PYTHON)}


@pytest.mark.parametrize(
    ("table", "flag", "text"),
    [
        (
            'rules = "gunicor"\nalarms = "a"',
            "",
            "a.toml:4: rule 1: unknown rule set 'gunicor' (did you mean 'gunicorn'?)",
        ),
        (
            'rules = 7\nalarms = "a"',
            "",
            "a.toml:4: rule 1: rules: expected the name of a rule set, or an array of names",
        ),
        ('rules = ["a", 7]\nalarms = "a"', "", "a.toml:4: rule 1: rules: expected the name of a rule set"),
        ('rules = "gunicorn"', "", "a.toml:3: rule 1: the rule names no alarm"),
        ('rules = "gunicorn"\nalarms = "b"', "", "a.toml:5: unknown alarm 'b'"),
        ('rules = "gunicorn"\nalarms = "a"\npattern = "x"', "", "a.toml:6: rule 1: unknown key 'pattern'"),
        (
            'rules = "${NOWHERE}"\nalarms = "a"',
            "",
            "a.toml:4: rule 1: rules: the environment variable NOWHERE is not set",
        ),
        ("", "a", "--rules (1st): rules: expected NAME[,NAME…] SET[,SET…]"),
        ("", " gunicorn", "--rules (1st): rules: expected NAME[,NAME…] SET[,SET…]"),
        ("", "a nothing", "--rules (1st): rules: unknown rule set 'nothing'"),
        ("", "b gunicorn", "--rules (1st): unknown alarm 'b'"),
    ],
)
def test_mistakes_are_told(examined: Any, table: str, flag: str, text: str) -> None:
    """With their line or their flag, and what was expected."""
    found = examined(ALARM + (f"[[rules]]\n{table}\n" if table else ""), flags=(("rules", flag),) if flag else ())
    assert str(found.problems[0]).startswith(text)
