"""The table ``[web]``: where the page is served, and who may see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alarm_mw.config.load import examine, from_json, to_json
from alarm_mw.config.report import Examined
from alarm_mw.config.sources import Sources

HASH = "scrypt$15$8$2$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43


def read(tmp_path: Path, toml: str) -> Examined:
    file = tmp_path / "alarm-mw.toml"
    file.write_text(f'alarms.a = "log:"\n{toml}')
    return examine(Sources.of_files([str(file)]), {})


def problems(tmp_path: Path, toml: str) -> list[str]:
    return [problem.text for problem in read(tmp_path, toml).problems]


WHOLE = f"""
[web]
listen = "127.0.0.1:8420"
base_url = "https://alarms.example.org/"
allowed_hosts = ["alarms"]
certfile = "/etc/cert.pem"
keyfile = "/etc/key.pem"
[[web.users]]
name = "kim"
password = "{HASH}"
[[web.tokens]]
name = "karma"
token = "0123456789abcdef"
role = "act"
[web.proxy]
addresses = ["unix", "10.0.0.0/8"]
user_header = "X-User"
act = ["kim"]
"""


def test_all_that_can_be_said(tmp_path: Path) -> None:
    """Each key has its place, and goes to the next master; secrets are not shown."""
    examined = read(tmp_path, WHOLE)
    assert examined.problems == ()
    web = examined.settings.web
    assert web.url == "https://alarms.example.org"
    assert (web.users[0].name, web.users[0].role, web.tokens[0].role) == ("kim", "act", "act")
    assert web.proxy is not None
    assert web.proxy.role == "read"
    assert HASH not in repr(web)
    assert "0123456789abcdef" not in repr(web)
    assert from_json(to_json(examined.settings)).web == web


@pytest.mark.parametrize(
    ("listen", "more", "url", "path"),
    [
        ("", "", "", ""),
        ("127.0.0.1:80", "", "http://127.0.0.1:80", ""),
        ("0.0.0.0:80", "", "http://127.0.0.1:80", ""),
        ("[::1]:80", 'certfile = "c"', "https://[::1]:80", ""),
        ("unix:/run/a.sock", "", "", "/run/a.sock"),
    ],
)
def test_where_it_is_reached(tmp_path: Path, listen: str, more: str, url: str, path: str) -> None:
    """Without ``base_url`` the URL is that of the address, where it has one."""
    web = read(tmp_path, f'[web]\nlisten = "{listen}"\n{more}').settings.web
    assert (web.url, web.path) == (url, path)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('listen = "80"', "web: listen: expected 'host:port', got '80'"),
        ('listen = "unix:a.sock"', "web: listen: expected 'unix:/PATH', got 'unix:a.sock'"),
        ('base_url = "alarms"', "web: base_url: expected 'http://HOST' or 'https://HOST[:PORT]', got 'alarms'"),
        (
            'base_url = "https://a/b"',
            "web: base_url: expected 'http://HOST' or 'https://HOST[:PORT]', got 'https://a/b'",
        ),
        ('keyfile = "k"', "web: keyfile without 'certfile', which holds the certificate"),
        ('lisen = "a:1"', "web: unknown key 'lisen' (did you mean 'listen'?)"),
        ('users = "kim"', "web: users: expected [[users]], an array of tables, got a string"),
        (
            '[[web.users]]\nname = "kim"\npassword = "secret"',
            "web: user 1: password: expected a hash, as `alarm-mw web --add-user NAME` prints it",
        ),
        (
            f'[[web.users]]\nname = "k m"\npassword = "{HASH}"',
            "web: user 1: name: expected letters, digits and any of ._@+-, got 'k m'",
        ),
        (
            f'[[web.users]]\nname = "kim"\npassword = "{HASH}"\n' * 2,
            "web: the name 'kim' is given twice",
        ),
        (
            '[[web.tokens]]\nname = "karma"\ntoken = "short"',
            "web: token 1: token: expected at least 16 ASCII characters without spaces",
        ),
        (
            '[[web.tokens]]\nname = ""\ntoken = "0123456789abcdef"',
            "web: token 1: name: expected letters, digits and any of ._@+-, got ''",
        ),
        (
            '[[web.tokens]]\nname = "karma"\ntoken = "0123456789abcdef"\nrole = "admin"',
            "web: token 1: role: expected 'act' or 'read', got 'admin'",
        ),
        (
            'proxy = { addresses = ["here"] }',
            "web: proxy: addresses: expected an address, a network or 'unix', got 'here'",
        ),
        (
            'proxy = { addresses = ["10.0.0.1"], user_header = "a b" }',
            "web: proxy: user_header: expected the name of a header, got 'a b'",
        ),
        ("proxy = 1", "web: proxy: expected a table, got an integer"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, toml: str, problem: str) -> None:
    """Each mistake has its own sentence, with what was expected and without a secret."""
    assert problems(tmp_path, f"[web]\n{toml}") == [problem]


def test_a_table_is_expected(tmp_path: Path) -> None:
    """Another value under ``web`` is a mistake."""
    assert problems(tmp_path, "web = 1") == ["web: expected a table, got an integer"]
