"""The table ``[fleet]``, and what rules and alarms say of it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from alarm_mw.config.build import fleet_plan_of
from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources
from alarm_mw.model.fleet import FleetPlan, SharedAlarm


def read(tmp_path: Path, toml: str, **environ: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(toml)
    file.chmod(0o600)
    return examine(Sources.of_files([str(file)]), environ)


def problems(tmp_path: Path, toml: str) -> list[str]:
    return [str(problem).partition("alarm-mw.toml:")[2] for problem in read(tmp_path, toml).problems]


def plan(tmp_path: Path, toml: str, **environ: str) -> FleetPlan:
    examined = read(tmp_path, toml, **environ)
    assert [*map(str, examined.problems)] == []
    found = fleet_plan_of(examined.settings)
    assert found is not None
    return found


WHOLE = """
alarm_rate = "100/1h"

[alarms.mail]
action = "curl"
url = "https://mail.example.org/"
limits = { rate = "20/1h", repeat_after = "5m" }
notify = { repeat_interval = "4h", send_resolved = false }

[alarms.hook]
action = "curl"
url = "https://hook.example.org/"
limits = { repeat_after = 0, for_humans = false }

[alarms.log]
action = "log"

[alarms.noise]
action = "log"
scope = "fleet"

[alarms.page]
action = "cmd"
command = "page"
scope = "machine"

[[rules]]
name = "local"
pattern = "x"
alarms = "mail"
scope = "machine"

[[rules]]
pattern = "y+"
alarms = "mail"
scope = "machine"

[[rules]]
name = "db"
pattern = "z"
alarms = "mail"
scope = "fleet"
resolve_after = "1m"

[[monitors]]
monitor = "metric"
key = "errors"
value = 3
alarms = "mail"
name = "errors"
scope = "machine"

