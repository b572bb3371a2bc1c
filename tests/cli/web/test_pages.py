"""One page of all servers of a user, in front of real ones: one with a page of its own, and one without."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from ports import free_port
from waiting import wait_until
from web_configuration import ALARMS, DISK, PAYMENTS, configuration
from web_server import Server, logged_in

from alarm_mw.cli.web.serving import serving

CONFIGURATION = f"{ALARMS}{PAYMENTS}{DISK}"

MakeServer = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[MakeServer]:
    """Start servers by their names, with default state directories."""
    with ExitStack() as stack:

        def made(name: str, text: str = CONFIGURATION) -> Server:
            folder = tmp_path / name
            folder.mkdir()
            server = Server(folder, text, state=tmp_path / "home" / "alarm-mw" / name)
            stack.callback(server.stop)
            return server

        yield made


@pytest.fixture
def login_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Serve the page, and give what returns login URLs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with serving("", "act") as offer:
        yield offer


def with_page(port: int) -> str:
    return configuration(CONFIGURATION, port=port)


def lines(browser: httpx.Client, path: str = "/") -> list[str]:
    """Return the listed incidents in order, each as ``server: line``."""
    rows = browser.get(path).text.split('data-cell="sev"')[1:]
    found = [
        (
            re.search(r'class="tag server"><bdi>(.*?)</bdi>', row),
            re.search(r'<a href="/i/[^"]*"><bdi>(.*?)</bdi>', row),
        )
        for row in rows
    ]
    return [f"{server[1]}: {line[1]}" for server, line in found if server and line]


def id_of(browser: httpx.Client, line: str) -> str:
    """Return an incident's id on this page, by its line."""
    found = re.search(rf'href="/i/([^"]*)"><bdi>{line}', browser.get("/").text)
    assert found is not None
    return found[1]


def post(browser: httpx.Client, path: str, **fields: str) -> httpx.Response:
    found = re.search(r'name="csrf" value="(\w+)"', browser.get("/").text)
    assert found is not None
    return browser.post(path, data={"csrf": found[1], **fields})


def test_all_servers_on_one_page(start: MakeServer, login_url: Callable[[], str]) -> None:
    """Incidents of all servers are listed, the worst first; each is opened and acted on through its own master."""
    shop, blog = start("shop", with_page(free_port())), start("blog")
    shop.line("disk full")
    blog.line("payment 42 failed")
    with logged_in(login_url()) as browser:
        wait_until(lambda: lines(browser) == ["blog: payment 42 failed", "shop: disk full"])
        assert lines(browser, "/?q=server%3Dshop") == ["shop: disk full"]
        payment, disk = id_of(browser, "payment 42"), id_of(browser, "disk full")
        assert payment.startswith("blog:")
        page = browser.get(f"/i/{payment}").text
        assert "payment 42 failed" in page
        assert "What happened" in page
        assert "payment 42 failed" in browser.get(f"/i/{payment}.md").text
        assert browser.get("/i/blog:0123456789").status_code == 404
        assert browser.get("/i/nobody:0123456789").status_code == 503

        assert post(browser, f"/i/{payment}/ack", comment="on it", seconds="3600").status_code == 303
        (incident,) = blog.incidents()
        assert (incident["comment"], bool(incident["acknowledged_by"])) == ("on it", True)
        assert "on it" in browser.get("/").text
        assert post(browser, f"/i/{payment}/unack").status_code == 303
        assert not blog.incidents()[0]["acknowledged_by"]
        assert post(browser, f"/i/{disk}/resolve").status_code == 303
        assert shop.incidents() == []
        assert post(browser, f"/i/{disk}/resolve").status_code == 409


def test_a_silence_is_for_one_server(start: MakeServer, login_url: Callable[[], str]) -> None:
    """The form says what it covers on the incident's server; the silence is made there, and nowhere else."""
    shop, blog = start("shop"), start("blog")
    for server in (shop, blog):
        server.line("payment 42 failed")
    with logged_in(login_url()) as browser:
        wait_until(lambda: len(lines(browser)) == 2)
        form = browser.get(f"/silences/new?incident=blog:{blog.incidents()[0]['id']}").text
        assert "New silence on <bdi>blog</bdi>" in form
        assert "Covers 1 of 1 open incident" in form
        preview = {"server": "blog", "matchers": 'rule="disk"'}
        assert "Covers 0 of 1" in browser.get("/silences/preview", params=preview).text
        wrong = post(browser, "/silences", server="blog", matchers='rule="payments"', length="soon", comment="")
        assert "soon" in wrong.text
        wrong = post(browser, "/silences", server="blog", matchers="rule=", length="1h", comment="")
        assert 'class="note bad"' in wrong.text
        wanted = {"server": "blog", "matchers": 'rule="payments"', "length": "1h", "comment": "known"}
        done = post(browser, "/silences", **wanted)
        assert done.status_code == 303
    assert "known" in blog.ask("silence", "--list").stdout
    assert "known" not in shop.ask("silence", "--list").stdout


