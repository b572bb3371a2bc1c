"""Who is let in, and what strangers and other sites cannot do."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable

import argon2
import httpx
import pytest
from web_configuration import KARMA, ROBOT
from web_page import CONFIGURATION, PASSWORD, Page

from alarm_mw.model.pace import Pace
from alarm_mw.web.app import make_app
from alarm_mw.web.security.guards import own_path
from alarm_mw.web.site import Site
from alarm_mw.web.store import LOGIN_URL, SESSION, Session, Store


def incident(page: Page) -> str:
    page.line("payment 42 failed: card declined")
    found = re.search(r'data-id="(\w+)"', page.logged_in().get("/").text)
    assert found is not None
    return found[1]


def test_a_stranger_is_led_to_the_login(page: Page) -> None:
    """Nobody sees anything without a session; the login leads back to what was asked for."""
    answer = page.client().get("/?q=disk")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fq%3Ddisk")
    assert 'value="/?q=disk"' in page.client().get(answer.headers["location"]).text


def test_a_link_from_elsewhere_asks_once_more(page: Page) -> None:
    """A browser keeps a strict cookie back where a foreign page links here: our own page then asks again."""
    answer = page.client().get("/?q=disk", headers={"sec-fetch-site": "cross-site"})
    assert 'content="0; url=/?q=disk"' in answer.text
    assert page.client().get("/?q=disk", headers={"sec-fetch-site": "same-origin"}).status_code == 303


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_at_a_login_link_does_not_use_it(page: Page, method: str) -> None:
    """A mail scanner may follow it fifty times; it works for who presses the button, and for nobody after that."""
    link = f"/login/{page.store.offer_login('root', 'act')}"
    scanner = page.client()
    assert {scanner.request(method, link).status_code for _ in range(50)} == {200}
    browser = page.client()
    answer = browser.post(link)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.get("/").status_code == 200
    assert page.client().post(link).status_code == 410
    assert scanner.get(link).status_code == 410


def test_a_login_link_has_an_end(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute it does not work any more."""
    link = f"/login/{page.store.offer_login('root', 'act')}"
    later = __import__("time").time() + LOGIN_URL + 1
    monkeypatch.setattr("alarm_mw.web.store.time.time", lambda: later)
    assert page.client().get(link).status_code == 410
    assert page.client().post(link).status_code == 410