[fleet]
url = "redis://alarms@redis.example.org:6379/2"
password = "${PASSWORD}"
name = "shop"
machine = "web-3"
group_wait = "2s"
repeat_after = "90s"
last_lines = 5
labels = { zone = "eu" }
alarms = "mail"
"""


def test_all_that_can_be_said(tmp_path: Path) -> None:
    """Each key has its place in the plan of the fleet, with the limits of the alarms that are shared."""
    found = plan(tmp_path, WHOLE, PASSWORD="p/w")
    assert found.url == "redis://alarms:p%2Fw@redis.example.org:6379/2"
    assert (found.name, found.machine, found.group_wait, found.labels) == ("shop", "web-3", 2.0, {"zone": "eu"})
    assert found.alarm_rate == (100, 3600.0)
    assert found.alarms == {
        "mail": SharedAlarm((20, 3600.0), 300.0, 14400.0, send_resolved=False),
        "hook": SharedAlarm(None, 0.0, 0.0, for_humans=False),
        "noise": SharedAlarm(None, 90.0, 0.0, for_humans=False),
    }
    assert found.local_rules == {"local", "y+", "errors"}
    assert not found.is_hub
    assert read(tmp_path, WHOLE, PASSWORD="p").settings.fleet is not None


def test_the_next_master_gets_it_and_nobody_sees_the_secrets(tmp_path: Path) -> None:
    """The table goes to the next master; URL and password are masked where options are shown."""
    settings = read(tmp_path, WHOLE, PASSWORD="secret-pw").settings
    assert from_json(to_json(settings)).fleet == settings.fleet
    assert "secret-pw" not in repr(settings)
    assert "redis.example.org" not in repr(settings)


def test_a_file_that_others_may_read_is_named(tmp_path: Path) -> None:
    """A password in a file that others may read leads to a warning."""
    file = tmp_path / "alarm-mw.toml"
    file.write_text('alarms.a = "log:"\n[fleet]\nurl = "redis://x:geheim@h"\n')
    file.chmod(0o644)
    (warning,) = examine(Sources.of_files([str(file)]), {}).warnings
    assert "others may read this file" in warning.text


SHORT = 'alarms.a = "log:"\nown_alarms = "a"\n[fleet]\nurl = "unix:///run/redis.sock?db=1"\n'


def test_the_host_is_the_machine(tmp_path: Path) -> None:
    """Without more than a URL, the fleet is the default one, and the machine is called as its host."""
    found = plan(tmp_path, SHORT)
    assert (found.name, found.machine, found.group_wait) == ("default", socket.gethostname(), 5.0)
    assert found.url == "unix:///run/redis.sock?db=1"
    assert found.alarms == {}


def test_a_machine_without_a_fleet_has_no_plan(tmp_path: Path) -> None:
    """Without the table, nothing is shared."""
    assert fleet_plan_of(read(tmp_path, 'alarms.a = "log:"\n').settings) is None


def test_a_password_comes_from_a_file(tmp_path: Path) -> None:
    """A password in a file of its own becomes part of the URL, without its line end."""
    secret = tmp_path / "password"
    secret.write_text("s:1\n")
    found = plan(tmp_path, f'[fleet]\nurl = "rediss://h/1?ca_file=/ca.pem"\npassword_file = "{secret}"\n')
    assert found.url == "rediss://:s%3A1@h/1?ca_file=/ca.pem"


def test_a_waiting_time_may_be_nothing(tmp_path: Path) -> None:
    """An owner that is not to wait for others says so, and every message may be sent by each machine."""
    found = plan(tmp_path, SHORT + 'group_wait = 0\nrepeat_after = 0\n[alarms.b]\naction = "cmd"\ncommand = "x"\n')
    assert (found.group_wait, found.alarms["b"].repeat_after) == (0.0, 0.0)


def test_equal_rules_have_equal_hashes(tmp_path: Path) -> None:
    """Rules that are the same have the same hash on all machines, wherever they stand in the file."""
    rule = '[[rules]]\npattern = "x"\nalarms = "a"\n'
    hashes = [plan(tmp_path, text).rules_hash for text in (SHORT + rule, SHORT + "\n\n" + rule, SHORT)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_hub_has_no_rules_to_compare(tmp_path: Path) -> None:
    """Machines with the name of the same program should have the same rules; a hub has others, and no hash."""
    server, hub = plan(tmp_path, 'name = "shop"\n' + SHORT), plan(tmp_path, SHORT + "hub = true\n")
    assert (server.program, bool(server.rules_hash), hub.rules_hash) == ("shop", True, "")


def test_a_silent_machine_is_an_incident(tmp_path: Path) -> None:
    """The alarms of the fleet, or else those of the program itself, are told of machines that fall silent."""
    rule = read(tmp_path, SHORT).settings.fleet_rule
    assert rule is not None
    assert (rule.name, rule.alarms) == ("fleet", ("a",))
    other = read(tmp_path, SHORT + 'alarms = ["b"]\n[alarms.b]\naction = "log"\n').settings
    assert other.fleet_rule in other.incident_rules
    assert other.fleet_rule is not None
    assert other.fleet_rule.alarms == ("b",)
    assert read(tmp_path, SHORT.replace('own_alarms = "a"', "")).settings.fleet_rule is None


URL = 'alarms.a = "log:"\n[fleet]\nurl = "redis://h"\n'


SCHEMES = "redis://, rediss://, redis+sentinel:// or unix://"

ESCAPES = "; in a password, / ? # @ are written as %2F %3F %23 %40"

PORTS = f"with a port from 1 to 65535{ESCAPES}"

#: What is wrong in a table, with the end of the message.
MISTAKES = {
    '[fleet]\nurl = "http://h"': f"2: fleet: url: expected {SCHEMES}, got http://",
    '[fleet]\nurl = "localhost"': f"2: fleet: url: expected {SCHEMES}, got no scheme",
    '[fleet]\nurl = "redis:///0"': "2: fleet: url: expected redis://HOST, got no host",
    '[fleet]\nurl = "unix://h/x"': "the path of a socket, such as unix:///run/redis/redis.sock",
    '[fleet]\nurl = "redis+sentinel://h"': "expected redis+sentinel://HOST:PORT/SERVICE, got no name of a service",
    '[fleet]\nurl = "redis://u:pw9@h"\npassword = "s3c"': "a password beside the one in 'url', expected one of them",
    '[fleet]\nurl = "redis://"': "2: fleet: url: expected redis://HOST, got no host",
    '[fleet]\nurl = "unix://"': "2: fleet: url: expected the path of a socket, such as unix:///run/redis/redis.sock",
    '[fleet]\nurl = "redis://[h"': f"2: fleet: url: expected {SCHEMES}, got no URL",
    '[fleet]\nurl = "redis://h:port"': f"2: fleet: url: expected redis://HOST:PORT {PORTS}",
    '[fleet]\nurl = "redis://h:0"': PORTS,
    '[fleet]\nurl = "redis+sentinel://h,i:70000/s"': PORTS,
    '[fleet]\nurl = "redis://h/zz"': f"2: fleet: url: expected the number of a database as its path{ESCAPES}",
    '[fleet]\nurl = "redis+sentinel://h/s/zz"': f"expected the number of a database as its path{ESCAPES}",
    '[fleet]\nurl = "redis://h/1#x"': f"2: fleet: url: expected nothing after '#'{ESCAPES}",
    '[fleet]\nurl = "redis://h?nonsense=1"': "2: fleet: url: unknown option 'nonsense'; there are: db",
    '[fleet]\nurl = "redis+sentinel://h/s?sentinel_user=x"': (
        "unknown option 'sentinel_user' (did you mean 'sentinel_username'?); there are: db, sentinel_password, "
        "sentinel_username"
    ),
    '[fleet]\nurl = "redis://u:1?s@h"': f"2: fleet: url: unknown option; there are: db{ESCAPES}",
    '[fleet]\nurl = "redis://h?ca_file=/x"': "2: fleet: url: ca_file is for TLS: expected rediss://, got redis://",
    '[fleet]\nurl = "rediss://h?ca_file="': "2: fleet: url: ca_file: expected a value, got ''",
    '[fleet]\nurl = "unix:///run/r?db=x"': "2: fleet: url: db: expected the number of a database",
    "[fleet]": "1: fleet: 'url' is missing",
    'fleet = "x"': "1: fleet: expected a table, got a string",
    URL + 'name = ""': "4: fleet: name: expected the name of a fleet, got ''",
    URL + 'machine = ""': "4: fleet: machine: expected the name of this machine, got ''",
    URL + 'machine = "{x}"': "machine: expected letters, digits and any of _.@:-, at most 128, got '{x}'",
    URL + 'group_wait = "2m"': "4: fleet: group_wait: expected at most 60 seconds, got '2m'",
    URL + 'repeat_after = "x"': "repeat_after: expected a time such as '90s', '10m', '1h' or '1d', got 'x'",
    URL + 'password = "s3c"\npassword_file = "f"': "both 'password' and 'password_file', expected one of them",
    URL + 'password_file = "/nowhere"': "4: fleet: password_file: /nowhere cannot be read: No such file or directory",
    URL + "last_lines = 11": "4: fleet: last_lines: expected int <= 10",
    URL + 'alarms = "b"': "4: unknown alarm 'b'",
    URL + 'labels = { "1" = "x" }': "made of letters, digits and _, and begins with no digit",
    '[alarms.a]\naction = "log"\nscope = "all"': "3: alarm 'a': scope: expected 'fleet' or 'machine', got 'all'",
    URL + '[[rules]]\nname = "fleet"\npattern = "x"\nalarms = "a"\nresolve_after = "1m"': (
        "the name 'fleet' is that of silent machines, expected another name"
    ),
}


@pytest.mark.parametrize(("toml", "expected"), MISTAKES.items(), ids=range(len(MISTAKES)))
def test_what_is_wrong_is_named(tmp_path: Path, toml: str, expected: str) -> None:
    """Each mistake is named with its place and what is expected."""
    (found,) = problems(tmp_path, toml)
    assert found.endswith(expected)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    """One mistake in the table hides no other one, and each is named at its key."""
    found = problems(
        tmp_path,
        URL.replace("h", "h:x")
        + 'name = "a b"\nhub = "yes"\nlast_lines = 99\ngroup_wait = "2m"\nrepeat_after = -1\nalarms = "b"\nzone = 1\n'
        'password = "x"\npassword_file = "y"\n',
    )
    assert [each.partition(": ")[0] for each in found] == ["3", "4", "5", "6", "7", "8", "9", "10", "12"]
    assert "5: fleet: hub: expected true or false, got a string" in found


@pytest.mark.parametrize("password", ["x", "file", "password", "redis://"])
def test_a_secret_masks_no_word_of_a_message(tmp_path: Path, password: str) -> None:
    """A password that is a word of the message leaves the message as it is."""
    (found,) = problems(tmp_path, URL + f'password = "{password}"\npassword_file = "f"')
    assert found.endswith("both 'password' and 'password_file', expected one of them")


def test_files_of_the_url_are_looked_for(tmp_path: Path) -> None:
    """A file that the URL names and that cannot be read leads to a warning: alarms go on without the fleet."""
    ours = tmp_path / "ca.pem"
    ours.touch()
    toml = f'[fleet]\nurl = "rediss://h?ca_file={ours}&ssl_keyfile={tmp_path}/none&ssl_check_hostname=false"\n'
    (warning,) = [each for each in read(tmp_path, toml).warnings if each.where.line]
    assert str(warning).endswith(
        f"alarm-mw.toml:2: fleet: url: ssl_keyfile: {tmp_path}/none cannot be read: No such file or directory; "
        "until then this machine sends its alarms alone"
    )


@pytest.mark.parametrize(
    ("content", "expected"), [(b"\xff", "is not UTF-8, expected text"), (b"\n", "is empty, expected a password")]
)
def test_a_file_without_a_password_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    """A password's file that holds none is a mistake."""
    secret = tmp_path / "password"
    secret.write_bytes(content)
    (found,) = problems(tmp_path, URL + f'password_file = "{secret}"')
    assert found == f"4: fleet: password_file: {secret} {expected}"


