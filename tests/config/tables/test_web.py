"""The table ``[web]``: where the page is served, and who may see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from alarm_mw.config.load import examine
from alarm_mw.config.report import Examined
from alarm_mw.config.settings import from_json, to_json
from alarm_mw.config.sources import Sources

ARGON2 = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
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
        ("[::1]:80", 'certfile = "/dev/null"', "https://[::1]:80", ""),
        ("unix:/run/a.sock", "", "", "/run/a.sock"),
    ],
)
def test_where_it_is_reached(tmp_path: Path, listen: str, more: str, url: str, path: str) -> None:
    """Without ``base_url`` the URL is that of the address, where it has one."""
    web = read(tmp_path, f'[web]\nlisten = "{listen}"\n{more}').settings.web
    assert (web.url, web.path) == (url, path)


@pytest.mark.parametrize(
    ("toml", "is_warned"),
    [
        ('listen = "0.0.0.0:80"', True),
        ('listen = "alarms.example.org:80"', True),
        ('listen = "localhost:80"', False),
        ('listen = "[::1]:80"', False),
        ('listen = "0.0.0.0:80"\nbase_url = "https://alarms.example.org"', False),
        ('listen = "unix:/run/a.sock"', False),
        ("", False),
    ],
)
def test_plain_http_for_others_is_named(tmp_path: Path, toml: str, *, is_warned: bool) -> None:
    """A page that other machines reach without TLS leads to a warning, unless a proxy with TLS is before it."""
    warnings = [str(each) for each in read(tmp_path, f"[web]\n{toml}").warnings if "plain HTTP" in each.text]
    assert [each.partition("alarm-mw.toml:")[2].partition(", which")[0] for each in warnings] == (
        ["3: web: listen: other machines reach the page by plain HTTP"] if is_warned else []
    )


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
        (
            '[[web.users]]\nname = "kim"\npassword = "$argon2id$v=19$m=65536,t=3$AAAAAAAAAAAAAAAA$AAAA"',
            "web: user 1: password: expected a hash by argon2 as '$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH'",
        ),
        (
            f'[[web.users]]\nname = "kim"\npassword = "{ARGON2.replace("65536", "9999999")}"',
            "web: user 1: password: expected a hash by argon2 as '$argon2id$v=19$m=65536,t=3,p=4$SALT$HASH'",
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


def test_a_hash_by_argon2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where the extra is installed; elsewhere the error names the extra."""
    toml = f'[[web.users]]\nname = "kim"\npassword = "{ARGON2}"'
    assert problems(tmp_path, toml) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert problems(tmp_path, toml) == [
        "web: user 1: password: a hash by argon2 needs 'argon2-cffi': pip install 'alarm-mw[argon2]'"
    ]


def test_a_wrong_certificate(tmp_path: Path) -> None:
    """A certificate with which the page cannot be served is named with its place and the reason; so is its key."""
    authority = trustme.CA()
    mine, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "mine.pem")
    mine.private_key_pem.write_to_path(tmp_path / "mine.key")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    other.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "none.pem").write_text("nothing")

    def warned(certfile: str, keyfile: str = "") -> list[tuple[str, int]]:
        key = f'keyfile = "{tmp_path}/{keyfile}"' if keyfile else ""
        found = read(tmp_path, f'[web]\nlisten = "a:1"\ncertfile = "{tmp_path}/{certfile}"\n{key}')
        assert not found.problems
        return [(warning.text.replace(f"{tmp_path}/", ""), warning.where.line) for warning in found.warnings]

    assert warned("mine.pem", "mine.key") == warned("both.pem") == []
    end = "; the page is not served"
    no_file = "cannot be read: No such file or directory"
    assert warned("no.pem") == [(f"web: certfile: 'no.pem' {no_file}{end}", 4)]
    assert warned("mine.pem", "no.key") == [(f"web: keyfile: 'no.key' {no_file}{end}", 5)]
    mismatch = f"web: certfile: 'mine.pem' and 'other.key' cannot be used: key values mismatch{end}"
    assert warned("mine.pem", "other.key") == [(mismatch, 4)]
    ((text, _),) = warned("none.pem")
    assert text.startswith("web: certfile: 'none.pem' cannot be used: ")