def test_name_and_password(page: Page) -> None:
    """The right password logs in; a wrong one, and a name that is none, are refused in the same words."""
    wrong = page.client().post("/login", data={"name": "kim", "password": "guess"})
    nobody = page.client().post("/login", data={"name": "nobody", "password": PASSWORD})
    assert wrong.status_code == nobody.status_code == 403
    assert wrong.text == nobody.text
    browser = page.client()
    answer = browser.post("/login", data={"name": "kim", "password": PASSWORD, "next": "/?q=disk"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=disk")
    assert "kim" in browser.get("/").text


def test_a_password_hashed_by_argon2(make_page: Callable[[str], Page]) -> None:
    """The right password logs in, a wrong one does not; to try a name that does not exist takes as long."""
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    browser = make_page(CONFIGURATION.replace("{password}", hashed)).client()
    for name, password, status in (("kim", "guess", 403), ("nobody", PASSWORD, 403), ("kim", PASSWORD, 303)):
        assert browser.post("/login", data={"name": name, "password": password}).status_code == status


def test_passwords_cannot_be_guessed_without_end(page: Page) -> None:
    """After five failures neither the name nor the address is listened to, whatever the password."""
    browser = page.client()
    for _ in range(5):
        assert browser.post("/login", data={"name": "kim", "password": "guess"}).status_code == 403
    assert browser.post("/login", data={"name": "kim", "password": PASSWORD}).status_code == 429
    assert browser.post("/login", data={"name": "other", "password": "guess"}).status_code == 429


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_a_login_leads_to_nobody_else(target: str) -> None:
    """What is no path of ours is not gone to after the login."""
    assert own_path(target) == "/"


def test_a_session_ends(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """By logging out, and a week after it was used last."""
    browser = page.logged_in()
    other = page.logged_in()
    assert browser.post("/logout", data={"csrf": page.csrf(browser)}).status_code == 303
    assert browser.get("/").status_code == 303
    assert other.get("/").status_code == 200
    later = __import__("time").time() + SESSION + 1
    monkeypatch.setattr("alarm_mw.web.store.time.time", lambda: later)
    assert other.get("/").status_code == 303


def test_sessions_survive_a_restart(page: Page) -> None:
    """Another master with the same state directory knows the sessions and the keys of the one before."""
    cookie = page.store.begin_session(Session("kay", "act"))
    again = Store(page.store.path)
    assert again.session(cookie) == Session("kay", "act")
    assert again.sign("a", "b") == page.store.sign("a", "b")
    again.close()


def test_another_password_ends_the_sessions_of_the_former(page: Page) -> None:
    """A user who is removed from the configuration, or has another password there, is logged out."""
    browser = page.client()
    browser.post("/login", data={"name": "kim", "password": PASSWORD})
    assert browser.get("/").status_code == 200
    options = type(page.settings.web)(listen="127.0.0.1:1", allowed_hosts=("testserver",))
    page.app = make_app(Site.of(page.master, options, page.store))
    other = page.client()
    other.cookies = browser.cookies
    assert other.get("/").status_code == 303


def test_roles(page: Page) -> None:
    """Who may only look gets no buttons, and cannot act by hand either; a token acts without a form."""
    name = incident(page)
    reader = page.logged_in("read")
    assert "formaction" not in reader.get("/").text
    assert reader.post(f"/i/{name}/ack", data={"csrf": page.csrf(reader)}).status_code == 403
    assert page.client().post(f"/i/{name}/ack", headers=KARMA).status_code == 403
    assert page.client().post(f"/i/{name}/ack", headers=ROBOT).status_code == 303
    assert page.client().post(f"/i/{name}/ack", headers={"Authorization": "Bearer guess"}).status_code == 401


def test_a_proxy_names_its_users(page: Page) -> None:
    """From its addresses the header counts, from others it does not."""
    header = {"X-Remote-User": "sam"}
    inside = page.client(client=("10.1.2.3", 5000))
    assert "Ack" not in page.client(client=("192.168.0.1", 5000)).get("/", headers=header).text
    incident(page)
    assert "formaction" in inside.get("/", headers=header).text
    assert "formaction" not in inside.get("/", headers={"X-Remote-User": "kim"}).text


def test_another_site_cannot_act(page: Page) -> None:
    """A form of a foreign page is refused: by its origin, by what the browser says, and for want of the token."""
    name = incident(page)
    browser = page.logged_in()
    token = page.csrf(browser)
    for headers, data in (
        ({"Origin": "https://evil.example"}, {"csrf": token}),
        ({"Origin": "null"}, {"csrf": token}),
        ({"Sec-Fetch-Site": "cross-site"}, {"csrf": token}),
        ({"Sec-Fetch-Site": "same-site"}, {"csrf": token}),
        ({"Origin": "http://testserver"}, {}),
        ({"Origin": "http://testserver"}, {"csrf": "0" * 40}),
        ({}, {"csrf": page.csrf(page.logged_in())}),
    ):
        assert browser.post(f"/i/{name}/ack", headers=headers, data=data).status_code == 403
    assert "acknowledged by" not in browser.get("/").text
    assert (
        browser.post(f"/i/{name}/ack", headers={"Origin": "http://testserver"}, data={"csrf": token}).status_code == 303
    )
    assert "acknowledged by" in browser.get("/").text
    login = page.client().post("/login", headers={"Origin": "https://evil.example"}, data={"name": "kim"})
    assert login.status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused(page: Page, host: str) -> None:
    """A name that somebody has pointed here by their DNS shows nothing."""
    answer = page.logged_in().get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "shop" not in answer.text


@pytest.mark.parametrize("host", ["localhost:8420", "127.0.0.1", "[::1]:8420", "192.168.7.7:1", "alarms.example.org"])
def test_our_own_names_are_answered(page: Page, host: str) -> None:
    """This machine's names, addresses and the name of ``base_url`` are."""
    assert page.client().get("/login", headers={"Host": host}).status_code == 200


def test_a_form_has_a_size(page: Page) -> None:
    """Ten megabytes are refused, whether their length is told or not, and before they are read."""
    read = 0

    def endless() -> object:
        nonlocal read
        for _ in range(1000):
            read += 10_000
            yield b"x" * 10_000

    assert page.client().post("/login", content=b"x" * 10_000_000).status_code == 413
    assert page.client().post("/login", content=endless()).status_code == 413  # type: ignore[arg-type]  # a generator


def test_every_answer_forbids_what_pages_do_not_need(page: Page) -> None:
    """No script or style in a page, nothing from other hosts, no frame, and nothing kept by caches."""
    for path in ("/", "/login", "/static/page.css", "/nowhere", "/favicon.svg"):
        headers = page.logged_in().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert page.logged_in().get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/nothing.css", "/static/"])
def test_no_other_file_is_served(page: Page, path: str) -> None:
    """Only what lies in the folder of static files."""
    assert page.logged_in().get(path).status_code == 404


def test_the_log_says_who_did_what(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    """Each action, with the user and the address; a failed login as well."""
    name = incident(page)
    browser = page.logged_in()
    browser.post(f"/i/{name}/ack", data={"csrf": page.csrf(browser)})
    page.client().post("/login", data={"name": "kim\x1b", "password": "guess"})
    assert f"kay from testclient acknowledged incident {name}" in caplog.messages
    assert "a login as kim\\x1b from testclient has failed" in caplog.messages


def test_a_pace_admits_some_at_once_and_then_one_after_the_other() -> None:
    """A turn that has to wait comes after those before it; time without callers brings turns back, up to the burst."""
    now = [0.0]
    pace = Pace(2, 10, lambda: now[0])
    assert [pace.take() for _ in range(4)] == pytest.approx([0.0, 0.0, 0.1, 0.2])
    now[0] = 100.0
    assert [pace.take() for _ in range(3)] == pytest.approx([0.0, 0.0, 0.1])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed-guessed"}, {"Host": "evil.example"}])
def test_strangers_wait_while_others_do_not(page: Page, headers: dict[str, str]) -> None:
    """What strangers ask for beyond a pace waits; whoever is logged in or has a token is answered meanwhile."""
    site = dataclasses.replace(page.site, strangers=Pace(0, 1e-6))
    page.app = make_app(site)
    cookies = {site.authenticator.cookie: page.store.begin_session(Session("kay", "act"))}

    async def scene() -> list[int]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(page.app), base_url="http://testserver", cookies=cookies
        ) as client:
            stranger = httpx.AsyncClient(transport=httpx.ASGITransport(page.app), base_url="http://testserver")
            waiting = asyncio.create_task(stranger.get("/login", headers=headers))
            answers = [await client.get("/"), await client.get("/api/1/rules", headers=ROBOT)]
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await stranger.aclose()
            return [answer.status_code for answer in answers]

    assert asyncio.run(scene()) == [200, 200]