def test_a_variable_that_is_missing_is_named_once(tmp_path: Path) -> None:
    """A scope whose variable is not set is one mistake."""
    (found,) = problems(tmp_path, '[alarms.a]\naction = "log"\nscope = "${NOWHERE}"')
    assert "NOWHERE is not set" in found


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "redis", None)
    (found,) = problems(tmp_path, URL)
    assert found == (
        "2: fleet: this needs the package 'redis', which the extra 'fleet' installs: pip install 'alarm-mw[fleet]'"
    )


def test_a_scope_of_a_monitor_needs_incidents(tmp_path: Path) -> None:
    """A monitor without a name has no incidents that could be shared."""
    toml = '[[monitors]]\nmonitor = "metric"\nkey = "errors"\nvalue = 3\nalarms = "a"\nscope = "machine"'
    assert any("'scope' is about incidents" in found for found in problems(tmp_path, f'alarms.a = "log:"\n{toml}'))


def test_only_one_table_of_several_files_counts(tmp_path: Path) -> None:
    """The table of a later file replaces that of an earlier one, as all tables do."""
    files = []
    for n in (1, 2):
        file = tmp_path / f"{n}.toml"
        file.write_text(f'[fleet]\nurl = "redis://h{n}"\n')
        files.append(os.fspath(file))
    found = fleet_plan_of(examine(Sources.of_files(files), {}).settings)
    assert found is not None
    assert found.url == "redis://h2"


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("", ["1: alarm 'a': action 'hub' without a table [fleet]: no hub can take its messages, which wait here"]),
        ('[fleet]\nurl = "redis://h"\n', []),
        ('[fleet]\nurl = "redis://h:x"\n', []),
        (
            '[fleet]\nurl = "redis://h"\nhub = true\n',
            ["1: alarm 'a': action 'hub' in a hub leaves its messages to itself: use the action that delivers them"],
        ),
    ],
)
def test_a_hub_that_cannot_take_messages_is_named(tmp_path: Path, toml: str, expected: list[str]) -> None:
    """An alarm that leaves its messages to a hub needs a fleet, and is no alarm of the hub."""
    warnings = read(tmp_path, f'alarms.a = "hub:"\nalarms.b = "log:"\n{toml}').warnings
    assert [str(each).partition("alarm-mw.toml:")[2] for each in warnings if each.where.line] == expected