def test_it_leads_to_the_pages_of_servers(start: MakeServer, login_url: Callable[[], str]) -> None:
    """A link logs in to a server's own page and leads to what was asked for, without asking again."""
    start("shop", with_page(free_port()))
    start("blog")
    with logged_in(login_url()) as browser:
        wait_until(lambda: "/open/shop" in browser.get("/").text)
        assert "/open/blog" not in browser.get("/").text
        assert browser.get("/open/blog").status_code == 404
        url = browser.get("/open/shop", params={"next": "/rules"}).headers["location"]
        with httpx.Client(trust_env=False, headers={"Connection": "close"}) as other:
            form = other.get(url).text
            assert "Log in" in form
            base = url.partition("/login/")[0]
            action = re.search(r'action="([^"]*)"', form)
            assert action is not None
            assert other.post(base + action[1]).headers["location"] == "/rules"
            again = browser.get("/open/shop", params={"next": "/rules"}).headers["location"]
            assert other.get(again).headers["location"] == "/rules"


def test_servers_come_and_go(start: MakeServer, login_url: Callable[[], str]) -> None:
    """A server that starts appears, one whose master is killed stays, and one that has ended is named as such."""
    with logged_in(login_url()) as browser:
        assert "No server is running" in browser.get("/").text
        shop = start("shop")
        shop.line("payment 42 failed")
        wait_until(lambda: lines(browser) == ["shop: payment 42 failed"])
        os.kill(shop.master(), signal.SIGKILL)
        wait_until(lambda: post(browser, f"/i/{id_of(browser, 'payment 42')}/ack").status_code == 303)
        shop.stop()
        wait_until(lambda: "not running any more" in browser.get("/").text)
        assert lines(browser) == []


def test_a_page_hears_of_changes(start: MakeServer, login_url: Callable[[], str]) -> None:
    """An open page is told of an incident on any server."""
    blog = start("blog")
    with logged_in(login_url()) as browser, browser.stream("GET", "/live") as stream:
        told = stream.iter_lines()
        assert next(told).startswith("retry:")
        blog.line("disk full")
        assert next(line for line in told if line.startswith("data: ")) == 'data: {"open": 1, "delivery": ["", "warn"]}'


def test_it_is_protected_as_each_page(start: MakeServer, login_url: Callable[[], str]) -> None:
    """Login, single-use URL, token of the form, host and content security policy are those of a server's page."""
    blog = start("blog")
    blog.line("payment 42 failed")
    url = login_url()
    base = url.partition("/login/")[0]
    with httpx.Client(base_url=base, trust_env=False, headers={"Connection": "close"}) as stranger:
        assert stranger.get("/").headers["location"] == "/login?next=%2F"
        assert stranger.get("/", headers={"Host": "evil.example"}).status_code == 421
        assert stranger.get("/live").status_code == 303
        assert stranger.post("/i/blog:1/ack").status_code == 401
    with logged_in(url) as browser:
        assert browser.post(url).status_code == 410
        wait_until(lambda: len(lines(browser)) == 1)
        name = id_of(browser, "payment 42")
        assert browser.post(f"/i/{name}/ack").status_code == 403
        foreign = {"Origin": "http://evil.example"}
        assert browser.post(f"/i/{name}/ack", headers=foreign).status_code == 403
        assert "default-src 'none'" in browser.get("/").headers["content-security-policy"]
        assert not blog.incidents()[0]["acknowledged_by"]


def test_who_may_look_only(start: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the role `read` nothing can be changed, neither here nor on the page of a server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    blog = start("blog", with_page(free_port()))
    blog.line("payment 42 failed")
    with serving("", "read") as offer, logged_in(offer()) as browser:
        wait_until(lambda: len(lines(browser)) == 1)
        name = id_of(browser, "payment 42")
        assert "/ack" not in browser.get("/").text
        assert post(browser, f"/i/{name}/ack").status_code == 403
        wait_until(lambda: browser.get("/open/blog").status_code == 303)
        with logged_in(browser.get("/open/blog").headers["location"].partition("?")[0]) as own:
            assert "/ack" not in own.get("/").text
